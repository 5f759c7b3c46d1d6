"""containerd.services.sandbox.v1: records of sandboxes, and the controllers that would run them: there is none.

containerd's own gRPC controller knows those of its CRI plugin and of shims with a sandbox API; a client that names
neither (`ctr sandboxes run`) is refused there in the same words.
"""

from __future__ import annotations

from typing import Any, NoReturn

from google.protobuf import any_pb2
from grpclib import GRPCError, Status

from sampan import errors
from sampan.api.containerd.services.sandbox.v1 import sandbox_pb2 as api
from sampan.api.containerd.types import sandbox_pb2
from sampan.containerd import filters, sandboxes
from sampan.containerd.containers import Payload
from sampan.containerd.grpc import fields
from sampan.containerd.grpc.server import Call
from sampan.containerd.sandboxes import Sandbox, Sandboxes
from sampan.containerd.stores import StoreTable


class SandboxStoreService:
    descriptor = api.DESCRIPTOR.services_by_name["Store"]

    def __init__(self, table: StoreTable) -> None:
        self._table = table
        sandboxes.create_table(table.metadata)

    async def create(self, call: Call, request: api.StoreCreateRequest) -> api.StoreCreateResponse:
        made = self._of(call).create(_sandbox(request.sandbox))
        self._table.changed(call.namespace)
        return api.StoreCreateResponse(sandbox=_message(made))

    async def update(self, call: Call, request: api.StoreUpdateRequest) -> api.StoreUpdateResponse:
        changed = self._of(call).update(_sandbox(request.sandbox), list(request.fields))
        return api.StoreUpdateResponse(sandbox=_message(changed))

    async def delete(self, call: Call, request: api.StoreDeleteRequest) -> api.StoreDeleteResponse:
        self._of(call).delete(request.sandbox_id)
        return api.StoreDeleteResponse()

    async def list(self, call: Call, request: api.StoreListRequest) -> api.StoreListResponse:
        wanted = filters.parse(request.filters)
        found = [_message(one) for one in self._of(call).list() if wanted.matches(one.field)]
        return api.StoreListResponse(list=found)

    async def get(self, call: Call, request: api.StoreGetRequest) -> api.StoreGetResponse:
        return api.StoreGetResponse(sandbox=_message(self._of(call).get(request.sandbox_id)))

    def _of(self, call: Call) -> Sandboxes:
        return Sandboxes(self._table.metadata, call.namespace)


class SandboxControllerService:
    """Each method says that there is no such controller."""

    descriptor = api.DESCRIPTOR.services_by_name["Controller"]

    async def create(self, call: Call, request: api.ControllerCreateRequest) -> NoReturn:
        _refuse(request.sandboxer)

    async def start(self, call: Call, request: api.ControllerStartRequest) -> NoReturn:
        _refuse(request.sandboxer)

    async def stop(self, call: Call, request: api.ControllerStopRequest) -> NoReturn:
        _refuse(request.sandboxer)

    async def wait(self, call: Call, request: api.ControllerWaitRequest) -> NoReturn:
        _refuse(request.sandboxer)

    async def status(self, call: Call, request: api.ControllerStatusRequest) -> NoReturn:
        _refuse(request.sandboxer)

    async def shutdown(self, call: Call, request: api.ControllerShutdownRequest) -> NoReturn:
        _refuse(request.sandboxer)

    async def metrics(self, call: Call, request: api.ControllerMetricsRequest) -> NoReturn:
        _refuse(request.sandboxer)

    async def update(self, call: Call, request: api.ControllerUpdateRequest) -> NoReturn:
        _refuse(request.sandboxer)


def _refuse(name: str) -> NoReturn:
    """In containerd's words, whose kind stands in front here."""
    if not name:
        raise GRPCError(Status.INVALID_ARGUMENT, "invalid argument: sandbox controller name can not be empty")
    raise GRPCError(Status.NOT_FOUND, f"not found: failed to get sandbox controller by {name}")


def _sandbox(message: sandbox_pb2.Sandbox) -> Sandbox:
    if not message.sandbox_id:
        raise errors.InvalidArgument("sandbox ID must not be empty")
    return Sandbox(
        id=message.sandbox_id,
        runtime=message.runtime.name,
        options=fields.payload(message.runtime.options),
        spec=fields.payload(message.spec),
        labels=dict(message.labels),
        extensions={key: Payload(value.type_url, value.value) for key, value in message.extensions.items()},
        sandboxer=message.sandboxer,
    )


def _message(one: Sandbox) -> sandbox_pb2.Sandbox:
    message = sandbox_pb2.Sandbox(
        sandbox_id=one.id,
        runtime=sandbox_pb2.Sandbox.Runtime(name=one.runtime, options=fields.any_message(one.options)),
        spec=fields.any_message(one.spec),
        labels=dict(one.labels),
        created_at=fields.timestamp(one.created_at),
        updated_at=fields.timestamp(one.updated_at),
        sandboxer=one.sandboxer,
    )
    for key, value in one.extensions.items():
        found: Any = any_pb2.Any(type_url=value.type_url, value=value.value)
        message.extensions[key].CopyFrom(found)
    return message
