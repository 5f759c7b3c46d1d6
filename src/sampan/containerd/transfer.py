"""Pull and push: what moves images between registries and the stores, and what users see of it.

A pull, in order: resolve the reference (HEAD, so that a present image costs one request), choose the platform,
fetch the config, run one job per missing layer (`layers.py`), then name snapshots and image in one transaction. All of
it stands under a lease, so a collection may run at any moment.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import aiohttp

from sampan import errors
from sampan.containerd import host_image, leases, stacking
from sampan.containerd.archive import export, import_archive
from sampan.containerd.content import ContentStore
from sampan.containerd.images import ImageStore
from sampan.containerd.layers import Layer, Layers
from sampan.containerd.leases import Lease, Leases
from sampan.containerd.metadata import Metadata
from sampan.containerd.reachability import DOCUMENT_LIMIT, runnable
from sampan.containerd.remotes import wording
from sampan.containerd.remotes.hosts import RegistrySettings
from sampan.containerd.remotes.push import Push
from sampan.containerd.remotes.registry import Repository, open_repository, open_session, repositories
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
        self._session: aiohttp.ClientSession | None = None

    @property
    def settings(self) -> RegistrySettings:
        """For transfers of other namespaces than the engine's."""
        return self._settings

    async def pull(
        self, reference: str, *, platform: Platform | None, credentials: Credentials, progress: Report
    ) -> Image:
        wanted = references.parse_normalized(reference).with_default_tag()
        if str(wanted) == host_image.NAME:
            progress(Progress("", f"Status: Image is up to date for {wanted.familiar}"))
            return self._images.get(host_image.NAME)
        async for repository in repositories(self._http(), self._settings, wanted, credentials):
            try:
                return await self._pull_from(repository, wanted, platform or platforms.host(), progress)
            except (errors.NotFound, errors.Unauthorized, errors.Forbidden, errors.Unavailable):
                # A mirror need not have everything: whoever comes after it is asked.
                if not repository.endpoint.mirror:
                    raise
        raise errors.NotFound(f"manifest for {wanted.familiar} not found: manifest unknown: manifest unknown")

    async def _pull_from(
        self, repository: Repository, wanted: Reference, platform: Platform, progress: Report
    ) -> Image:
        with self._leases.held(f"pull-{os.urandom(8).hex()}") as lease:
            try:
                target = await self._document(repository, lease, await self._resolve(repository, wanted))
                # Not before: what does not exist is a plain error to clients, not one inside a stream of progress.
                progress(Progress(wanted.digest or wanted.tag, f"Pulling from {wanted.path}"))
                manifest = await self._choose(repository, lease, target, platform, 0)
                chain = await self._chain(repository, lease, manifest)
            except Refusal as refused:
                raise wording.pull_error(refused, wanted) from refused
            before = self._target(str(wanted))
            image, fetched = await self._bring(repository, chain, Image(str(wanted), target), progress)
        progress(Progress("", f"Digest: {target.digest}"))
        fresh = fetched or before != target.digest
        outcome = "Downloaded newer image for" if fresh else "Image is up to date for"
        progress(Progress("", f"Status: {outcome} {wanted.familiar}"))
        return image

    async def push(self, reference: str, *, credentials: Credentials, progress: Report) -> Descriptor:
        wanted = references.parse_normalized(reference).with_default_tag()
        try:
            target = self._images.get(str(wanted)).target
        except errors.NotFound:
            raise errors.NotFound(f"An image does not exist locally with the tag: {wanted.familiar_name}") from None
        progress(Progress("", f"The push refers to repository [{wanted.name}]"))
        repository = await open_repository(self._http(), self._settings, wanted, credentials)
        try:
            return await Push(self._content, repository, self._settings, progress).push(target)
        except Refusal as refused:
            raise wording.push_error(refused) from refused

    async def load(self, archive: AsyncIterator[bytes], *, progress: Report) -> Sequence[Image]:
        """Import an image archive (`docker save`, OCI layout; plain, gzip or zstd), as it streams in; the images.

        Those for another platform are stored and not unpacked. InvalidArgument, DataLoss."""
        with self._leases.held(f"import-{os.urandom(8).hex()}") as lease:
            found = await import_archive(self._content, lease, archive)
            loaded: list[Image] = []
            for one in found:
                found_here = runnable(self._content, one.target, platforms.host())
                chain = [] if found_here is None else self._layer_chain(lease, found_here[1])
                # Something has to name it, or the next collection takes it.
                for name in one.names or (f"{references.DEFAULT_DOMAIN}/library/imported@{one.target.digest}",):
                    image, _ = await self._bring(None, chain, Image(name, one.target), progress)
                    loaded.append(image)
        return loaded

    def save(self, images: Sequence[str | Descriptor]) -> Iterator[bytes]:
        """The archive of the images (`archive.export`), in pieces; a descriptor is one without a name. NotFound."""
        found = [("", one) if isinstance(one, Descriptor) else (one, self._images.get(one).target) for one in images]
        return export(self._content, found)

    async def close(self) -> None:
        """Cancel what runs; close the connections."""
        await self._layers.close()
        if self._session is not None:
            await self._session.close()

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session()
        return self._session

    def _target(self, name: str) -> str:
        """The digest the name points at so far, "" for none."""
        try:
            return self._images.get(name).target.digest
        except errors.NotFound:
            return ""

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
        # A server may call everything octet-stream; the document itself knows better.
        known = media_type if media_type in images.INDEX_TYPES | images.MANIFEST_TYPES else ""
        parsed = images.parse(data, known)
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
            data = await self._small_blob(repository, manifest.config)
            await asyncio.to_thread(self._store, data, manifest.config.digest)
        return self._layer_chain(lease, manifest)

    def _layer_chain(self, lease: Lease, manifest: Manifest) -> list[Layer]:
        """The layers in order, from the config in the store."""
        diff_ids = images.diff_ids(images.config_document(self._content.read(manifest.config.digest)))
        if len(diff_ids) != len(manifest.layers):
            raise errors.InvalidArgument("layers from manifest don't match image configuration")
        chain = digests.chain_ids(diff_ids)
        lease.protect(leases.SNAPSHOT, chain)
        parents = ["", *chain[:-1]]
        return [Layer(*one) for one in zip(chain, parents, diff_ids, manifest.layers, strict=False)]

    async def _small_blob(self, repository: Repository, blob: Descriptor) -> bytes:
        if blob.size > DOCUMENT_LIMIT:
            raise errors.InvalidArgument(f"image config is larger than {DOCUMENT_LIMIT} bytes")
        data = bytearray()
        url = repository.url(f"blobs/{blob.digest}")
        try:
            async with repository.get_blob(blob.digest, 0) as (_, pieces):
                async for piece in pieces:
                    data += piece
                    if len(data) > blob.size:
                        break
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise wording.unreachable("GET", url, error) from error
        if digests.of(bytes(data), blob.digest.partition(":")[0]) != blob.digest:
            raise errors.DataLoss(f"image config verification failed for digest {blob.digest}")
        return bytes(data)

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
