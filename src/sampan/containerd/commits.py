"""Images made on this machine: a container's changes as one more layer on its image, or a tar as the whole of one.

Either way the layer is a blob first and unpacked from it like one that was pulled, so that an image made here is in no
way different: it can be pushed, saved and removed, and its layer is checked against its digest.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from sampan import errors
from sampan.containerd import leases
from sampan.containerd.content import BlobIngest, ContentStore
from sampan.containerd.diff import layer_blob
from sampan.containerd.diff.stream import decompressed
from sampan.containerd.layers import extraction_key
from sampan.containerd.leases import Lease, Leases
from sampan.containerd.services import Image
from sampan.containerd.snapshots.native import NativeSnapshotter
from sampan.containerd.snapshots.overlayfs import OverlaySnapshotter
from sampan.containerd.transfer import RegistryTransfer
from sampan.oci import digest as digests
from sampan.oci import image as images
from sampan.oci import reference as references
from sampan.oci.image import Descriptor, Manifest

Describe = Callable[[str], bytes]
"""The image's config document (image-spec config.md) for the DiffID of the new layer."""

_PIECE = 1 << 20
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class ImageCommits:
    """`services.Commits`."""

    def __init__(
        self,
        content: ContentStore,
        snapshots: OverlaySnapshotter | NativeSnapshotter,
        held: Leases,
        transfer: RegistryTransfer,
    ) -> None:
        self._content, self._snapshots, self._leases, self._transfer = content, snapshots, held, transfer

    async def commit(self, key: str, base: Descriptor, name: str, describe: Describe) -> Image:
        manifest = images.parse(self._content.read(base.digest), base.media_type)
        if not isinstance(manifest, Manifest):
            raise errors.InvalidArgument(f"{base.digest} is no image manifest")
        with self._leases.held(f"commit-{os.urandom(8).hex()}") as lease:
            kind = _DOCKER_LAYER if manifest.media_type == images.MEDIA_DOCKER_MANIFEST else _OCI_LAYER
            layer = await asyncio.to_thread(self._changes, key, kind, lease)
            return await self._finish(lease, name, manifest, layer, describe)

    async def import_layer(self, tar: AsyncIterator[bytes], name: str, describe: Describe) -> Image:
        nothing = Manifest(images.MEDIA_DOCKER_MANIFEST, Descriptor(images.MEDIA_DOCKER_CONFIG, "", 0), ())
        with self._leases.held(f"import-{os.urandom(8).hex()}") as lease:
            layer = await self._received(tar, lease)
            return await self._finish(lease, name, nothing, layer, describe)

    def _changes(self, key: str, media_type: str, lease: Lease) -> Descriptor:
        """In a thread: what the snapshot has that its parent has not."""
        parent = self._snapshots.stat(key).parent
        view = extraction_key("commit")
        left = self._snapshots.view(view, parent) if parent else []
        try:
            right = self._snapshots.mounts(key)
            ref = f"commit-{os.urandom(8).hex()}"
            return layer_blob.write(self._content, left, right, media_type, ref, {}, keep=_protecting(lease))
        finally:
            if parent:
                self._snapshots.remove(view)

    async def _received(self, tar: AsyncIterator[bytes], lease: Lease) -> Descriptor:
        """The tar as it comes, compressed or not: a layer's bytes are what they are, whatever its type says."""
        ingest = self._content.writer(f"import-{os.urandom(8).hex()}")
        try:
            async for piece in tar:
                await asyncio.to_thread(ingest.write, piece)
            return await asyncio.to_thread(self._settle, ingest, lease)
        finally:
            ingest.abort()

    def _settle(self, ingest: BlobIngest, lease: Lease) -> Descriptor:
        layer = Descriptor(_DOCKER_LAYER, ingest.digest(), ingest.offset)
        lease.protect(leases.CONTENT, [layer.digest])
        with suppress(errors.AlreadyExists):
            ingest.commit(None, None)
        return layer

    def _diff_id(self, layer: Descriptor) -> str:
        """In a thread: the digest of the tar in the blob. InvalidArgument when it is compressed by something else."""
        known = self._content.info(layer.digest).labels.get(layer_blob.UNCOMPRESSED_LABEL)
        if known:
            return known
        hasher = digests.hasher()
        with self._content.open(layer.digest) as file:
            source = decompressed(file)
            while data := source.read(_PIECE):
                hasher.update(data)
        return f"sha256:{hasher.hexdigest()}"

    async def _finish(self, lease: Lease, name: str, base: Manifest, layer: Descriptor, describe: Describe) -> Image:
        diff_id = await asyncio.to_thread(self._diff_id, layer)
        config = self._put(lease, base.config.media_type, describe(diff_id))
        document = {
            "schemaVersion": 2,
            "mediaType": base.media_type,
            "config": images.descriptor_document(config),
            "layers": [images.descriptor_document(one) for one in (*base.layers, layer)],
        }
        target = self._put(lease, base.media_type, json.dumps(document, separators=(",", ":")).encode())
        # Something has to name it, or the next collection takes it.
        name = name or f"{references.DEFAULT_DOMAIN}/library/imported@{target.digest}"
        return await self._transfer.adopt(lease, Image(name, target), lambda _: None)

    def _put(self, lease: Lease, media_type: str, data: bytes) -> Descriptor:
        made = Descriptor(media_type, digests.of(data), len(data))
        lease.protect(leases.CONTENT, [made.digest])
        self._content.put(data)
        return made


def _protecting(lease: Lease) -> Callable[[str], None]:
    return lambda digest: lease.protect(leases.CONTENT, [digest])
