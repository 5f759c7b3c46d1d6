"""Every table of the shim against the .proto of the same message."""

from __future__ import annotations

import pytest

from sampan.api.containerd.events import task_pb2 as events
from sampan.api.containerd.runtime.bootstrap.v1 import bootstrap_pb2
from sampan.api.containerd.runtime.task.v2 import shim_pb2 as v2
from sampan.api.containerd.runtime.task.v3 import shim_pb2 as v3
from sampan.api.containerd.services.ttrpc.events.v1 import events_pb2 as forward
from sampan.api.containerd.types import introspection_pb2
from sampan.api.containerd.types.runc.options import oci_pb2
from sampan.api.containerd.types.task import task_pb2
from sampan.shim import messages

CASES = [
    *((name, table, getattr(module, name)) for module in (v2, v3) for row in messages.METHODS.values()
      for name, table in (row[:2], row[2:]) if name),
    *((name, table, getattr(events, name)) for name, table in messages.EVENTS.values()),
    ("ForwardRequest", messages.FORWARD, forward.ForwardRequest),
    ("BootstrapParams", messages.BOOTSTRAP, bootstrap_pb2.BootstrapParams),
    ("BootstrapResult", messages.BOOTSTRAP_RESULT, bootstrap_pb2.BootstrapResult),
    ("RuntimeInfo", messages.RUNTIME_INFO, introspection_pb2.RuntimeInfo),
    ("Options", messages.OPTIONS, oci_pb2.Options),
    ("CheckpointOptions", messages.CHECKPOINT_OPTIONS, oci_pb2.CheckpointOptions),
    ("ProcessDetails", messages.PROCESS_DETAILS, oci_pb2.ProcessDetails),
]  # fmt: skip
KINDS = {"string": (9,), "bytes": (12,), "bool": (8,), "int": (3, 5, 14), "uint": (4, 13)}


@pytest.mark.parametrize(("name", "table", "message"), CASES, ids=[f"{case[2].__module__}.{case[0]}" for case in CASES])
def test_a_table_has_the_fields_of_its_message(name, table, message) -> None:
    compare(table, message.DESCRIPTOR)


def compare(table, descriptor) -> None:
    assert {number: entry[0] for number, entry in table.items()} == {
        field.number: field.name for field in descriptor.fields
    }
    for number, (_, kind) in table.items():
        field = descriptor.fields_by_number[number]
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        assert (kind == "map") == is_map, field.full_name
        if is_map:
            continue
        # protobuf 6 has dropped what protobuf 4 has
        repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED
        assert isinstance(kind, list) == repeated, field.full_name
        inner = kind[0] if isinstance(kind, list) else kind
        if isinstance(inner, dict):
            compare(inner, field.message_type)
        else:
            assert field.type in KINDS[inner], field.full_name


def test_every_method_of_the_service_has_its_row() -> None:
    for module in (v2, v3):
        service = module.DESCRIPTOR.services_by_name["Task"]
        assert service.full_name in messages.TASK_SERVICES
        assert {
            method.name: (method.input_type.name, method.output_type.name) for method in service.methods
        } == {name: (row[0], row[2] or "Empty") for name, row in messages.METHODS.items()}  # fmt: skip


def test_statuses_are_the_enumeration_s() -> None:
    assert {name.upper(): number for name, number in messages.STATUSES.items()}.items() <= dict(
        task_pb2.Status.items()
    ).items()
