"""Layers of one client's image into a snapshotter of its namespace: one job each, then all named in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sampan import errors
from sampan.containerd import leases, stacking
from sampan.containerd.interchange import labels
from sampan.containerd.interchange.steps import COMPLETE, DOWNLOADING, Tree
from sampan.containerd.layers import Layer, Layers
from sampan.containerd.leases import Lease
from sampan.containerd.metadata import Metadata
from sampan.containerd.remotes.registry import Repository
from sampan.containerd.services import Image, Progress
from sampan.containerd.stacking import Placed
from sampan.containerd.stores import ClientSnapshotter, Stores
from sampan.oci import digest as digests
from sampan.oci import image as images
from sampan.oci.image import Descriptor, Manifest

_EXTRACTION_LABEL = "containerd.io/snapshot.ref"


# (snapshotter, extraction key, parent, chain ID) of a snapshot that was made, for the events about it.
Made = tuple[str, str, str, str]


class Unpacker:
    """The layer jobs of one namespace and snapshotter, kept from transfer to transfer so that they are shared."""

    def __init__(self, metadata: Metadata, stores: Stores, snapshotter: ClientSnapshotter, layers: Layers) -> None:
        self._metadata, self._stores, self._snapshotter = metadata, stores, snapshotter
        self.layers = layers
        self._naming = asyncio.Lock()

    async def unpack(
        self, manifest: Manifest, repository: Repository | None, lease: Lease, tree: Tree, name: Callable[[], Image]
    ) -> list[Made]:
        """Fetch what is missing, unpack it, name it, and call `name` in the same transaction; the snapshots made.

        Without a repository the blobs are here. InvalidArgument, DataLoss, Unavailable."""
        chain = self._chain(lease, manifest)
        missing = [layer for layer in chain if not self._present(layer)]
        watch = watcher(tree, [layer.blob for layer in chain])
        jobs = {}
        try:
            for layer in missing:
                jobs[layer.chain] = job = await self.layers.join(layer, repository, watch)
                lease.protect(leases.SNAPSHOT, [job.key])
            done = await asyncio.gather(*(job.wait() for job in jobs.values()))
            unpacked = dict(zip(jobs, done, strict=True))
            placed = [Placed(layer, jobs.get(layer.chain), unpacked.get(layer.chain)) for layer in chain]
            made = [(self._snapshotter.name, jobs[one.chain].key, one.parent, one.chain) for one in missing]
            await self._finish(placed, chain, manifest, name)
            return made
        finally:
            for job in jobs.values():
                await job.leave(watch)

    async def _finish(
        self, placed: Sequence[Placed], chain: Sequence[Layer], manifest: Manifest, name: Callable[[], Image]
    ) -> None:
        def named() -> Image:
            for layer in chain:
                known = self._snapshotter.stat(layer.chain).labels
                if _EXTRACTION_LABEL not in known:
                    self._snapshotter.relabel(layer.chain, {**known, _EXTRACTION_LABEL: layer.chain})
            told = {layer.blob.digest: {labels.UNCOMPRESSED: layer.diff_id} for layer in chain}
            if chain:
                top = {labels.SNAPSHOT_REF + self._snapshotter.name: chain[-1].chain}
                told[manifest.config.digest] = top
            labels.write(self._stores.content, told)
            return name()

        async with self._naming:
            working = asyncio.ensure_future(
                asyncio.to_thread(stacking.finish, self._metadata, self._snapshotter, self.layers, placed, named)
            )
            try:
                await asyncio.shield(working)
            except asyncio.CancelledError:
                # It names all or nothing and takes a moment: let it end before the jobs' directories go.
                await asyncio.wait({working})
                raise

    def _chain(self, lease: Lease, manifest: Manifest) -> list[Layer]:
        for layer in manifest.layers:
            if layer.media_type not in images.LAYER_TYPES:
                raise errors.Unimplemented(f"no processor for media-type: {layer.media_type}")
        config = images.config_document(self._stores.content.read(manifest.config.digest))
        diff_ids = images.diff_ids(config)
        if len(diff_ids) != len(manifest.layers):
            raise errors.InvalidArgument("mismatched image rootfs and manifest layers")
        chain = digests.chain_ids(diff_ids)
        lease.protect(leases.SNAPSHOT, chain)
        parents = ["", *chain[:-1]]
        return [Layer(*one) for one in zip(chain, parents, diff_ids, manifest.layers, strict=False)]

    def _present(self, layer: Layer) -> bool:
        try:
            self._snapshotter.stat(layer.chain)
        except errors.NotFound:
            return False
        return self._stores.content.has(layer.blob.digest)


async def download(layers: Layers, blobs: Sequence[Descriptor], repository: Repository, tree: Tree) -> None:
    """Layers into the content store alone; `layers` are those of a snapshotter that does not stack."""
    watch = watcher(tree, blobs)
    jobs = []
    try:
        for blob in blobs:
            jobs.append(await layers.join(Layer(blob.digest, "", "", blob), repository, watch))
        await asyncio.gather(*(job.wait() for job in jobs))
    finally:
        for job in jobs:
            await job.leave(watch)


def watcher(tree: Tree, blobs: Sequence[Descriptor]) -> Callable[[Progress], None]:
    """A listener of layer jobs, whose lines name a layer by its short digest, that tells the tree."""
    by_id = {blob.digest.partition(":")[2][:12]: blob.digest for blob in blobs}

    def watch(line: Progress) -> None:
        digest = by_id.get(line.id, "")
        if line.status == "Downloading":
            tree.moved(digest, DOWNLOADING, line.current)
        elif line.status in ("Download complete", "Extracting"):
            tree.ended(digest, COMPLETE)

    return watch
