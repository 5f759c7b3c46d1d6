"""The engine's view of the core's image names: images by ID, with their tags and digests.

The core knows names that point at manifests or indexes; Docker knows images by the digest of their config, each
with any number of tags (x:1.0) and digests (x@sha256:...). An image that lost its last name stays under
`DANGLING@<manifest digest>` until it is removed or pruned.

Documents are immutable, so what was read from them is kept in memory by manifest digest; names are always read anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sampan.containerd.services import Content, Image, Snapshotter
from sampan.containerd.services import Images as Names
from sampan.engine.services import ImageRecord
from sampan.errors import InvalidArgument, NotFound
from sampan.oci import digest, image, platform, reference
from sampan.oci.image import Descriptor, Index, Manifest, Platform
from sampan.oci.reference import Reference

DANGLING = "moby-dangling"

# On a name: which manifest of its index it stands for, when that is not this host's.
PLATFORM_LABEL = "sampan.image.platform"

_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Details:
    """What a manifest says: `id` is its config's digest, `chain` the chain ID of each layer, lowest first."""

    id: str
    manifest: Descriptor
    config: Mapping[str, Any]
    platform: Platform
    diff_ids: Sequence[str]
    chain: Sequence[str]
    embedded: bool = False
    """Whether it is `sampan/host`, whose layer is this machine and not a blob."""

    @property
    def labels(self) -> Mapping[str, str]:
        return (self.config.get("config") or {}).get("Labels") or {}


@dataclass(frozen=True, slots=True)
class Entry:
    """One image and the names it goes by; `tags` and `digests` are normalised references."""

    details: Details
    names: Sequence[Image]
    tags: Sequence[Reference]
    digests: Sequence[Reference]

    @property
    def id(self) -> str:
        return self.details.id


class Catalog:
    """engine.services.Images, and the finding that every image verb starts with."""

    def __init__(self, names: Names, content: Content, snapshots: Snapshotter) -> None:
        self.names = names
        self.snapshots = snapshots
        self._content = content
        self._known: dict[str, Manifest | Index] = {}
        self._details: dict[str, Details] = {}
        self._host = platform.host()

    # finding

    def resolve(self, reference: str, platform: str = "") -> ImageRecord:
        """engine.services.Images. `platform` as "linux/arm64"; NotFound when the image is for another one."""
        details, shown = self.find(reference, platform)
        parent = details.chain[-1] if details.chain else ""
        return ImageRecord(details.id, shown, details.config, parent)

    def find(self, text: str, wanted: str = "") -> tuple[Details, str]:
        """The image that `text` names, and the familiar form of it. NotFound, InvalidArgument in Docker's words."""
        asked = platform.parse(wanted) if wanted else None
        named = self._named(text)
        if named is not None:
            found = self._by_name(named, asked)
            if found is not None:
                return self._suiting(found, text, asked), named.familiar
        identity = _identity(text)
        if identity:
            matches = [entry for entry in self.entries() if entry.id.removeprefix("sha256:").startswith(identity)]
            if len(matches) == 1:
                return self._suiting(matches[0].details, text, asked), text
        raise NotFound(f"No such image: {named.familiar if named else text}")

    def entry(self, text: str) -> Entry:
        """Like `find`, with all the names of the image."""
        details, _ = self.find(text)
        return self.entry_of(details.id)

    def entry_of(self, image_id: str) -> Entry:
        """By full ID. NotFound."""
        for entry in self.entries():
            if entry.id == image_id:
                return entry
        raise NotFound(f"No such image: {image_id}")

    def entries(self) -> Sequence[Entry]:
        """Every image, in no particular order. A name whose documents are not all here is left out."""
        found: dict[str, tuple[Details, list[Image]]] = {}
        for name in self.names.list():
            details = self.details_of(name)
            if details is not None:
                found.setdefault(details.id, (details, []))[1].append(name)
        return [_entry(details, names) for details, names in found.values()]

    def count(self) -> int:
        return len(self.entries())

    def named(self, name: Reference) -> Image | None:
        """The core's record of exactly this name."""
        try:
            return self.names.get(str(name))
        except NotFound:
            return None

    def _named(self, text: str) -> Reference | None:
        """`text` as a name with tag or digest; None for an ID. InvalidArgument."""
        if text.startswith("sha256:") or (len(text) == 64 and set(text) <= _HEX):
            return None
        return reference.parse_normalized(text).with_default_tag()

    def _by_name(self, name: Reference, wanted: Platform | None) -> Details | None:
        if name.digest:
            # A tag beside a digest says nothing more: the digest is what counts.
            name = Reference(name.domain, name.path, "", name.digest)
        record = self.named(name)
        return None if record is None else self.details_of(record, wanted)

    def _suiting(self, details: Details, text: str, wanted: Platform | None) -> Details:
        if wanted is not None and platform.rank(wanted, details.platform) is None:
            raise NotFound(mismatch(text, details.platform, wanted))
        return details

    # reading documents

    def details_of(self, name: Image, wanted: Platform | None = None) -> Details | None:
        """The image that a core name stands for; None as for `details`."""
        label = name.labels.get(PLATFORM_LABEL, "")
        return self.details(name.target, wanted or (platform.parse(label) if label else None))

    def details(self, target: Descriptor, wanted: Platform | None = None) -> Details | None:
        """The image behind `target`: of an index the present manifest that suits `wanted` (or this host) best.

        None when its documents are not in the store, or are no image."""
        document = self._document(target)
        if document is None:
            return None
        if isinstance(document, Manifest):
            return self._image(target, document)
        present = [
            found
            for member in document.manifests
            if isinstance(manifest := self._document(member), Manifest)
            and (found := self._image(member, manifest)) is not None
        ]
        if not present:
            return None
        best = platform.choose(wanted or self._host, [found.platform for found in present])
        # An image pulled for another platform on purpose is shown all the same.
        return present[best if best is not None else 0]

    def _document(self, descriptor: Descriptor) -> Manifest | Index | None:
        known = self._known.get(descriptor.digest)
        if known is not None:
            return known if self._is_there(descriptor.digest) else None
        try:
            found = image.parse(self._content.read(descriptor.digest), descriptor.media_type)
        except (NotFound, InvalidArgument):
            return None
        self._known[descriptor.digest] = found
        return found

    def _is_there(self, blob: str) -> bool:
        try:
            self._content.info(blob)
        except NotFound:
            return False
        return True

    def _image(self, descriptor: Descriptor, manifest: Manifest) -> Details | None:
        known = self._details.get(descriptor.digest)
        if known is not None:
            return known if self._is_there(known.id) else None
        if manifest.config.media_type not in image.CONFIG_TYPES:
            return None
        try:
            config = image.config_document(self._content.read(manifest.config.digest))
            diff_ids = image.diff_ids(config)
        except (NotFound, InvalidArgument):
            return None
        own = Platform(
            str(config.get("os") or "linux"), str(config.get("architecture") or ""), str(config.get("variant") or "")
        )
        embedded = any(layer.media_type == image.MEDIA_HOST_LAYER for layer in manifest.layers)
        found = Details(manifest.config.digest, descriptor, config, own, diff_ids, digest.chain_ids(diff_ids), embedded)
        self._details[descriptor.digest] = found
        return found

    # sizes

    def layer_size(self, chain_id: str) -> int:
        """Bytes of one unpacked layer; 0 when it is not there."""
        try:
            return self.snapshots.usage(chain_id).size
        except NotFound:
            return 0

    def size(self, details: Details) -> int:
        """Bytes of all unpacked layers."""
        return sum(self.layer_size(chain_id) for chain_id in details.chain)


def mismatch(shown: str, found: Platform, wanted: Platform) -> str:
    """dockerd's words for an image of another platform than was asked for."""
    return (
        f"image with reference {shown} was found but its platform ({platform.format(found)}) "
        f"does not match the specified platform ({platform.format(wanted)})"
    )


def _identity(text: str) -> str:
    """The hex of an ID or ID prefix, "" when it cannot be one."""
    hexadecimal = text.removeprefix("sha256:")
    return hexadecimal if hexadecimal and len(hexadecimal) <= 64 and set(hexadecimal) <= _HEX else ""


def parse_name(name: str) -> Reference | None:
    """A core name as a reference; None for a dangling image's stand-in."""
    if name.startswith(DANGLING + "@"):
        return None
    try:
        return reference.parse(name)
    except InvalidArgument:
        return None


def _entry(details: Details, names: Sequence[Image]) -> Entry:
    references = [found for name in names if (found := parse_name(name.name)) is not None]
    return Entry(
        details=details,
        names=names,
        tags=[found for found in references if found.tag],
        digests=[found for found in references if found.digest],
    )
