"""The labels by which garbage collection follows an image: containerd's, since its clients write and read them too."""

from __future__ import annotations

from collections.abc import Mapping

from sampan.containerd import reachability
from sampan.containerd.content import ContentStore
from sampan.oci.image import Descriptor, Index, Manifest

CONFIG_REF, LAYER_REF, MANIFEST_REF = (f"containerd.io/gc.ref.content.{kind}" for kind in ("config", "l", "m"))
SNAPSHOT_REF = "containerd.io/gc.ref.snapshot."
SOURCE = "containerd.io/distribution.source."
UNCOMPRESSED = "containerd.io/uncompressed"


def children(document: Manifest | Index) -> dict[str, str]:
    """What the blob of `document` refers to."""
    if isinstance(document, Index):
        return {f"{MANIFEST_REF}.{number}": member.digest for number, member in enumerate(document.manifests)}
    layers = {f"{LAYER_REF}.{number}": layer.digest for number, layer in enumerate(document.layers)}
    return {CONFIG_REF: document.config.digest, **layers}


def of_documents(content: ContentStore, target: Descriptor) -> dict[str, dict[str, str]]:
    """{digest: labels} of every document under `target` that is here."""
    return {one.digest: children(found) for one, found in reachability.documents(content, target)}


def sourced(labels: Mapping[str, str], host: str, repository: str) -> dict[str, str]:
    """The label that a blob is also known in `repository` of `host`, beside those that `labels` have already."""
    key = SOURCE + host
    known = [one for one in labels.get(key, "").split(",") if one]
    return {key: ",".join(sorted({*known, repository}))}


def write(content: ContentStore, labels: Mapping[str, Mapping[str, str]]) -> None:
    """Put labels on blobs, those that are not here left out; to be called inside a durable transaction."""
    for digest, wanted in labels.items():
        if content.has(digest):
            content.label(digest, wanted)


def merged(*found: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    made: dict[str, dict[str, str]] = {}
    for one in found:
        for digest, labels in one.items():
            made.setdefault(digest, {}).update(labels)
    return made
