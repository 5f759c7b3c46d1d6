"""The stores of one containerd namespace, and the table of all of them: what the gRPC edge works on.

The engine's own namespace has the engine's own stores; those of other namespaces are opened on the same database and
directories when they are first asked for.
"""

from __future__ import annotations

import asyncio
import os
import time
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

# Garbage is collected without being asked: this long after a removal (containerd: at once; but one client's removals
# come together), and after so many other changes (containerd's default).
_DELAY = 0.1
_MUTATIONS = 100
# So much of the time at most is spent on it, containerd's default.
_SHARE = 0.02

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
        self._changes: dict[str, int] = {}
        # Who has asked for the collection that is to come.
        self._asking: set[str] = set()
        self._coming: asyncio.TimerHandle | None = None
        self._collecting: asyncio.Task[int] | None = None
        # No collection of its own accord begins before this time of the loop.
        self._pause_ends = 0.0
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
        """A store of the namespace was written: a removal, or many writes, make a collection worth while."""
        self.namespaces.touch(namespace)
        self._changes[namespace] = self._changes.get(namespace, 0) + 1
        if not removed and self._changes[namespace] < _MUTATIONS:
            return
        self._asking.add(namespace)
        if self._coming is None:
            loop = asyncio.get_running_loop()
            self._coming = loop.call_at(max(loop.time() + _DELAY, self._pause_ends), self._begin)

    def _begin(self) -> None:
        self._coming, asking, self._asking = None, self._asking, set()
        self._collecting = asyncio.get_running_loop().create_task(self.collect(*asking))

    async def collect(self, *asking: str) -> int:
        """Remove what nothing reaches, in the namespaces `asking` and all others of clients; bytes freed.

        The engine collects in its own when it removes an image; here only when a client asks from inside it."""
        freed, began = 0, time.monotonic()
        names = {one.name for one in self.namespaces.list()} - {self.core.namespace} | set(asking)
        for name in sorted(names):
            self._changes.pop(name, None)
            done = await asyncio.to_thread(gc.collect, self.metadata, self.of(name), name == self.core.namespace)
            self.on_collected(name, done)
            freed += done.freed
        took = time.monotonic() - began
        self._pause_ends = asyncio.get_running_loop().time() + took / _SHARE - took
        return freed

    def close(self) -> None:
        if self._coming is not None:
            self._coming.cancel()
        if self._collecting is not None:
            self._collecting.cancel()


def directories(table: StoreTable) -> Sequence[str]:
    """Where snapshots of any kind are, for the question on which file system."""
    return [path for path in (f"{table.core.root}/snapshots", table.core.root) if os.path.isdir(path)]
