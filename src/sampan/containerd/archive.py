"""Image archives: an OCI image layout in a tar, with docker's `manifest.json` beside it (image-spec image-layout.md).

Written as `docker save` of 25 and later and `ctr images export` write it, so docker, podman, skopeo and containerd
read it. What is read is `archive_reading.py`'s. Both ways are streams:

    found = await import_archive(content, lease, pieces)        # pieces: async iterator of bytes, compressed or not
    async for piece in export_archive(content, images): ...
"""

from __future__ import annotations

import asyncio
import json
import os
import tarfile
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from sampan import errors
from sampan.containerd import reachability
from sampan.containerd.archive_reading import NAME_ANNOTATION, REF_ANNOTATION, Imported, Importer
from sampan.containerd.content import ContentStore
from sampan.containerd.diff.stream import decompressed
from sampan.containerd.leases import Lease
from sampan.containerd.remotes.download import Cut, Pipe
from sampan.oci import image, platform, reference
from sampan.oci.image import Descriptor, Index, Manifest, Platform, descriptor_document

_CHUNK = 1 << 20
_INFLATED = 1 << 18


async def import_archive(content: ContentStore, lease: Lease, archive: AsyncIterator[bytes]) -> list[Imported]:
    """Store the blobs of an image archive (OCI layout or `docker save` of any age; plain, gzip or zstd) as it streams
    in; the images it names, which the caller names in its turn while `lease` holds them.

    InvalidArgument for what is no image archive; DataLoss for a blob that is not what its name says."""
    pipe = Pipe()
    working = asyncio.ensure_future(asyncio.to_thread(_read, pipe, content, lease))
    try:
        async for piece in archive:
            await pipe.put(piece)
        pipe.end()
        return await asyncio.shield(working)
    except Cut:
        return await working
    except BaseException:
        pipe.cut()
        await asyncio.wait({working})
        if not working.cancelled():
            working.exception()  # that it was cut, which is not the failure to tell
        raise


def _read(pipe: Pipe, content: ContentStore, lease: Lease) -> list[Imported]:
    """In a thread."""
    importer = Importer(content, lease, f"import-{os.urandom(8).hex()}")
    try:
        stream = decompressed(pipe)
        while piece := stream.read(_INFLATED):
            importer.feed(piece)
        return importer.finish()
    finally:
        importer.close()
        pipe.leave()


async def export_archive(
    content: ContentStore,
    images: Sequence[tuple[str, Descriptor]],
    *,
    platforms: Sequence[Platform] | None = None,
    docker: bool = True,
) -> AsyncIterator[bytes]:
    """`export`, read by threads so that no disk stops the loop."""
    pieces = export(content, images, platforms=platforms, docker=docker)
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece


def export(
    content: ContentStore,
    images: Sequence[tuple[str, Descriptor]],
    *,
    platforms: Sequence[Platform] | None = None,
    docker: bool = True,
) -> Iterator[bytes]:
    """The archive of (name or "", target) images, in pieces of at most 1 MiB; what an index names and is not here is
    left out, as are members for none of `platforms` (None takes all). `docker`: with a `manifest.json`.

    NotFound when a target, or all of what it names, is not in the store as a whole; InvalidArgument for the machine's
    own root file system."""
    wanted: dict[str, int] = {}
    listed: list[dict[str, Any]] = []
    entries: dict[str, dict[str, Any]] = {}
    for name, target in images:
        manifests = _gather(content, target, platforms, wanted)
        listed.append(_index_entry(name, target))
        _docker_entry(entries, name, target, manifests)
    yield _header("blobs", tarfile.DIRTYPE, 0o755, 0)
    for algorithm in sorted({digest.partition(":")[0] for digest in wanted}):
        yield _header(f"blobs/{algorithm}", tarfile.DIRTYPE, 0o755, 0)
    for digest, size in sorted(wanted.items()):
        yield _header("blobs/" + digest.replace(":", "/"), tarfile.REGTYPE, 0o644, size)
        with content.open(digest) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
        if size % 512:
            yield bytes(-size % 512)
    top: dict[str, Any] = {
        "index.json": {"schemaVersion": 2, "mediaType": image.MEDIA_OCI_INDEX, "manifests": listed},
        "manifest.json": list(entries.values()),
        "oci-layout": {"imageLayoutVersion": "1.0.0"},
    }
    if not docker:
        del top["manifest.json"]
    for name, document in top.items():
        data = json.dumps(document).encode()
        yield _header(name, tarfile.REGTYPE, 0o644, len(data)) + data + bytes(-len(data) % 512)
    yield bytes(1024)


def _gather(
    content: ContentStore, target: Descriptor, platforms: Sequence[Platform] | None, wanted: dict[str, int]
) -> list[Manifest]:
    """Add what an image needs to `wanted` (digest: size); its whole manifests, best first."""
    documents = list(reachability.documents(content, target))
    if not documents:
        raise errors.NotFound(f"content {target.digest}: not found")
    left_out: set[str] = set()
    for _, found in documents:
        if platforms is not None and isinstance(found, Index):
            left_out |= {member.digest for member in found.manifests if not _suits(member, platforms)}
    manifests, is_broken = [], False
    for descriptor, found in documents:
        if descriptor.digest in left_out and descriptor.digest != target.digest:
            continue
        wanted[descriptor.digest] = content.info(descriptor.digest).size
        if isinstance(found, Manifest):
            missing = _add_blobs(content, found, wanted)
            is_broken = is_broken or missing != ""
            if not missing:
                manifests.append(found)
            elif descriptor.digest == target.digest:
                raise errors.NotFound(f"content {missing}: not found")
    if is_broken and not manifests:
        raise errors.NotFound(f"content {target.digest}: nothing of it is here as a whole: not found")
    return manifests


def _suits(member: Descriptor, wanted: Sequence[Platform]) -> bool:
    offered = member.platform
    return offered is None or any(platform.rank(one, offered) == 0 for one in wanted)


def _add_blobs(content: ContentStore, manifest: Manifest, wanted: dict[str, int]) -> str:
    """The digest of what is missing, "" when all is here."""
    missing = ""
    for blob in (manifest.config, *manifest.layers):
        if blob.media_type == image.MEDIA_HOST_LAYER:
            raise errors.InvalidArgument("the image of this machine's own root file system cannot be saved")
        if content.has(blob.digest):
            wanted[blob.digest] = content.info(blob.digest).size
        elif blob.media_type not in image.FOREIGN_LAYER_TYPES:
            missing = missing or blob.digest
    return missing


def _index_entry(name: str, target: Descriptor) -> dict[str, Any]:
    annotations = dict(target.annotations)
    if name:
        annotations[NAME_ANNOTATION] = name
        tag = reference.parse_normalized(name).tag
        if tag:
            annotations[REF_ANNOTATION] = tag
    return {**descriptor_document(target), **({"annotations": annotations} if annotations else {})}


def _docker_entry(
    entries: dict[str, dict[str, Any]], name: str, target: Descriptor, manifests: Sequence[Manifest]
) -> None:
    """Docker's own description of the first manifest, which is the one that is here of an index; one for all names."""
    parsed = reference.parse_normalized(name) if name else None
    tags = [parsed.familiar] if parsed and parsed.tag else []
    runs = next((one for one in manifests if one.config.media_type in image.CONFIG_TYPES), None)
    if runs is None:
        return
    entry = entries.setdefault(
        target.digest,
        {
            "Config": "blobs/" + runs.config.digest.replace(":", "/"),
            "RepoTags": None,
            "Layers": ["blobs/" + layer.digest.replace(":", "/") for layer in runs.layers],
        },
    )
    if tags:
        entry["RepoTags"] = [*(entry["RepoTags"] or ()), *tags]


def _header(name: str, kind: bytes, mode: int, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size = kind, mode, size
    return info.tobuf(tarfile.PAX_FORMAT)
