"""Names in a layer: how a member's path is read, and what the whiteout prefixes mean (image-spec layer.md)."""

from __future__ import annotations

from sampan import errors

WHITEOUT_PREFIX = b".wh."
OPAQUE_MARK = b".wh..wh..opq"
# AUFS's own bookkeeping (.wh..wh.plnk, .wh..wh.aufs): read over, as docker and containerd do.
META_PREFIX = b".wh..wh."


def clean(name: bytes) -> bytes:
    """`name` as the layer's root would read it: no leading "/", no "." and no "..", which stop at the root.

    "" is the root itself. InvalidArgument for a NUL, which no file system takes."""
    if b"\0" in name:
        raise errors.InvalidArgument("invalid name in layer: NUL byte")
    if not (name.startswith((b"/", b".")) or b"//" in name or b"/." in name):
        return name.rstrip(b"/")
    parts: list[bytes] = []
    for part in name.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)


def split(path: bytes) -> tuple[bytes, bytes]:
    """(parent, last name) of a clean path."""
    parent, _, name = path.rpartition(b"/")
    return parent, name


def removed_by(name: bytes) -> bytes:
    """The name that whiteout `name` removes. InvalidArgument for one that would reach outside its directory."""
    removed = name[len(WHITEOUT_PREFIX) :]
    if removed in (b"", b".", b".."):
        raise errors.InvalidArgument(f"invalid whiteout name: {name.decode(errors='replace')}")
    return removed


# The overlay file system keeps its own state in these; a layer that brings them would forge it.
_OVERLAY_XATTRS = ("trusted.overlay.", "user.overlay.")


def is_forged_xattr(name: str) -> bool:
    return name.startswith(_OVERLAY_XATTRS)
