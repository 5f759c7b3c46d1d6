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
from sampan.containerd.diff.unpack import Unpacked, unpack
from sampan.containerd.grpc import fields
from sampan.containerd.grpc.server import Call
from sampan.containerd.labels import checked_labels
from sampan.containerd.services import Mount
from sampan.containerd.snapshots.erofs import ErofsSnapshotter
from sampan.containerd.snapshots.overlayfs import may_set_trusted
from sampan.containerd.stores import Stores, StoreTable
from sampan.oci.image import LAYER_TYPES, Descriptor

_UNCOMPRESSED = "application/vnd.oci.image.layer.v1.tar"
DEFAULT_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


class DiffService:
    descriptor = api.DESCRIPTOR.services_by_name["Diff"]

    def __init__(self, table: StoreTable) -> None:
        self._table = table

    async def apply(self, call: Call, request: api.ApplyRequest) -> api.ApplyResponse:
        """The descriptor of the uncompressed layer: its digest is the DiffID."""
        layer = fields.descriptor(request.diff)
        # Encryption and other processing stages are told by the type.
        if layer.media_type.split(";")[0] not in LAYER_TYPES:
            raise errors.Unimplemented(f"no processor for media-type: {layer.media_type}: not implemented")
        stores = self._table.of(call.namespace)
        mounts = fields.mounts(request.mounts)
        unpacked = await asyncio.to_thread(_apply, stores, layer, mounts)
        applied = Descriptor(_UNCOMPRESSED, unpacked.diff_id, unpacked.size)
        return api.ApplyResponse(applied=fields.descriptor_message(applied))

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


def _apply(stores: Stores, layer: Descriptor, mounts: list[Mount]) -> Unpacked:
    """In a thread. Our own snapshots are directories, so nothing needs to be mounted."""
    root, lowers, stacks = target(mounts)
    indexed = stores.snapshotters.get(ErofsSnapshotter.name)
    with stores.content.open(layer.digest) as file:
        if isinstance(indexed, ErofsSnapshotter) and indexed.may_index(root):
            unpacked = indexed.unpack(file, root)
            indexed.place(root, lowers, unpacked)
            return unpacked
        unpacked = unpack(file, root, os.path.dirname(root), stacks=stacks, userxattr=stacks and not may_set_trusted())
    if stacks:
        settle(root, lowers, unpacked.applied)
    return unpacked


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
