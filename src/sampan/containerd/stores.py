"""The stores of one containerd namespace, and the table of all of them: what the gRPC edge works on.

The engine's own namespace has the engine's own stores; those of other namespaces are opened on the same database and
directories when they are first asked for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sampan import errors
from sampan.containerd import gc, identifiers
from sampan.containerd.containers import Containers
from sampan.containerd.content import ContentStore
from sampan.containerd.events import Exchange
from sampan.containerd.images import ImageStore
from sampan.containerd.leasing import Leasing
from sampan.containerd.metadata import Metadata
from sampan.containerd.namespaces import Namespaces
from sampan.containerd.snapshots.kinds import SnapshotterKinds
from sampan.containerd.snapshots.native import NativeSnapshotter
from sampan.containerd.snapshots.overlayfs import OverlaySnapshotter

if TYPE_CHECKING:
    from sampan.containerd.core import ContainerCore

# After so many changes, one of them a removal, garbage is collected without being asked (containerd's default).
_MUTATIONS = 100

ClientSnapshotter = OverlaySnapshotter | NativeSnapshotter


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


def open_stores(
    metadata: Metadata, root: str, kinds: SnapshotterKinds, namespace: str, *, is_engines: bool = False
) -> Stores:
    """Those of `namespace`, on the database and the directories below `root`. `is_engines`: see `gc.collect`."""

    def collect() -> int:
        return gc.collect(metadata, stores, is_engines).freed

    stores = Stores(
        namespace,
        ContentStore(metadata, f"{root}/content", namespace, kinds.janitor(f"{root}/content")),
        ImageStore(metadata, namespace, collect),
        Containers(metadata, namespace),
        Leasing(metadata, namespace),
        {name: kinds.open(name, namespace) for name in kinds.names},
    )
    return stores


class StoreTable:
    """Every namespace's stores over one core, with the events and the garbage collection they share."""

    def __init__(self, core: ContainerCore) -> None:
        self.core = core
        self.metadata = core.metadata
        self.namespaces = Namespaces(core.metadata)
        self.events = Exchange()
        self._opened: dict[str, Stores] = {core.namespace: core.stores}
        self._changes: dict[str, tuple[int, bool]] = {}
        self._collections: set[asyncio.Task[int]] = set()
        # Told of what each collection has taken, with the namespace.
        self.on_collected: Callable[[str, gc.Collection], None] = lambda namespace, done: None

    def of(self, namespace: str) -> Stores:
        """InvalidArgument for a name that is none."""
        if namespace not in self._opened:
            identifiers.validate(namespace)
            core = self.core
            self._opened[namespace] = open_stores(core.metadata, core.root, core.kinds, namespace)
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
            done = await asyncio.to_thread(gc.collect, self.metadata, self.of(name), name == self.core.namespace)
            self.on_collected(name, done)
            freed += done.freed
        return freed

    def close(self) -> None:
        for collection in self._collections:
            collection.cancel()


def directories(table: StoreTable) -> Sequence[str]:
    """Where snapshots of any kind are, for the question on which file system."""
    return [path for path in (f"{table.core.root}/snapshots", table.core.root) if os.path.isdir(path)]
