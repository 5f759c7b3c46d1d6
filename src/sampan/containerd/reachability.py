"""What images reach: the documents, layers and chain IDs behind a descriptor, as far as they are in the store.

The walk that garbage collection marks with, and that push, export and the platform choice share.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from sampan import errors
from sampan.oci import digest, image, platform
from sampan.oci.image import Descriptor, Index, Manifest, Platform


class Blobs(Protocol):
    def has(self, digest: str) -> bool: ...

    def read(self, digest: str) -> bytes: ...


# A document that is larger is no manifest, whatever its descriptor says (the registries' own limit).
DOCUMENT_LIMIT = 4 << 20


def document(blobs: Blobs, descriptor: Descriptor) -> Manifest | Index:
    """The manifest or index behind `descriptor`. NotFound; InvalidArgument for something else."""
    return image.parse(blobs.read(descriptor.digest), descriptor.media_type)


def manifests(blobs: Blobs, target: Descriptor) -> Iterator[tuple[Descriptor, Manifest]]:
    """Every image manifest under `target` that is present, the index's order kept."""
    for descriptor, found in documents(blobs, target):
        if isinstance(found, Manifest):
            yield descriptor, found


def documents(blobs: Blobs, target: Descriptor) -> Iterator[tuple[Descriptor, Manifest | Index]]:
    """Every index and manifest under `target` that is present, each digest once, parents first."""
    seen: set[str] = set()
    pending = [target]
    while pending:
        descriptor = pending.pop(0)
        if descriptor.digest in seen or not blobs.has(descriptor.digest):
            continue
        seen.add(descriptor.digest)
        try:
            found = document(blobs, descriptor)
        except (errors.InvalidArgument, errors.NotFound):
            continue  # an artifact of another kind: a leaf, kept alive by whoever names it
        yield descriptor, found
        if isinstance(found, Index):
            pending += found.manifests


def reach(blobs: Blobs, target: Descriptor) -> tuple[set[str], set[str]]:
    """(digests of blobs, chain IDs of snapshots) that `target` needs, present or not."""
    wanted, chains = {target.digest}, set[str]()
    for descriptor, found in documents(blobs, target):
        wanted.add(descriptor.digest)
        if isinstance(found, Index):
            wanted |= {member.digest for member in found.manifests}
            continue
        wanted.add(found.config.digest)
        wanted |= {layer.digest for layer in found.layers}
        if blobs.has(found.config.digest):
            chains |= set(chain_ids(blobs, found))
    return wanted, chains


def chain_ids(blobs: Blobs, manifest: Manifest) -> list[str]:
    """The chain ID of each layer, from the config; [] for a config that is none (an artifact). NotFound."""
    try:
        return digest.chain_ids(image.diff_ids(image.config_document(blobs.read(manifest.config.digest))))
    except errors.InvalidArgument:
        return []


def runnable(blobs: Blobs, target: Descriptor, wanted: Platform) -> tuple[Descriptor, Manifest] | None:
    """The manifest under `target` that is here and suits `wanted` best; None when there is none. NotFound (target)."""
    parsed = document(blobs, target)
    if isinstance(parsed, Manifest):
        return (target, parsed) if parsed.config.media_type in image.CONFIG_TYPES else None
    present = [member for member in parsed.manifests if blobs.has(member.digest)]
    chosen = platform.choose(wanted, [member.platform for member in present])
    return None if chosen is None else runnable(blobs, present[chosen], wanted)


def is_whole(blobs: Blobs, target: Descriptor) -> bool:
    """Whether everything an index names is here, all platforms' layers included."""
    return all(blobs.has(digest) for digest in reach(blobs, target)[0])
