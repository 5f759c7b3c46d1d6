"""containerd.services.diff.v1: a layer blob into a snapshot's mounts, and what two snapshots differ in into a blob."""

from __future__ import annotations

import asyncio
import os
import secrets

from sampan import errors
from sampan.api.containerd.services.diff.v1 import diff_pb2 as api
from sampan.containerd import leasing
from sampan.containerd.diff import layer_blob
from sampan.containerd.diff.settle import settle
from sampan.containerd.diff.unpack import Unpacked
from sampan.containerd.diff.unpackers import WORTH, Unpackers
from sampan.containerd.grpc import fields
from sampan.containerd.grpc.server import Call
from sampan.containerd.labels import checked_labels
from sampan.containerd.services import Mount
from sampan.containerd.snapshots.erofs import ErofsSnapshotter
from sampan.containerd.snapshots.overlayfs import may_set_trusted
from sampan.containerd.stores import Stores, StoreTable
from sampan.oci.image import FOREIGN_LAYER_TYPES, LAYER_TYPES, Descriptor

_UNCOMPRESSED = "application/vnd.oci.image.layer.v1.tar"
DEFAULT_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


# Seconds within which a client that applies layers one after the other comes with the next.
_NEXT_LAYER = 1.0


class DiffService:
    descriptor = api.DESCRIPTOR.services_by_name["Diff"]

    def __init__(self, table: StoreTable) -> None:
        self._table = table
        self._unpackers = Unpackers()
        self._applying = 0
        # Ends the process that unpacks when the next layer does not follow the last one.
        self._resting: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
        await asyncio.to_thread(self._unpackers.rest)

    async def apply(self, call: Call, request: api.ApplyRequest) -> api.ApplyResponse:
        """The descriptor of the uncompressed layer: its digest is the DiffID."""
        layer, stores = request.diff, self._table.of(call.namespace)
        if not stores.content.has(layer.digest):
            text = f"failed to get reader from content store: content digest {layer.digest}: not found"
            raise errors.NotFound(text)
        # Encryption and other processing stages are told by the type.
        if layer.media_type not in LAYER_TYPES | FOREIGN_LAYER_TYPES:
            raise errors.Error(f"failed to get stream processor for {layer.media_type}: no processor for media-type")
        mounts = fields.mounts(request.mounts)
        self._expect(stores.content.info(layer.digest).size)
        try:
            unpacked = await asyncio.to_thread(self._apply, stores, layer.digest, mounts)
        finally:
            self._applied()
        applied = Descriptor(_UNCOMPRESSED, unpacked.diff_id, unpacked.size)
        return api.ApplyResponse(applied=fields.descriptor_message(applied))

    def _expect(self, size: int) -> None:
        self._applying += 1
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if size >= WORTH:
            self._unpackers.begin()

    def _applied(self) -> None:
        self._applying -= 1
        if not self._applying:
            self._resting = asyncio.get_running_loop().call_later(_NEXT_LAYER, self._unpackers.rest)

    def _apply(self, stores: Stores, digest: str, mounts: list[Mount]) -> Unpacked:
        """In a thread. Our own snapshots are directories, so nothing needs to be mounted."""
        root, lowers, stacks = target(mounts)
        indexed = stores.snapshotters.get(ErofsSnapshotter.name)
        with stores.content.open(digest) as file:
            if isinstance(indexed, ErofsSnapshotter) and indexed.may_index(root):
                unpacked = indexed.unpack(file, root)
                indexed.place(root, lowers, unpacked)
                return unpacked
            size, userxattr = os.fstat(file.fileno()).st_size, stacks and not may_set_trusted()
            unpacked = self._unpackers.unpack(
                file, size, root, os.path.dirname(root), stacks=stacks, userxattr=userxattr
            )
        if stacks:
            settle(root, lowers, unpacked.applied)
        return unpacked

    async def diff(self, call: Call, request: api.DiffRequest) -> api.DiffResponse:
        stores = self._table.of(call.namespace)
        media_type = request.media_type or DEFAULT_TYPE
        left, right = fields.mounts(request.left), fields.mounts(request.right)
        ref = request.ref or f"diff-{secrets.token_hex(8)}"
        labels = checked_labels(request.labels, "info.Labels")
        if call.lease:
            stores.leases.add(call.lease, leasing.INGESTS, ref)
        made = await asyncio.to_thread(layer_blob.write, stores.content, left, right, media_type, ref, labels)
        if call.lease:
            stores.leases.add(call.lease, leasing.CONTENT, made.digest)
        self._table.changed(call.namespace)
        return api.DiffResponse(diff=fields.descriptor_message(made))


def target(mounts: list[Mount]) -> tuple[str, list[str], bool]:
    """(directory to write to, directories below it nearest first, whether it is an overlay's upper one).

    Unimplemented for mounts that are no snapshot of ours."""
    if len(mounts) == 1 and mounts[0].type == "bind":
        return mounts[0].source, [], False
    if len(mounts) == 1 and mounts[0].type == "overlay":
        upper, lowers = layer_blob.overlay_layers(mounts[0].options)
        if upper:
            return upper, lowers, True
    kinds = ", ".join(mount.type for mount in mounts) or "none"
    raise errors.Unimplemented(f"cannot apply a layer to mounts of type {kinds}: not implemented")
