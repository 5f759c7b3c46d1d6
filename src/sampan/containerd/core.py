"""Opening the container core: one call makes every store on a root directory and recovers it after a crash.

core = await open_core("/var/lib/sampan", tasks=tasks)
...
await core.close()
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence

from sampan import errors
from sampan.containerd import host_image
from sampan.containerd.content import ContentStore
from sampan.containerd.images import ImageStore
from sampan.containerd.leases import Leases
from sampan.containerd.metadata import Metadata
from sampan.containerd.remotes.hosts import RegistrySettings
from sampan.containerd.services import Content, Images, Snapshotter, Tasks, Transfer
from sampan.containerd.snapshots import erofs, overlayfs
from sampan.containerd.snapshots.erofs import ErofsSnapshotter
from sampan.containerd.snapshots.native import NativeSnapshotter
from sampan.containerd.snapshots.overlayfs import OverlaySnapshotter
from sampan.containerd.transfer import RegistryTransfer

ENGINE_NAMESPACE = "moby"


class ContainerCore:
    """`services.Core`."""

    content: Content
    images: Images
    snapshots: Snapshotter
    transfer: Transfer
    tasks: Tasks

    def __init__(
        self,
        metadata: Metadata,
        content: ContentStore,
        images: ImageStore,
        snapshots: OverlaySnapshotter | NativeSnapshotter,
        transfer: RegistryTransfer,
        tasks: Tasks,
        lock_fd: int,
        degraded: Sequence[str],
        root: str,
        namespace: str,
    ) -> None:
        self.content, self.images, self.snapshots = content, images, snapshots
        self.transfer, self.tasks = transfer, tasks
        # What this machine does not offer, in words for `info`.
        self.degraded = tuple(degraded)
        # What the gRPC edge needs to open the same stores for other containerd namespaces.
        self.metadata, self.root, self.namespace = metadata, root, namespace
        self._snapshotter, self._registries = snapshots, transfer
        self._lock_fd = lock_fd

    async def close(self) -> None:
        """Stop transfers and the janitor, close the database. Tasks are their opener's to close."""
        await self._registries.close()
        self._snapshotter.close()
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

    `snapshotter` is "overlayfs", "native", "erofs" or "" (overlayfs where it works). Unavailable when another process
    has `root` open or erofs was asked for and does not work; InvalidArgument for an unknown snapshotter."""
    os.makedirs(root, mode=0o711, exist_ok=True)
    lock_fd = _lock(root)
    try:
        metadata = Metadata(f"{root}/core.db")
        content = ContentStore(metadata, f"{root}/content", namespace)
        leases = Leases(metadata, namespace)
        snapshots, degraded = _snapshotter(metadata, f"{root}/snapshots", namespace, snapshotter)
        images = ImageStore(metadata, namespace, content, snapshots, leases)
        leases.forget_all()
        content.recover()
        snapshots.recover()
        if isinstance(snapshots, OverlaySnapshotter):
            host_image.embed(content, images, snapshots)
        transfer = RegistryTransfer(metadata, content, images, snapshots, leases, registries or RegistrySettings())
        return ContainerCore(metadata, content, images, snapshots, transfer, tasks, lock_fd, degraded, root, namespace)
    except BaseException:
        os.close(lock_fd)
        raise


def _lock(root: str) -> int:
    fd = os.open(f"{root}/core.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise errors.Unavailable(f'"{root}" is in use by another process') from None
    return fd


def _snapshotter(
    metadata: Metadata, directory: str, namespace: str, wanted: str
) -> tuple[OverlaySnapshotter | NativeSnapshotter, list[str]]:
    if wanted not in ("", "overlayfs", "native", "erofs"):
        raise errors.InvalidArgument(f'unknown snapshotter "{wanted}"')
    os.makedirs(directory, mode=0o700, exist_ok=True)
    reason = "" if wanted == "native" else overlayfs.probe(directory)
    if wanted == "native" or (wanted == "" and reason):
        degraded = [f"overlayfs: {reason}: layers are copied, sampan/host is not offered"] if reason else []
        return NativeSnapshotter(metadata, f"{directory}/native", namespace), degraded
    if wanted == "erofs":
        if reason := reason or erofs.probe(directory):
            raise errors.Unavailable(f"snapshotter erofs: {reason}")
        return ErofsSnapshotter(metadata, f"{directory}/erofs", namespace), []
    userxattr = not overlayfs.may_set_trusted()
    return OverlaySnapshotter(metadata, f"{directory}/overlayfs", namespace, userxattr=userxattr), []
