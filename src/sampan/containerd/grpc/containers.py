"""containerd.services.containers.v1."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from google.protobuf import empty_pb2
from grpclib import GRPCError, Status

from sampan.api.containerd.events import container_pb2 as told
from sampan.api.containerd.services.containers.v1 import containers_pb2 as api
from sampan.containerd import filters
from sampan.containerd.containers import Container, Payload
from sampan.containerd.grpc import fields
from sampan.containerd.grpc.publishing import publish
from sampan.containerd.grpc.server import Call
from sampan.containerd.stores import StoreTable


class ContainersService:
    descriptor = api.DESCRIPTOR.services_by_name["Containers"]

    def __init__(self, table: StoreTable) -> None:
        self._table = table

    async def get(self, call: Call, request: api.GetContainerRequest) -> api.GetContainerResponse:
        found = self._table.of(call.namespace).containers.get(request.id)
        return api.GetContainerResponse(container=_message(found))

    async def list(self, call: Call, request: api.ListContainersRequest) -> api.ListContainersResponse:
        return api.ListContainersResponse(containers=self._matching(call, request))

    async def list_stream(
        self, call: Call, request: api.ListContainersRequest
    ) -> AsyncIterator[api.ListContainerMessage]:
        for found in self._matching(call, request):
            yield api.ListContainerMessage(container=found)

    def _matching(self, call: Call, request: api.ListContainersRequest) -> Iterator[api.Container]:
        wanted = filters.parse(request.filters)
        for found in self._table.of(call.namespace).containers.list():
            if wanted.matches(found.field):
                yield _message(found)

    async def create(self, call: Call, request: api.CreateContainerRequest) -> api.CreateContainerResponse:
        made = self._table.of(call.namespace).containers.create(_container(request.container))
        self._table.changed(call.namespace)
        payload = told.ContainerCreate(id=made.id, image=made.image)
        payload.runtime.name = made.runtime
        if made.options is not None:
            payload.runtime.options.CopyFrom(fields.any_message(made.options))
        publish(self._table.events, call.namespace, "/containers/create", payload)
        return api.CreateContainerResponse(container=_message(made))

    async def update(self, call: Call, request: api.UpdateContainerRequest) -> api.UpdateContainerResponse:
        if not request.container.id:
            raise GRPCError(Status.INVALID_ARGUMENT, "Container.ID required")
        paths = list(request.update_mask.paths)
        changed = self._table.of(call.namespace).containers.update(_container(request.container), paths)
        self._table.changed(call.namespace, removed=True)
        payload = told.ContainerUpdate(
            id=changed.id, image=changed.image, labels=dict(changed.labels), snapshot_key=changed.snapshot_key
        )
        publish(self._table.events, call.namespace, "/containers/update", payload)
        return api.UpdateContainerResponse(container=_message(changed))

    async def delete(self, call: Call, request: api.DeleteContainerRequest) -> empty_pb2.Empty:
        self._table.of(call.namespace).containers.delete(request.id)
        self._table.changed(call.namespace, removed=True)
        publish(self._table.events, call.namespace, "/containers/delete", told.ContainerDelete(id=request.id))
        return empty_pb2.Empty()


def _message(one: Container) -> api.Container:
    message = api.Container(
        id=one.id,
        labels=dict(one.labels),
        image=one.image,
        runtime=api.Container.Runtime(name=one.runtime, options=fields.any_message(one.options)),
        spec=fields.any_message(one.spec),
        snapshotter=one.snapshotter,
        snapshot_key=one.snapshot_key,
        created_at=fields.timestamp(one.created_at),
        updated_at=fields.timestamp(one.updated_at),
        sandbox=one.sandbox,
    )
    for key, value in one.extensions.items():
        message.extensions[key].CopyFrom(fields.any_message(value))
    return message


def _container(message: api.Container) -> Container:
    extensions = {key: Payload(value.type_url, value.value) for key, value in message.extensions.items()}
    return Container(
        id=message.id,
        labels=dict(message.labels),
        image=message.image,
        runtime=message.runtime.name,
        options=fields.present(message.runtime, "options"),
        spec=fields.present(message, "spec"),
        snapshotter=message.snapshotter,
        snapshot_key=message.snapshot_key,
        extensions=extensions,
        sandbox=message.sandbox,
    )
