"""From a registry into the stores of a client's namespace: every document of an image, and its layers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from sampan import errors
from sampan.containerd import leases
from sampan.containerd.content import ContentStore
from sampan.containerd.interchange.steps import EXISTS, Tree, node_name
from sampan.containerd.leases import Lease
from sampan.containerd.remotes.registry import Repository
from sampan.containerd.remotes.wording import Refusal
from sampan.oci import digest as digests
from sampan.oci import image as images
from sampan.oci import platform as platforms
from sampan.oci.image import Descriptor, Index, Manifest, Platform

# An index inside an index inside ...: two are in use, more is somebody's joke.
_DEPTH = 4
_AT_ONCE = 6


@dataclass(slots=True)
class Fetched:
    """What a pull brought: `documents` by digest; `manifests` that suit the wanted platforms, with theirs; `blobs`:
    everything else that is known of the image, layers that were not fetched left out."""

    documents: dict[str, Manifest | Index] = field(default_factory=dict)
    manifests: list[tuple[Platform | None, Manifest]] = field(default_factory=list)
    blobs: set[str] = field(default_factory=set)


async def resolve(repository: Repository) -> Descriptor:
    """The descriptor that tag or digest stands for; `size` is 0 when the registry did not say it. Refusal."""
    wanted = repository.reference
    found = None
    try:
        found = await repository.head_manifest(wanted.digest or wanted.tag)
    except Refusal:
        pass  # a HEAD has no body: the GET below tells what is wrong
    if found is not None and wanted.digest in ("", found[1]):
        return Descriptor(*found)
    media_type, data = await repository.get_manifest(wanted.digest or wanted.tag)
    return Descriptor(media_type, wanted.digest or digests.of(data), len(data))


class Fetch:
    """One walk over an image in a registry. `wanted` platforms, none for all; `all_metadata` brings the documents of
    the others as well."""

    def __init__(
        self,
        content: ContentStore,
        lease: Lease,
        repository: Repository,
        tree: Tree,
        wanted: Sequence[Platform],
        all_metadata: bool,
    ) -> None:
        self._content, self._lease, self._repository, self._tree = content, lease, repository, tree
        self._wanted, self._all_metadata = wanted, all_metadata
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.fetched = Fetched()

    async def run(self, target: Descriptor, name: str) -> Descriptor:
        """Bring everything but the layers under `target`, which the tree shows below `name`; the target with its true
        type and size. Refusal, DataLoss, InvalidArgument, Unavailable."""
        document, true = await self._document(target, name)
        await self._below(true, document, suits=True, platform=target.platform, depth=0)
        return true

    async def _below(
        self, at: Descriptor, document: Manifest | Index, *, suits: bool, platform: Platform | None, depth: int
    ) -> None:
        self.fetched.documents[at.digest] = document
        parent = node_name(at)
        if isinstance(document, Manifest):
            await self._manifest(document, parent, suits, platform)
            return
        if depth >= _DEPTH:
            raise errors.InvalidArgument(f"index {at.digest}: nested too deep")
        chosen = [(member, self._suits(member)) for member in document.manifests]
        walks = [
            asyncio.ensure_future(self._member(member, parent, matches and suits, depth))
            for member, matches in chosen
            if matches or self._all_metadata
        ]
        try:
            await asyncio.gather(*walks)
        finally:
            for walk in walks:
                walk.cancel()
            await asyncio.gather(*walks, return_exceptions=True)

    async def _member(self, member: Descriptor, parent: str, suits: bool, depth: int) -> None:
        document, true = await self._document(member, parent)
        await self._below(true, document, suits=suits, platform=member.platform, depth=depth + 1)

    async def _manifest(self, manifest: Manifest, parent: str, suits: bool, platform: Platform | None) -> None:
        self._tree.add(manifest.config, parent)
        await self._small_blob(manifest.config)
        if not suits:
            return
        if platform is None and manifest.config.media_type in images.CONFIG_TYPES:
            config = images.config_document(self._content.read(manifest.config.digest))
            platform = images.platform_from(config)
        self.fetched.manifests.append((platform, manifest))
        for layer in manifest.layers:
            self._tree.add(layer, parent)
            self.fetched.blobs.add(layer.digest)
            if self._content.has(layer.digest):
                self._tree.ended(layer.digest, EXISTS)
            elif self._take_over(layer):
                self._tree.ended(layer.digest)
        self._lease.protect(leases.CONTENT, [layer.digest for layer in manifest.layers])

    def _suits(self, member: Descriptor) -> bool:
        return (
            not self._wanted
            or member.platform is None
            or any(platforms.rank(one, member.platform) == 0 for one in self._wanted)
        )

    async def _document(self, descriptor: Descriptor, parent: str) -> tuple[Manifest | Index, Descriptor]:
        """The parsed document, now in the store, and its descriptor with its true type and size."""
        self._lease.protect(leases.CONTENT, [descriptor.digest])
        media_type, known = descriptor.media_type, self._content.has(descriptor.digest)
        if known or self._take_over(descriptor):
            data = self._content.read(descriptor.digest)
        else:
            if descriptor.size:
                self._tree.add(descriptor, parent)
            async with self._slots:
                media_type, data = await self._repository.get_manifest(descriptor.digest)
            await asyncio.to_thread(self._store, data, descriptor.digest)
        # A server may call everything octet-stream; the document itself knows better.
        document = images.parse(data, media_type if media_type in images.INDEX_TYPES | images.MANIFEST_TYPES else "")
        true = Descriptor(
            document.media_type, descriptor.digest, len(data), descriptor.annotations, platform=descriptor.platform
        )
        self._tree.add(true, parent)
        self._tree.ended(true.digest, *([EXISTS] if known else []))
        return document, true

    async def _small_blob(self, blob: Descriptor) -> None:
        self._lease.protect(leases.CONTENT, [blob.digest])
        self.fetched.blobs.add(blob.digest)
        if self._content.has(blob.digest):
            self._tree.ended(blob.digest, EXISTS)
            return
        if self._take_over(blob):
            self._tree.ended(blob.digest)
            return
        async with self._slots:
            data = await self._repository.get_config(blob)
        await asyncio.to_thread(self._store, data, blob.digest)
        self._tree.ended(blob.digest)

    def _take_over(self, blob: Descriptor) -> bool:
        """Whether another namespace's bytes were at hand: containerd's own default ("shared")."""
        try:
            self._content.adopt(blob.digest)
        except errors.AlreadyExists:
            pass  # somebody was faster
        except errors.NotFound:
            return False
        return True

    def _store(self, data: bytes, digest: str) -> None:
        """In a thread: it waits for the disk. DataLoss."""
        algorithm = digest.partition(":")[0]
        if digests.of(data, algorithm) != digest:
            raise errors.DataLoss(f"content verification failed for digest {digest}")
        if algorithm == "sha256":
            self._content.put(data)
            return
        ingest = self._content.writer(f"document-{digest}")
        try:
            ingest.truncate()
            ingest.write(data)
            ingest.commit(None, digest)
        except errors.AlreadyExists:
            pass
        finally:
            ingest.close()
