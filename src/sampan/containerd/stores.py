"""The stores of one containerd namespace, and the table of all of them: what the gRPC edge works on.

The engine's own namespace has the engine's own stores; those of other namespaces are opened on the same database and
directories when they are first asked for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sampan import errors
from sampan.containerd import containers, gc, identifiers
from sampan.containerd.containers import Containers
from sampan.containerd.content import ContentStore
from sampan.containerd.core import ContainerCore
from sampan.containerd.events import Exchange
from sampan.containerd.images import ImageStore
from sampan.containerd.leases import Leases
from sampan.containerd.leasing import Leasing
from sampan.containerd.namespaces import Namespaces
from sampan.containerd.services import SnapshotInfo, Snapshotter
from sampan.containerd.snapshots import overlayfs
from sampan.containerd.snapshots.erofs import ErofsSnapshotter
from sampan.containerd.snapshots.native import NativeSnapshotter
from sampan.containerd.snapshots.overlayfs import OverlaySnapshotter

# After so many changes, one of them a removal, garbage is collected without being asked (containerd's default).
_MUTATIONS = 100


class ClientSnapshotter(Snapshotter, Protocol):
    """A snapshotter whose labels clients change. `stacks`: see `diff.unpack`."""

    stacks: bool
    userxattr: bool

    def relabel(self, key: str, labels: Mapping[str, str]) -> SnapshotInfo: ...

    def lowers(self, key: str) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Stores:
    """What is in one containerd namespace. `snapshotters` by name."""

    namespace: str
    content: ContentStore
    images: ImageStore
    containers: Containers
    leases: Leasing
    snapshotters: Mapping[str, ClientSnapshotter]

    def snapshotter(self, name: str) -> ClientSnapshotter:
        """InvalidArgument for one that is not offered."""
        if not name:
            raise errors.InvalidArgument("snapshotter argument missing: invalid argument")
        if name not in self.snapshotters:
            raise errors.InvalidArgument(f"snapshotter not loaded: {name}: invalid argument")
        return self.snapshotters[name]


class StoreTable:
    """Every namespace's stores over one core, with the events and the garbage collection they share."""

    def __init__(self, core: ContainerCore) -> None:
        self.core = core
        self.metadata = core.metadata
        self.namespaces = Namespaces(core.metadata)
        containers.create_table(core.metadata)
        self.events = Exchange()
        self._opened: dict[str, Stores] = {}
        self._close: list[Callable[[], None]] = []
        self._changes: dict[str, tuple[int, bool]] = {}
        self._collections: set[asyncio.Task[int]] = set()

    def of(self, namespace: str) -> Stores:
        """InvalidArgument for a name that is none."""
        if namespace not in self._opened:
            identifiers.validate(namespace)
            self._opened[namespace] = self._open(namespace)
        return self._opened[namespace]

    def changed(self, namespace: str, *, removed: bool = False) -> None:
        """A store of the namespace was written: many writes and a removal make a collection worth while."""
        self.namespaces.touch(namespace)
        count, dirty = self._changes.get(namespace, (0, False))
        count, dirty = count + 1, dirty or removed
        self._changes[namespace] = (count, dirty)
        if dirty and count >= _MUTATIONS:
            running = asyncio.get_running_loop().create_task(self.collect(namespace))
            self._collections.add(running)
            running.add_done_callback(self._collections.discard)

    async def collect(self, asking: str) -> int:
        """Remove what nothing reaches, in the namespace `asking` and all others of clients; bytes freed.

        The engine collects in its own when it removes an image; here only when a client asks from inside it."""
        freed = 0
        names = {one.name for one in self.namespaces.list()} - {self.core.namespace} | {asking}
        for name in sorted(names):
            self._changes.pop(name, None)
            freed += await asyncio.to_thread(gc.collect, self.metadata, self.of(name), name == self.core.namespace)
        return freed

    def close(self) -> None:
        for collection in self._collections:
            collection.cancel()
        for close in self._close:
            close()

    def _open(self, namespace: str) -> Stores:
        core = self.core
        directory = f"{core.root}/snapshots"
        snapshotters: dict[str, ClientSnapshotter] = {}
        is_engines = namespace == core.namespace
        if is_engines:
            snapshotters[core.snapshots.name] = core.snapshots  # type: ignore[assignment]
        elif core.snapshots.name == ErofsSnapshotter.name:
            indexed = ErofsSnapshotter(self.metadata, f"{directory}/erofs", namespace)
            snapshotters[indexed.name] = indexed
            self._close.append(indexed.close)
        # Where the engine has erofs, clients still get what they ask for by default.
        overlays = core.snapshots.name in (OverlaySnapshotter.name, ErofsSnapshotter.name)
        if overlays and OverlaySnapshotter.name not in snapshotters:
            userxattr = not overlayfs.may_set_trusted()
            opened = OverlaySnapshotter(self.metadata, f"{directory}/overlayfs", namespace, userxattr=userxattr)
            snapshotters[opened.name] = opened
            self._close.append(opened.close)
        if NativeSnapshotter.name not in snapshotters:
            native = NativeSnapshotter(self.metadata, f"{directory}/native", namespace)
            snapshotters[native.name] = native
            self._close.append(native.close)
        if is_engines:
            content, images = core.content, core.images
            assert isinstance(content, ContentStore) and isinstance(images, ImageStore)
        else:
            content = ContentStore(self.metadata, f"{core.root}/content", namespace)
            held = Leases(self.metadata, namespace)
            images = ImageStore(self.metadata, namespace, content, next(iter(snapshotters.values())), held)
        leases = Leasing(self.metadata, namespace)
        return Stores(namespace, content, images, Containers(self.metadata, namespace), leases, snapshotters)


def directories(table: StoreTable) -> Sequence[str]:
    """Where snapshots of any kind are, for the question on which file system."""
    return [path for path in (f"{table.core.root}/snapshots", table.core.root) if os.path.isdir(path)]
