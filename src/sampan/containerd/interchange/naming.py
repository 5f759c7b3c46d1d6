"""Which names images get: those of containerd's transfer service (its `ImageStore` message), pure.

A reference that `is_prefix` names what an archive brings: a bare tag of the archive is put behind it, and a full name
counts when it begins with it (with `allow_overwrite` any full name does). `add_digest` adds PREFIX@DIGEST, unless
`skip_named_digest` is said and there was a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sampan.containerd.archive_reading import NAME_ANNOTATION, REF_ANNOTATION
from sampan.oci.image import Descriptor, Platform


@dataclass(frozen=True, slots=True)
class ImageReference:
    name: str
    is_prefix: bool = False
    allow_overwrite: bool = False
    add_digest: bool = False
    skip_named_digest: bool = False


@dataclass(frozen=True, slots=True)
class StoreTarget:
    """An image store as the end of a transfer. No `platforms` means all; `unpacks`: (platform, snapshotter or "")."""

    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    platforms: Sequence[Platform] = ()
    all_metadata: bool = False
    references: Sequence[ImageReference] = ()
    unpacks: Sequence[tuple[Platform, str]] = ()


def plain_names(target: StoreTarget, descriptor: Descriptor) -> list[str]:
    """For what comes from a registry or another name: the target's own, and its references that are no prefixes."""
    found = [target.name] if target.name else []
    for one in target.references:
        if not one.is_prefix:
            found.append(f"{one.name}@{descriptor.digest}" if one.add_digest else one.name)
    return found


def archived_names(target: StoreTarget, member: Descriptor) -> list[str]:
    """For an entry of an archive's index; none for one that no prefix takes."""
    found: list[str] = []
    for one in target.references:
        if not one.is_prefix:
            continue
        name = _name(member.annotations, one)
        digested = f"{one.name}@{member.digest}"
        if name:
            found.append(name)
        if one.add_digest and not (name and one.skip_named_digest):
            found.append(digested)
    return list(dict.fromkeys(found))


def _name(annotations: Mapping[str, str], prefix: ImageReference) -> str:
    full = annotations.get(NAME_ANNOTATION, "")
    if full:
        return full if _translated(full, prefix) == full else ""
    ref = annotations.get(REF_ANNOTATION, "")
    return _translated(ref, prefix) if ref else ""


def _translated(ref: str, prefix: ImageReference) -> str:
    if not prefix.name:
        return ""
    if not any(character in ref for character in "/:@"):
        return f"{prefix.name}:{ref}"
    return ref if prefix.allow_overwrite or _begins(ref, prefix.name) else ""


def _begins(name: str, prefix: str) -> bool:
    """Whole components only: "foo" is no prefix of "foobar/x"."""
    return name.startswith(prefix) and name[len(prefix) : len(prefix) + 1] in ("", "/", ":", "@")
