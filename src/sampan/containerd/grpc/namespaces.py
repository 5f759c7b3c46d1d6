"""containerd.services.namespaces.v1."""

from __future__ import annotations

from google.protobuf import empty_pb2
from grpclib import GRPCError, Status

from sampan.api.containerd.events import namespace_pb2 as told
from sampan.api.containerd.services.namespaces.v1 import namespace_pb2 as api
from sampan.containerd.grpc import fields
from sampan.containerd.grpc.publishing import publish
from sampan.containerd.grpc.server import Call
from sampan.containerd.labels import checked_labels
from sampan.containerd.namespaces import Namespace
from sampan.containerd.stores import StoreTable


class NamespacesService:
    descriptor = api.DESCRIPTOR.services_by_name["Namespaces"]

    def __init__(self, table: StoreTable) -> None:
        self._table = table
        self._namespaces = table.namespaces

    async def get(self, call: Call, request: api.GetNamespaceRequest) -> api.GetNamespaceResponse:
        return api.GetNamespaceResponse(namespace=_message(self._namespaces.look(request.name)))

    async def list(self, call: Call, request: api.ListNamespacesRequest) -> api.ListNamespacesResponse:
        return api.ListNamespacesResponse(namespaces=[_message(one) for one in self._namespaces.list()])

    async def create(self, call: Call, request: api.CreateNamespaceRequest) -> api.CreateNamespaceResponse:
        given = Namespace(request.namespace.name, checked_labels(request.namespace.labels, "namespace.Labels"))
        self._namespaces.create(given)
        payload = told.NamespaceCreate(name=given.name, labels=dict(given.labels))
        publish(self._table.events, given.name, "/namespaces/create", payload)
        return api.CreateNamespaceResponse(namespace=_message(given))

    async def update(self, call: Call, request: api.UpdateNamespaceRequest) -> api.UpdateNamespaceResponse:
        """Told are the labels that were given, and not those that are there now."""
        for path in request.update_mask.paths:
            if not path.startswith("labels."):
                raise GRPCError(Status.INVALID_ARGUMENT, f'cannot update "{path}" field')
        stored = self._namespaces.look(request.namespace.name)
        given = checked_labels(request.namespace.labels, "namespace.Labels")
        changed = self._namespaces.relabel(
            stored.name, fields.masked_labels(stored.labels, given, request.update_mask, "namespace")
        )
        payload = told.NamespaceUpdate(name=changed.name, labels=given)
        publish(self._table.events, changed.name, "/namespaces/update", payload)
        return api.UpdateNamespaceResponse(namespace=_message(changed))

    async def delete(self, call: Call, request: api.DeleteNamespaceRequest) -> empty_pb2.Empty:
        self._namespaces.delete(request.name)
        publish(self._table.events, request.name, "/namespaces/delete", told.NamespaceDelete(name=request.name))
        return empty_pb2.Empty()


def _message(one: Namespace) -> api.Namespace:
    return api.Namespace(name=one.name, labels=dict(one.labels))
