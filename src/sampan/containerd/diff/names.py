"""Names in a layer: how a member's path is read, and what the whiteout prefixes mean (image-spec layer.md)."""

from __future__ import annotations

from sampan import errors

WHITEOUT_PREFIX = b".wh."
OPAQUE_MARK = b".wh..wh..opq"
# AUFS's own bookkeeping (.wh..wh.plnk, .wh..wh.aufs): read over, as docker and containerd do.
META_PREFIX = b".wh..wh."
# PATH_MAX less its NUL: docker and containerd, who give the kernel a member's whole path, refuse a longer one.
MAX_PATH = 4095


class Allowance:
    """Bytes that one layer may make us remember. Its blob is no measure: a thousand members cost a few bytes.

    `take` raises InvalidArgument when they are used up."""

    __slots__ = ("_left",)

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise errors.InvalidArgument("invalid layer: too many names to remember")


def clean(name: bytes) -> bytes:
    """`name` as the layer's root would read it: no leading "/", no "." and no "..", which stop at the root.

    "" is the root itself. InvalidArgument for a NUL, which no file system takes, and for more than MAX_PATH bytes."""
    if len(name) > MAX_PATH:
        raise errors.InvalidArgument(
            f'invalid name in layer: "{name[:100].decode(errors="replace")}...": File name too long'
        )
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
