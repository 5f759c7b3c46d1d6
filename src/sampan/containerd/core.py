"""Opening the container core: one call makes every store on a root directory and recovers it after a crash.

core = await open_core("/var/lib/sampan", tasks=tasks)
...
await core.close()
"""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack

from sampan import errors
from sampan.containerd import containers, host_image
from sampan.containerd.commits import ImageCommits
from sampan.containerd.leases import Leases, forget_transfers
from sampan.containerd.metadata import Metadata, private_directory
from sampan.containerd.remotes.hosts import RegistrySettings
from sampan.containerd.services import Commits, Content, Images, Snapshotter, Tasks, Transfer
from sampan.containerd.snapshots.kinds import SnapshotterKinds
from sampan.containerd.snapshots.overlayfs import OverlaySnapshotter
from sampan.containerd.stores import Stores, open_stores
from sampan.containerd.transfer import RegistryTransfer

ENGINE_NAMESPACE = "moby"


class ContainerCore:
    """`services.Core`."""

    content: Content
    images: Images
    snapshots: Snapshotter
    transfer: Transfer
    commits: Commits
    tasks: Tasks

    def __init__(
        self,
        metadata: Metadata,
        stores: Stores,
        kinds: SnapshotterKinds,
        snapshotter: str,
        transfer: RegistryTransfer,
        commits: Commits,
        tasks: Tasks,
        lock_fd: int,
        root: str,
    ) -> None:
        self.content, self.images = stores.content, stores.images
        self.snapshots, self.transfer, self.tasks = stores.snapshotters[snapshotter], transfer, tasks
        self.commits = commits
        # What this machine does not offer, in words for `info`.
        self.degraded: tuple[str, ...] = ()
        if OverlaySnapshotter.name in kinds.missing:
            reason = kinds.missing[OverlaySnapshotter.name]
            self.degraded = (f"overlayfs: {reason}: layers are copied, sampan/host is not offered",)
        # What the gRPC edge needs to open the same stores for other containerd namespaces.
        self.metadata, self.root, self.namespace = metadata, root, stores.namespace
        self.stores, self.kinds = stores, kinds
        self.registries = transfer.settings
        self._registries = transfer
        self._lock_fd = lock_fd

    async def close(self) -> None:
        """Stop transfers and the janitors, close the database. Tasks are their opener's to close."""
        await self._registries.close()
        self.kinds.close()
        self.metadata.close()
        os.close(self._lock_fd)


async def open_core(
    root: str,
    *,
    tasks: Tasks,
    namespace: str = ENGINE_NAMESPACE,
    registries: RegistrySettings | None = None,
    snapshotter: str = "",
) -> ContainerCore:
    """The core on directory `root` (made when missing), with `tasks` as its running side.

    `snapshotter` is that of the engine: "overlayfs", "native", "erofs" or "" (`SnapshotterKinds.choose`). Unavailable
    when another process has `root` open or the snapshotter does not work here; InvalidArgument for an unknown one."""
    private_directory(root)
    with ExitStack() as undo:
        lock_fd = lock(root)
        undo.callback(os.close, lock_fd)
        metadata = Metadata(f"{root}/core.db")
        undo.callback(metadata.close)
        containers.create_table(metadata)
        kinds = SnapshotterKinds(metadata, f"{root}/snapshots")
        undo.callback(kinds.close)
        chosen = kinds.choose(snapshotter, namespace)
        stores = open_stores(metadata, root, kinds, namespace, is_engines=True)
        snapshots = stores.snapshotters[chosen]
        forget_transfers(metadata)
        stores.content.recover()
        kinds.recover()
        if isinstance(snapshots, OverlaySnapshotter):
            host_image.embed(stores.content, stores.images, snapshots)
        settings = registries or RegistrySettings()
        held = Leases(metadata, namespace)
        transfer = RegistryTransfer(metadata, stores.content, stores.images, snapshots, held, settings)
        commits = ImageCommits(stores.content, snapshots, held, transfer)
        core = ContainerCore(metadata, stores, kinds, chosen, transfer, commits, tasks, lock_fd, root)
        undo.pop_all()
        return core


def lock(root: str) -> int:
    """A descriptor whose life is the right to write below `root`. Unavailable when another process has it."""
    fd = os.open(f"{root}/core.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise errors.Unavailable(f'"{root}" is in use by another process') from None
    return fd
