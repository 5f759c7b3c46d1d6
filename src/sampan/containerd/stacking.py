"""The end of a pull: unpacked layers get their parents and names, all in one transaction, after one sync."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sampan import errors
from sampan.containerd.diff.settle import settle
from sampan.containerd.diff.unpack import Unpacked
from sampan.containerd.layers import Layer, LayerJob, Layers
from sampan.containerd.metadata import Metadata
from sampan.containerd.services import Image, Usage
from sampan.containerd.snapshots.erofs import ErofsSnapshotter
from sampan.containerd.snapshots.native import NativeSnapshotter
from sampan.containerd.snapshots.overlayfs import OverlaySnapshotter


@dataclass(frozen=True, slots=True)
class Placed:
    """A layer with what its job brought: both None when its snapshot was there already."""

    layer: Layer
    job: LayerJob | None
    unpacked: Unpacked | None


def finish(
    metadata: Metadata,
    snapshots: OverlaySnapshotter | NativeSnapshotter,
    layers: Layers,
    placed: Sequence[Placed],
    name: Callable[[], Image],
) -> Image:
    """Commit the snapshots of `placed` (lowest first) and the image that `name` puts. In a thread, one at a time.

    Power loss leaves all of it or nothing: files are synced before the transaction that names them."""
    if isinstance(snapshots, NativeSnapshotter):
        _copy_in_order(snapshots, layers, placed)
        with metadata.transaction(durable=True):
            return name()
    fresh: list[Placed] = []
    lowers: list[str] = []
    for one in placed:
        # Another pull may have named it while this one waited.
        if one.job is None or one.unpacked is None or _exists(snapshots, one.layer.chain):
            lowers = snapshots.layers(one.layer.chain)
            continue
        if isinstance(snapshots, ErofsSnapshotter):
            lowers = snapshots.place(snapshots.upper(one.job.key), lowers, one.unpacked)
        else:
            root = snapshots.upper(one.job.key)
            settle(root, lowers, one.unpacked.applied)
            lowers = [root, *lowers]
        fresh.append(one)
    if fresh:
        snapshots.sync(*(one.job.key for one in fresh if one.job is not None))
    with metadata.transaction(durable=True):
        for one in fresh:
            assert one.job is not None and one.unpacked is not None
            usage = Usage(one.unpacked.applied.size, one.unpacked.applied.inodes)
            snapshots.commit(one.layer.chain, one.job.key, parent=one.layer.parent, usage=usage, synced=True)
        return name()


def _copy_in_order(snapshots: NativeSnapshotter, layers: Layers, placed: Sequence[Placed]) -> None:
    """Each layer over a copy of the one below it, so one after the other."""
    for one in placed:
        if one.job is None or _exists(snapshots, one.layer.chain):
            continue
        snapshots.prepare(one.job.key, one.layer.parent)
        unpacked = layers.unpack_stored(one.layer.blob, snapshots.upper(one.job.key), lambda at: None)
        one.job.verify(unpacked)
        snapshots.commit(one.layer.chain, one.job.key)


def _exists(snapshots: OverlaySnapshotter | NativeSnapshotter, chain: str) -> bool:
    try:
        snapshots.stat(chain)
        return True
    except errors.NotFound:
        return False
