"""What a transfer tells while it goes: containerd's progress events, which its clients draw as a tree.

A step without a descriptor of its own is a heading ("Pulling from OCI Registry (REF)"); one with it is a node: named by
kind and digest, hung below its parents, `waiting` until it is `already exists`, `downloading` and then `complete`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sampan.containerd.archive_reading import REF_ANNOTATION
from sampan.oci import image
from sampan.oci.image import Descriptor

WAITING, EXISTS, DOWNLOADING, UPLOADING, COMPLETE = (
    "waiting",
    "already exists",
    "downloading",
    "uploading",
    "complete",
)
_ENDED = (EXISTS, COMPLETE)


@dataclass(frozen=True, slots=True)
class Step:
    """`progress` of `total` bytes, 0 where it means nothing."""

    event: str
    name: str = ""
    parents: Sequence[str] = ()
    progress: int = 0
    total: int = 0
    descriptor: Descriptor | None = None


Report = Callable[[Step], None]


def node_name(descriptor: Descriptor) -> str:
    """As containerd names the ingest of a descriptor: "layer-sha256:...", with the tag before the digest if one is
    noted."""
    kind = "unknown"
    if descriptor.media_type in image.MANIFEST_TYPES:
        kind = "manifest"
    elif descriptor.media_type in image.INDEX_TYPES:
        kind = "index"
    elif descriptor.media_type in image.CONFIG_TYPES:
        kind = "config"
    elif descriptor.media_type in image.LAYER_TYPES | image.FOREIGN_LAYER_TYPES:
        kind = "layer"
    tag = descriptor.annotations.get(REF_ANNOTATION, "")
    return f"{kind}-{tag}@{descriptor.digest}" if tag else f"{kind}-{descriptor.digest}"


class Tree:
    """The nodes of one transfer, each told of as it changes."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._nodes: dict[str, Step] = {}

    def add(self, descriptor: Descriptor, parent: str) -> None:
        """A node below the one named `parent`; it may hang below several."""
        known = self._nodes.get(descriptor.digest)
        if known is not None:
            if parent not in known.parents:
                self._nodes[descriptor.digest] = replace(known, parents=(*known.parents, parent))
            return
        self._tell(Step(WAITING, node_name(descriptor), (parent,), 0, descriptor.size, descriptor))

    def moved(self, digest: str, event: str, progress: int) -> None:
        """So many bytes are through. Not told of a node that has ended."""
        node = self._nodes.get(digest)
        if node is not None and node.event not in _ENDED:
            self._tell(replace(node, event=event, progress=progress))

    def ended(self, digest: str, event: str = COMPLETE) -> None:
        node = self._nodes.get(digest)
        if node is not None and node.event not in _ENDED:
            self._tell(replace(node, event=event, progress=node.total))

    def end_all(self) -> None:
        """What has not ended by now is complete; the top is told of again, for clients that show a heading only once
        something follows it."""
        for digest in list(self._nodes):
            self.ended(digest)
        for top in list(self._nodes.values())[:1]:
            self._tell(top)

    def _tell(self, step: Step) -> None:
        assert step.descriptor is not None
        self._nodes[step.descriptor.digest] = step
        self._report(step)
