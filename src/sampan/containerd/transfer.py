"""Pull and push: what moves images between registries and the stores."""

from __future__ import annotations

from collections.abc import Callable

from sampan import errors
from sampan.containerd.content import ContentStore
from sampan.containerd.images import ImageStore
from sampan.containerd.leases import Leases
from sampan.containerd.metadata import Metadata
from sampan.containerd.remotes.hosts import RegistrySettings
from sampan.containerd.services import Credentials, Descriptor, Image, Platform, Progress
from sampan.containerd.snapshots.native import NativeSnapshotter
from sampan.containerd.snapshots.overlayfs import OverlaySnapshotter


class RegistryTransfer:
    """`services.Transfer`."""

    def __init__(
        self,
        metadata: Metadata,
        content: ContentStore,
        images: ImageStore,
        snapshots: OverlaySnapshotter | NativeSnapshotter,
        leases: Leases,
        settings: RegistrySettings,
    ) -> None:
        self._metadata, self._content, self._images = metadata, content, images
        self._snapshots, self._leases, self._settings = snapshots, leases, settings

    async def pull(
        self,
        reference: str,
        *,
        platform: Platform | None,
        credentials: Credentials,
        progress: Callable[[Progress], None],
    ) -> Image:
        raise errors.Unimplemented("pull")

    async def push(
        self, reference: str, *, credentials: Credentials, progress: Callable[[Progress], None]
    ) -> Descriptor:
        raise errors.Unimplemented("push")

    async def close(self) -> None:
        """Cancel what runs."""
