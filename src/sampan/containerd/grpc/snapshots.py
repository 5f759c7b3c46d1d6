"""containerd.services.snapshots.v1. Work on files (a native copy, a sync, counting) is done in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from google.protobuf import empty_pb2
from grpclib import GRPCError, Status

from sampan import errors
from sampan.api.containerd.events import snapshot_pb2 as told
from sampan.api.containerd.services.snapshots.v1 import snapshots_pb2 as api
from sampan.containerd import filters, leasing
from sampan.containerd.gc import Collection
from sampan.containerd.grpc import fields
from sampan.containerd.grpc.publishing import publish
from sampan.containerd.grpc.server import Call
from sampan.containerd.labels import checked_labels, with_values
from sampan.containerd.services import Kind, Mount, SnapshotInfo
from sampan.containerd.stores import ClientSnapshotter, StoreTable

_KINDS: dict[Kind, api.Kind] = {"view": api.VIEW, "active": api.ACTIVE, "committed": api.COMMITTED}
# A client that unpacks names here what it is about to commit: when that is there already, nothing needs to be done.
TARGET_LABEL = "containerd.io/snapshot.ref"
# So many snapshots go into one message of a listing.
_BATCH = 100


class SnapshotsService:
    descriptor = api.DESCRIPTOR.services_by_name["Snapshots"]

    def __init__(self, table: StoreTable) -> None:
        self._table = table
        table.on_collected = self._collected

    def _collected(self, namespace: str, done: Collection) -> None:
        for snapshotter, key in done.snapshots:
            payload = told.SnapshotRemove(key=key, snapshotter=snapshotter)
            publish(self._table.events, namespace, "/snapshot/remove", payload)

    def _store(self, call: Call, name: str) -> ClientSnapshotter:
        return self._table.of(call.namespace).snapshotter(name)

    async def prepare(self, call: Call, request: api.PrepareSnapshotRequest) -> api.PrepareSnapshotResponse:
        found = await self._create(call, request)
        payload = told.SnapshotPrepare(key=request.key, parent=request.parent, snapshotter=request.snapshotter)
        self._tell(call, "prepare", payload)
        return api.PrepareSnapshotResponse(mounts=fields.mount_messages(found))

    async def view(self, call: Call, request: api.ViewSnapshotRequest) -> api.ViewSnapshotResponse:
        """Told to nobody, as in containerd."""
        return api.ViewSnapshotResponse(mounts=fields.mount_messages(await self._create(call, request)))

    async def _create(
        self, call: Call, request: api.PrepareSnapshotRequest | api.ViewSnapshotRequest
    ) -> Sequence[Mount]:
        store = self._store(call, request.snapshotter)
        labels = _labels(request.labels)
        _named(request.key)
        target = labels.get(TARGET_LABEL, "")
        if target and _exists(store, target):
            raise errors.AlreadyExists(f'target snapshot "{target}": already exists')
        self._lease(call, store, request.key)
        create = store.prepare if isinstance(request, api.PrepareSnapshotRequest) else store.view
        try:
            if store.stacks:  # three directories, which takes less than a thread's being woken
                found = create(request.key, request.parent, labels)
            else:
                found = await asyncio.to_thread(create, request.key, request.parent, labels)
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument(f"failed to create snapshot: {error}") from error
        self._table.changed(call.namespace)
        return found

    async def mounts(self, call: Call, request: api.MountsRequest) -> api.MountsResponse:
        found = self._store(call, request.snapshotter).mounts(request.key)
        return api.MountsResponse(mounts=fields.mount_messages(found))

    async def commit(self, call: Call, request: api.CommitSnapshotRequest) -> empty_pb2.Empty:
        """A committed snapshot has the labels given here; those of the active one end with it."""
        store = self._store(call, request.snapshotter)
        labels = _labels(request.labels)
        _named(request.name)
        self._lease(call, store, request.name)
        await asyncio.to_thread(store.commit, request.name, request.key, labels)
        if store.stat(request.name).labels != labels:
            store.relabel(request.name, labels)
        if call.lease:
            self._table.of(call.namespace).leases.remove(call.lease, f"{leasing.SNAPSHOTS}{store.name}", request.key)
        self._table.changed(call.namespace)
        self._tell(call, "commit", told.SnapshotCommit(key=request.key, name=request.name, snapshotter=store.name))
        return empty_pb2.Empty()

    async def remove(self, call: Call, request: api.RemoveSnapshotRequest) -> empty_pb2.Empty:
        self._store(call, request.snapshotter).remove(request.key)
        self._table.changed(call.namespace, removed=True)
        self._tell(call, "remove", told.SnapshotRemove(key=request.key, snapshotter=request.snapshotter))
        return empty_pb2.Empty()

    async def stat(self, call: Call, request: api.StatSnapshotRequest) -> api.StatSnapshotResponse:
        return api.StatSnapshotResponse(info=_message(self._store(call, request.snapshotter).stat(request.key)))

    async def update(self, call: Call, request: api.UpdateSnapshotRequest) -> api.UpdateSnapshotResponse:
        store = self._store(call, request.snapshotter)
        if not request.info.name:
            raise GRPCError(Status.INVALID_ARGUMENT, "invalid argument")
        stored = store.stat(request.info.name)
        given = checked_labels(request.info.labels, "info.Labels")
        labels = fields.masked_labels(stored.labels, given, request.update_mask, f'snapshot "{request.info.name}"')
        changed = store.relabel(request.info.name, labels)
        self._table.changed(call.namespace, removed=True)
        return api.UpdateSnapshotResponse(info=_message(changed))

    async def list(self, call: Call, request: api.ListSnapshotsRequest) -> AsyncIterator[api.ListSnapshotsResponse]:
        wanted = filters.parse(request.filters)
        found = sorted(self._store(call, request.snapshotter).walk(), key=lambda info: info.name)
        messages = [_message(info) for info in found if wanted.matches(_fields(info))]
        for start in range(0, len(messages), _BATCH):
            yield api.ListSnapshotsResponse(info=messages[start : start + _BATCH])

    async def usage(self, call: Call, request: api.UsageRequest) -> api.UsageResponse:
        store = self._store(call, request.snapshotter)
        if store.stat(request.key).kind == "view":
            return api.UsageResponse()  # it has nothing of its own
        found = await asyncio.to_thread(store.usage, request.key)
        return api.UsageResponse(size=found.size, inodes=found.inodes)

    async def cleanup(self, call: Call, request: api.CleanupRequest) -> empty_pb2.Empty:
        """Nothing to do: a removed snapshot's files are already on their way out."""
        self._store(call, request.snapshotter)
        return empty_pb2.Empty()

    def _lease(self, call: Call, store: ClientSnapshotter, key: str) -> None:
        self._table.of(call.namespace).leases.hold(call.lease, f"{leasing.SNAPSHOTS}{store.name}", key)

    def _tell(self, call: Call, verb: str, message: object) -> None:
        publish(self._table.events, call.namespace, f"/snapshot/{verb}", message)


def _fields(info: SnapshotInfo) -> filters.Fields:
    plain: dict[str, str] = {"kind": info.kind, "name": info.name, "parent": info.parent}

    def value(path: Sequence[str]) -> str | None:
        if path[0] == "labels":
            return filters.labels(path[1:], info.labels)
        return plain.get(path[0])

    return value


def _labels(given: Mapping[str, str]) -> dict[str, str]:
    return with_values(checked_labels(given, "info.Labels"))


def _named(key: str) -> None:
    if not key:
        raise errors.Error("bucket name required")  # in the words of containerd's database


def _exists(store: ClientSnapshotter, key: str) -> bool:
    try:
        store.stat(key)
    except errors.NotFound:
        return False
    return True


def _message(info: SnapshotInfo) -> api.Info:
    return api.Info(
        name=info.name,
        parent=info.parent,
        kind=_KINDS[info.kind],
        created_at=fields.timestamp(info.created_at),
        updated_at=fields.timestamp(info.updated_at),
        labels=dict(info.labels),
    )
