"""The table codec against Google's library: the same bytes, the same values, and its own error for anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.containerd.runtime.task.v2 import shim_pb2
from sampan.api.containerd.types.cgroups.v1 import metrics_pb2
from sampan.wire import protobuf
from sampan.wire.protobuf import BOOL, BYTES, INT, MAP, STRING, UINT

MOUNT = {1: ("type", STRING), 2: ("source", STRING), 3: ("target", STRING), 4: ("options", [STRING])}
ANY = {1: ("type_url", STRING), 2: ("value", BYTES)}
CREATE = {
    1: ("id", STRING),
    2: ("bundle", STRING),
    3: ("rootfs", [MOUNT]),
    4: ("terminal", BOOL),
    10: ("options", ANY),
}
UPDATE = {1: ("id", STRING), 2: ("resources", ANY), 3: ("annotations", MAP)}
CPU_USAGE = {1: ("total", UINT), 4: ("per_cpu", [UINT])}


def test_a_message_has_the_bytes_of_the_library() -> None:
    value = {
        "id": "c1",
        "bundle": "/run/ü",
        "rootfs": [{"type": "overlay", "source": "overlay", "options": ["lowerdir=a:b", "ro"]}, {}],
        "terminal": True,
        "options": {"type_url": "containerd.runc.v1.Options", "value": b"\x00\xff"},
    }
    made = shim_pb2.CreateTaskRequest.FromString(protobuf.encode(CREATE, value))
    assert (made.id, made.bundle, made.terminal) == ("c1", "/run/ü", True)
    assert [list(mount.options) for mount in made.rootfs] == [["lowerdir=a:b", "ro"], []]
    assert made.options.value == b"\x00\xff"
    assert made.SerializeToString() == protobuf.encode(CREATE, value)


def test_the_library_s_bytes_are_understood_and_unknown_fields_passed_over() -> None:
    made = shim_pb2.CreateTaskRequest(id="x", stdin="/in", stdout="/out", checkpoint="no field of the table")
    found = protobuf.decode(CREATE, made.SerializeToString())
    assert found == {"id": "x", "bundle": "", "rootfs": [], "terminal": False, "options": None}


def test_maps_and_packed_numbers() -> None:
    made = shim_pb2.UpdateTaskRequest(id="x", annotations={"a": "1", "b": ""})
    assert protobuf.decode(UPDATE, made.SerializeToString())["annotations"] == {"a": "1", "b": ""}
    assert shim_pb2.UpdateTaskRequest.FromString(protobuf.encode(UPDATE, {"annotations": {"k": "v"}})).annotations == {
        "k": "v"
    }
    usage = metrics_pb2.CPUUsage(total=2**64 - 1, per_cpu=[1, 300, 2**40])
    assert protobuf.decode(CPU_USAGE, usage.SerializeToString()) == {"total": 2**64 - 1, "per_cpu": [1, 300, 2**40]}
    unpacked = protobuf.encode(CPU_USAGE, {"per_cpu": [5, 0, 7]})
    assert list(metrics_pb2.CPUUsage.FromString(unpacked).per_cpu) == [5, 0, 7]


def test_a_name_that_is_no_field_is_refused() -> None:
    with pytest.raises(KeyError, match="bundel"):
        protobuf.encode(CREATE, {"bundel": "/x"})


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_number_comes_back(number: int) -> None:
    table = {1: ("n", INT)}
    assert protobuf.decode(table, protobuf.encode(table, {"n": number})) == {"n": number}


@given(st.binary(max_size=200))
def test_garbage_is_read_or_refused_with_the_codec_s_own_error(data: bytes) -> None:
    for table in (CREATE, UPDATE, CPU_USAGE):
        try:
            found = protobuf.decode(table, data)
        except protobuf.ProtobufError:
            continue
        assert set(found) == {name for name, _ in table.values()}


@pytest.mark.parametrize(
    "data",
    [b"\x0a", b"\x0a\x05abc", b"\x80", b"\xff" * 11, b"\x00\x01", b"\x0b", b"\x08\x01", b"\x0d\x01\x02"],
    ids=["no length", "cut off", "half a number", "endless", "field 0", "group", "number for text", "cut fixed32"],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(protobuf.ProtobufError):
        protobuf.decode(CREATE, data)
