"""D-Bus messages: the bytes are those that libsystemd writes, cut anywhere, and garbage is one error."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import DataLoss, InvalidArgument
from sampan.runtime.cgroup import dbus
from sampan.runtime.cgroup.dbus import Message, Reader

START = Message(
    dbus.METHOD_CALL,
    path="/org/freedesktop/systemd1",
    interface="org.freedesktop.systemd1.Manager",
    member="StartTransientUnit",
    destination="org.freedesktop.systemd1",
    signature="ssa(sv)a(sa(sv))",
    body=["a.scope", "replace", [("PIDs", ("au", [17])), ("DeviceAllow", ("a(ss)", [("/dev/null", "rw")]))], []],
)
REMOVED = Message(
    dbus.SIGNAL,
    path="/org/freedesktop/systemd1",
    interface="org.freedesktop.systemd1.Manager",
    member="JobRemoved",
    sender=":1.1",
    signature="uoss",
    body=[7, "/org/freedesktop/systemd1/job/7", "a.scope", "done"],
)
BYTES = dbus.encode(START, 1) + dbus.encode(REMOVED, 2)


def plain(message: Message) -> dict[str, Any]:
    return {name: getattr(message, name) for name in Message.__slots__}


def messages(*chunks: bytes) -> list[dict[str, Any]]:
    reader, found = Reader(), []
    for chunk in chunks:
        reader.feed(chunk)
        while (message := reader.next_message()) is not None:
            found.append(plain(message))
    return found


def test_a_message_is_laid_out_as_the_specification_draws_it() -> None:
    made = dbus.encode(Message(dbus.METHOD_CALL, path="/", member="Hi", signature="yu", body=[1, 2]), 9)
    assert made == (
        b"l\1\0\1" + struct.pack("<III", 8, 9, 40)
        + b"\1\1o\0" + struct.pack("<I", 1) + b"/\0" + bytes(6)
        + b"\3\1s\0" + struct.pack("<I", 2) + b"Hi\0" + bytes(5)
        + b"\x08\1g\0\2yu\0" + b"\1\0\0\0\2\0\0\0"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("signature", "value", "data"),
    [
        ("b", True, b"\1\0\0\0"),
        ("s", "ä", b"\2\0\0\0\xc3\xa4\0"),
        ("g", "as", b"\2as\0"),
        ("ay", b"\1\2", b"\2\0\0\0\1\2"),
        ("at", [5], b"\x08\0\0\0" + bytes(4) + struct.pack("<Q", 5)),
        ("at", [], bytes(8)),
        ("a{sq}", {"x": 3}, b"\x08\0\0\0" + bytes(4) + b"\1\0\0\0x\0\3\0"),
        ("v", ("i", -1), b"\1i\0\0\xff\xff\xff\xff"),
        ("(ynd)", (1, -2, 0.5), b"\1\0\xfe\xff" + bytes(4) + struct.pack("<d", 0.5)),
    ],
)
def test_each_type_has_its_bytes(signature: str, value: Any, data: bytes) -> None:
    assert dbus.marshal(signature, [value]) == data
    whole = dbus.encode(Message(dbus.METHOD_RETURN, reply_serial=1, signature=signature, body=[value]), 1)
    assert messages(whole)[0]["body"] == [value]


def test_a_conversation_cut_at_every_byte_is_the_same_conversation() -> None:
    expected = [{**plain(START), "serial": 1}, {**plain(REMOVED), "serial": 2}]
    for cut in range(len(BYTES) + 1):
        assert messages(BYTES[:cut], BYTES[cut:]) == expected, f"cut at {cut}"
    assert messages(*(BYTES[at : at + 1] for at in range(len(BYTES)))) == expected


def test_a_peer_may_write_big_endian_and_fields_nobody_knows() -> None:
    fields = struct.pack(">B", 9) + b"\1u\0" + struct.pack(">I", 3) + struct.pack(">B", 5) + b"\1u\0\0\0\0\x07"
    body = struct.pack(">I", 2) + b"ok\0"
    fields += b"\x08\1g\0\1s\0"
    data = b"B\2\0\1" + struct.pack(">III", len(body), 4, len(fields)) + fields + bytes(-len(fields) % 8) + body
    (found,) = messages(data)
    assert (found["kind"], found["serial"], found["reply_serial"], found["body"]) == (2, 4, 7, ["ok"])


@pytest.mark.parametrize("signature", ["a", "(", "()", "{sv}", "a{vs}", "a{s}", "z", "a" * 40 + "y", "(s", "a{sss}"])
def test_what_is_no_signature_is_refused(signature: str) -> None:
    with pytest.raises(InvalidArgument):
        dbus.complete_types(signature)


@pytest.mark.parametrize(
    ("signature", "body"),
    [("y", [256]), ("s", [5]), ("u", [-1]), ("(ss)", [("a",)]), ("v", [("ss", "a")]), ("s", []), ("au", ["x"])],
)
def test_a_value_of_another_type_is_refused(signature: str, body: list[Any]) -> None:
    with pytest.raises(InvalidArgument):
        dbus.encode(Message(dbus.METHOD_CALL, path="/", member="M", signature=signature, body=body), 1)


def test_a_length_that_nobody_sends_is_not_waited_for() -> None:
    reader = Reader()
    reader.feed(b"l\1\0\1" + struct.pack("<III", 1 << 31, 1, 0))
    with pytest.raises(DataLoss):
        reader.next_message()


@given(st.binary(max_size=400), st.integers(0, len(BYTES)))
def test_garbage_is_a_message_or_one_error(noise: bytes, place: int) -> None:
    for data in (noise, b"l\1\0\1" + noise, BYTES[:place] + noise + BYTES[place + len(noise) :]):
        try:
            messages(data)
        except DataLoss:
            pass


_VALUES = st.one_of(
    st.tuples(st.just("s"), st.text(st.characters(exclude_characters="\0", codec="utf-8"))),
    st.tuples(st.just("t"), st.integers(0, (1 << 64) - 1)),
    st.tuples(st.just("ai"), st.lists(st.integers(-(1 << 31), (1 << 31) - 1))),
    st.tuples(st.just("(yb)"), st.tuples(st.integers(0, 255), st.booleans())),
)


@given(st.dictionaries(st.text("abc"), st.recursive(_VALUES, lambda inner: st.tuples(st.just("v"), inner))))
def test_what_is_written_is_read(value: dict[str, Any]) -> None:
    data = dbus.encode(Message(dbus.SIGNAL, path="/", member="M", signature="a{sv}", body=[value]), 1)
    assert messages(data)[0]["body"] == [value]
