"""containerd.services.leases.v1."""

from __future__ import annotations

import secrets
import time

from google.protobuf import empty_pb2

from sampan.api.containerd.services.leases.v1 import leases_pb2 as api
from sampan.containerd import filters
from sampan.containerd.grpc import fields
from sampan.containerd.grpc.server import Call
from sampan.containerd.labels import with_values
from sampan.containerd.leasing import Lease
from sampan.containerd.stores import StoreTable


class LeasesService:
    descriptor = api.DESCRIPTOR.services_by_name["Leases"]

    def __init__(self, table: StoreTable) -> None:
        self._table = table

    async def create(self, call: Call, request: api.CreateRequest) -> api.CreateResponse:
        name = request.id or f"{time.time_ns() % 10**9:d}-{secrets.token_hex(2)}"
        made = self._table.of(call.namespace).leases.create(name, with_values(request.labels))
        self._table.changed(call.namespace)
        return api.CreateResponse(lease=_message(made))

    async def delete(self, call: Call, request: api.DeleteRequest) -> empty_pb2.Empty:
        self._table.of(call.namespace).leases.delete(request.id)
        self._table.changed(call.namespace, removed=True)
        if request.sync:
            await self._table.collect(call.namespace)
        return empty_pb2.Empty()

    async def list(self, call: Call, request: api.ListRequest) -> api.ListResponse:
        wanted = filters.parse(request.filters)
        found = self._table.of(call.namespace).leases.list()
        return api.ListResponse(leases=[_message(one) for one in found if wanted.matches(one.field)])

    async def add_resource(self, call: Call, request: api.AddResourceRequest) -> empty_pb2.Empty:
        self._table.of(call.namespace).leases.add(request.id, request.resource.type, request.resource.id)
        return empty_pb2.Empty()

    async def delete_resource(self, call: Call, request: api.DeleteResourceRequest) -> empty_pb2.Empty:
        self._table.of(call.namespace).leases.remove(request.id, request.resource.type, request.resource.id)
        self._table.changed(call.namespace, removed=True)
        return empty_pb2.Empty()

    async def list_resources(self, call: Call, request: api.ListResourcesRequest) -> api.ListResourcesResponse:
        found = self._table.of(call.namespace).leases.resources(request.id)
        return api.ListResourcesResponse(resources=[api.Resource(type=kind, id=ref) for kind, ref in found])


def _message(lease: Lease) -> api.Lease:
    return api.Lease(id=lease.id, created_at=fields.timestamp(lease.created_at), labels=dict(lease.labels))
