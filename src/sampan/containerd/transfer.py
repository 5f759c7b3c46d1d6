"""Pull and push: what moves images between registries and the stores, and what users see of it.

A pull, in order: resolve the reference (HEAD, so that a present image costs one request), choose the platform,
fetch the config, run one job per missing layer (`layers.py`), then name snapshots and image in one transaction. All of
it stands under a lease, so a collection may run at any moment.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from sampan import errors
from sampan.containerd import host_image, leases, stacking
from sampan.containerd.archive import export, import_archive
from sampan.containerd.content import ContentStore
from sampan.containerd.images import ImageStore
from sampan.containerd.layers import Layer, Layers
from sampan.containerd.leases import Lease, Leases
from sampan.containerd.metadata import Metadata
from sampan.containerd.reachability import runnable
from sampan.containerd.remotes import wording
from sampan.containerd.remotes.auth import Lookup
from sampan.containerd.remotes.client import Client
from sampan.containerd.remotes.hosts import RegistrySettings
from sampan.containerd.remotes.push import Push
from sampan.containerd.remotes.registry import Repository, known_type, open_repository
from sampan.containerd.remotes.wording import Refusal
from sampan.containerd.services import Credentials, Image, Progress
from sampan.containerd.snapshots.native import NativeSnapshotter
from sampan.containerd.snapshots.overlayfs import OverlaySnapshotter
from sampan.containerd.stacking import Placed
from sampan.oci import digest as digests
from sampan.oci import image as images
from sampan.oci import platform as platforms
from sampan.oci import reference as references
from sampan.oci.image import Descriptor, Manifest, Platform
from sampan.oci.reference import Reference

Report = Callable[[Progress], None]
# An index inside an index inside ...: two are in use, more is somebody's joke.
_INDEX_DEPTH = 4


class RegistryTransfer:
    """`services.Transfer`."""

    def __init__(
        self,
        metadata: Metadata,
        content: ContentStore,
        image_store: ImageStore,
        snapshots: OverlaySnapshotter | NativeSnapshotter,
        held: Leases,
        settings: RegistrySettings,
    ) -> None:
        self._metadata, self._content, self._images = metadata, content, image_store
        self._snapshots, self._leases, self._settings = snapshots, held, settings
        self._layers = Layers(content, snapshots, settings.max_concurrent_downloads, settings.max_attempts)
        self._layers.recover()
        self._naming = asyncio.Lock()
        self._client = Client(settings)

    @property
    def settings(self) -> RegistrySettings:
        """For transfers of other namespaces than the engine's."""
        return self._settings

    async def pull(
        self, reference: str, *, platform: Platform | None, credentials: Credentials | Lookup, progress: Report
    ) -> Image:
        wanted = references.parse_normalized(reference).with_default_tag()
        if str(wanted) == host_image.NAME:
            progress(Progress("", f"Status: Image is up to date for {wanted.familiar}"))
            return self._images.get(host_image.NAME)
        repository = open_repository(self._client, wanted, credentials)
        platform = platform or platforms.host()
        try:
            return await self._pull_from(repository, wanted, platform, progress)
        except Refusal as refused:
            raise wording.pull_error(refused, wanted) from refused

    async def _pull_from(
        self, repository: Repository, wanted: Reference, platform: Platform, progress: Report
    ) -> Image:
        resolved = await self._resolve(repository, wanted)
        image = self._named(str(wanted))
        chain = self._complete(image, resolved.digest, platform)
        if image is not None and chain is not None:
            # Under its name nothing of it can go: no lease is needed, and nothing has to be written.
            progress(Progress(wanted.digest or wanted.tag, f"Pulling from {wanted.path}"))
            for layer in chain:
                progress(Progress(layer.id, "Already exists"))
            _tell_end(progress, image, wanted, fresh=False)
            return image
        before = image.target.digest if image else ""
        with self._leases.held(f"pull-{os.urandom(8).hex()}") as lease, self._layers.expected():
            target = await self._document(repository, lease, resolved)
            # Not before: what does not exist is a plain error to clients, not one inside a stream of progress.
            progress(Progress(wanted.digest or wanted.tag, f"Pulling from {wanted.path}"))
            manifest = await self._choose(repository, lease, target, platform, 0)
            chain = await self._chain(repository, lease, manifest)
            image, fetched = await self._bring(repository, chain, Image(str(wanted), target), progress)
        _tell_end(progress, image, wanted, fresh=fetched or before != target.digest)
        return image

    def _complete(self, image: Image | None, digest: str, platform: Platform) -> list[Layer] | None:
        """The layers of a named image that is already what a pull of `digest` would make it; None when it is not."""
        if image is None or image.target.digest != digest:
            return None
        target = image.target
        for _ in range(_INDEX_DEPTH + 1):
            if not self._content.has(target.digest):
                return None
            parsed = images.parse(self._content.read(target.digest), target.media_type)
            if isinstance(parsed, Manifest):
                if not self._content.has(parsed.config.digest):
                    return None
                chain = self._layer_chain(None, parsed)
                return chain if all(self._present(layer) for layer in chain) else None
            chosen = platforms.choose(platform, [member.platform for member in parsed.manifests])
            if chosen is None:
                return None
            target = parsed.manifests[chosen]
        return None

    async def push(self, reference: str, *, credentials: Credentials | Lookup, progress: Report) -> Descriptor:
        wanted = references.parse_normalized(reference).with_default_tag()
        try:
            target = self._images.get(str(wanted)).target
        except errors.NotFound:
            raise errors.NotFound(f"An image does not exist locally with the tag: {wanted.familiar_name}") from None
        progress(Progress("", f"The push refers to repository [{wanted.name}]"))
        repository = open_repository(self._client, wanted, credentials)
        try:
            host = await repository.pushing()
            return await Push(self._content, repository, host, self._settings, progress).push(target)
        except Refusal as refused:
            raise wording.push_error(refused) from refused

    async def load(self, archive: AsyncIterator[bytes], *, progress: Report) -> Sequence[Image]:
        """Import an image archive (`docker save`, OCI layout; plain, gzip or zstd), as it streams in; the images.

        Those for another platform are stored and not unpacked. InvalidArgument, DataLoss."""
        with self._leases.held(f"import-{os.urandom(8).hex()}") as lease:
            found = await import_archive(self._content, lease, archive)
            loaded: list[Image] = []
            for one in found:
                # Something has to name it, or the next collection takes it.
                for name in one.names or (f"{references.DEFAULT_DOMAIN}/library/imported@{one.target.digest}",):
                    loaded.append(await self.adopt(lease, Image(name, one.target), progress))
        return loaded

    async def adopt(self, lease: Lease, image: Image, progress: Report) -> Image:
        """Name an image whose documents and blobs are in the store, unpacked if it is for this platform.

        InvalidArgument, DataLoss."""
        found = runnable(self._content, image.target, platforms.host())
        chain = [] if found is None else self._layer_chain(lease, found[1])
        named, _ = await self._bring(None, chain, image, progress)
        return named

    def save(self, images: Sequence[str | Descriptor]) -> Iterator[bytes]:
        """The archive of the images (`archive.export`), in pieces; a descriptor is one without a name. NotFound."""
        found = [("", one) if isinstance(one, Descriptor) else (one, self._images.get(one).target) for one in images]
        return export(self._content, found)

    async def close(self) -> None:
        """Cancel what runs; close the connections."""
        await self._layers.close()
        await self._client.close()

    def _named(self, name: str) -> Image | None:
        try:
            return self._images.get(name)
        except errors.NotFound:
            return None

    async def _resolve(self, repository: Repository, wanted: Reference) -> Descriptor:
        """The descriptor that tag or digest stands for; `size` is 0 when the registry did not say it."""
        try:
            found = await repository.head_manifest(wanted.digest or wanted.tag)
            if found is not None:
                media_type, digest, size = found
                if not wanted.digest or wanted.digest == digest:
                    return Descriptor(media_type, digest, size)
        except Refusal:
            pass  # a HEAD has no body: the GET below tells what is wrong
        media_type, data = await repository.get_manifest(wanted.digest or wanted.tag)
        digest = wanted.digest or digests.of(data)
        await asyncio.to_thread(self._store, data, digest)
        return Descriptor(media_type, digest, len(data))

    async def _document(self, repository: Repository, lease: Lease, descriptor: Descriptor) -> Descriptor:
        """Bring the manifest or index behind `descriptor` into the store; the descriptor with its true type."""
        lease.protect(leases.CONTENT, [descriptor.digest])
        if self._content.has(descriptor.digest):
            data = self._content.read(descriptor.digest)
            media_type = descriptor.media_type
        else:
            media_type, data = await repository.get_manifest(descriptor.digest)
            await asyncio.to_thread(self._store, data, descriptor.digest)
        parsed = images.parse(data, known_type(media_type))
        return Descriptor(parsed.media_type, descriptor.digest, len(data))

    def _store(self, data: bytes, digest: str) -> None:
        """In a thread: it waits for the disk."""
        if digest.startswith("sha256:"):
            self._content.put(data)
            return
        ingest = self._content.writer(f"manifest-{digest}")
        try:
            ingest.truncate()
            ingest.write(data)
            ingest.commit(len(data), digest)
        except errors.AlreadyExists:
            pass
        finally:
            ingest.close()

    async def _choose(
        self, repository: Repository, lease: Lease, target: Descriptor, wanted: Platform, depth: int
    ) -> Manifest:
        """The manifest for the platform, every index on the way to it stored. NotFound in docker's words."""
        parsed = images.parse(self._content.read(target.digest), target.media_type)
        if isinstance(parsed, Manifest):
            if parsed.config.media_type not in images.CONFIG_TYPES:
                raise errors.InvalidArgument(f'Encountered remote "{parsed.config.media_type}"(unknown) when fetching')
            return parsed
        chosen = platforms.choose(wanted, [member.platform for member in parsed.manifests])
        if chosen is None or depth >= _INDEX_DEPTH:
            raise errors.NotFound(f"no matching manifest for {platforms.format(wanted)} in the manifest list entries")
        member = await self._document(repository, lease, parsed.manifests[chosen])
        return await self._choose(repository, lease, member, wanted, depth + 1)

    async def _chain(self, repository: Repository, lease: Lease, manifest: Manifest) -> list[Layer]:
        """The layers in order, from the config, which is fetched. InvalidArgument for what cannot be unpacked."""
        lease.protect(leases.CONTENT, [manifest.config.digest, *(layer.digest for layer in manifest.layers)])
        for layer in manifest.layers:
            if layer.media_type in images.FOREIGN_LAYER_TYPES:
                raise errors.InvalidArgument(f"foreign layers are not supported: {layer.media_type}")
            if layer.media_type not in images.LAYER_TYPES:
                raise errors.InvalidArgument(f"unsupported layer media type: {layer.media_type}")
        if not self._content.has(manifest.config.digest):
            data = await repository.get_config(manifest.config)
            await asyncio.to_thread(self._store, data, manifest.config.digest)
        return self._layer_chain(lease, manifest)

    def _layer_chain(self, lease: Lease | None, manifest: Manifest) -> list[Layer]:
        """The layers in order, from the config in the store."""
        diff_ids = images.diff_ids(images.config_document(self._content.read(manifest.config.digest)))
        if len(diff_ids) != len(manifest.layers):
            raise errors.InvalidArgument("layers from manifest don't match image configuration")
        chain = digests.chain_ids(diff_ids)
        if lease is not None:
            lease.protect(leases.SNAPSHOT, chain)
        parents = ["", *chain[:-1]]
        return [Layer(*one) for one in zip(chain, parents, diff_ids, manifest.layers, strict=False)]

    async def _bring(
        self, repository: Repository | None, chain: Sequence[Layer], image: Image, report: Report
    ) -> tuple[Image, bool]:
        """Run a job for each layer that lacks its blob or its snapshot, then name everything; whether any ran."""
        missing = [layer for layer in chain if not self._present(layer)]
        for layer in chain:
            if layer not in missing:
                report(Progress(layer.id, "Already exists"))
        jobs = {layer.chain: await self._layers.join(layer, repository, report) for layer in missing}
        try:
            done = await asyncio.gather(*(job.wait() for job in jobs.values()))
            unpacked = dict(zip(jobs, done, strict=True))
            placed = [Placed(layer, jobs.get(layer.chain), unpacked.get(layer.chain)) for layer in chain]
            async with self._naming:
                working = asyncio.ensure_future(
                    asyncio.to_thread(
                        stacking.finish,
                        self._metadata,
                        self._snapshots,
                        self._layers,
                        placed,
                        lambda: self._images.put(image),
                    )
                )
                try:
                    named = await asyncio.shield(working)
                except asyncio.CancelledError:
                    # It names all or nothing and takes a moment: let it end before the jobs' directories go.
                    await asyncio.wait({working})
                    raise
            for layer in missing:
                report(Progress(layer.id, "Pull complete"))
            return named, bool(missing)
        finally:
            for job in jobs.values():
                await job.leave(report)

    def _present(self, layer: Layer) -> bool:
        try:
            self._snapshots.stat(layer.chain)
        except errors.NotFound:
            return False
        return self._content.has(layer.blob.digest)


def _tell_end(progress: Report, image: Image, wanted: Reference, *, fresh: bool) -> None:
    progress(Progress("", f"Digest: {image.target.digest}"))
    outcome = "Downloaded newer image for" if fresh else "Image is up to date for"
    progress(Progress("", f"Status: {outcome} {wanted.familiar}"))
