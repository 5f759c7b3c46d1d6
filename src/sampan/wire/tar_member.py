"""Writing the tar of an image layer: one member's header, with PAX records where ustar has no room. No I/O.

The bytes of a member depend on its arguments alone, so the same tree always gives the same layer. Sources: pax(1)
"ustar Interchange Format" and "pax Extended Header", and `SCHILY.xattr.` as Go, GNU tar and libarchive write it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

BLOCK = 512
END = bytes(2 * BLOCK)
"""What stands after the last member."""

_NAME, _PREFIX, _LINK = 100, 155, 100
_SMALL, _LARGE = 0o7777777, 0o77777777777


def member(
    name: bytes,
    kind: bytes,
    *,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    linkname: bytes = b"",
    major: int = 0,
    minor: int = 0,
    xattrs: Mapping[str, bytes] | None = None,
) -> bytes:
    """The header blocks of a member of `kind` (wire.layer_tar's constants); `size` bytes of data and `padding` follow.

    `mtime` in seconds since the epoch, not negative ones. A directory's name ends in "/"."""
    records: dict[bytes, bytes] = {}
    prefix, short = _split(name)
    if not short:
        records[b"path"], short = name, name[:_NAME]
    if len(linkname) > _LINK or not linkname.isascii():
        records[b"linkpath"] = linkname
    if not name.isascii():
        records[b"path"] = name
    for key, number, most in ((b"uid", uid, _SMALL), (b"gid", gid, _SMALL), (b"size", size, _LARGE)):
        if number > most:
            records[key] = b"%d" % number
    for attribute, value in (xattrs or {}).items():
        records[b"SCHILY.xattr." + attribute.encode("utf-8", "surrogateescape")] = value
    block = _header(short, prefix, kind, mode, uid, gid, size, max(mtime, 0), linkname[:_LINK], major, minor)
    if not records:
        return block
    payload = b"".join(_record(key, value) for key, value in sorted(records.items()))
    last = name.rstrip(b"/").rpartition(b"/")[2][:50]
    extended = _header(b"PaxHeaders.0/" + last, b"", b"x", 0o644, 0, 0, len(payload), 0, b"", 0, 0)
    return extended + payload + padding(len(payload)) + block


def padding(size: int) -> bytes:
    """What fills the last block of `size` bytes of data."""
    return bytes(-size % BLOCK)


def _split(name: bytes) -> tuple[bytes, bytes]:
    """(prefix, name) of ustar, ("", "") for a name that does not fit."""
    if len(name) <= _NAME:
        return b"", name
    cut = name.rfind(b"/", 0, min(len(name) - 1, _PREFIX + 1))
    if cut > 0 and len(name) - cut - 1 <= _NAME:
        return name[:cut], name[cut + 1 :]
    return b"", b""


def _record(key: bytes, value: bytes) -> bytes:
    """ "LENGTH key=value\\n", where the length counts itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    while length != rest + len(str(length)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _octal(value: int, width: int) -> bytes:
    """Digits and a NUL; a value without room is 0 here and in a PAX record."""
    digits = b"%0*o" % (width - 1, value)
    return (digits if len(digits) < width else b"0" * (width - 1)) + b"\0"


def _header(
    name: bytes,
    prefix: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    linkname: bytes,
    major: int,
    minor: int,
) -> bytes:
    before = (
        name.ljust(_NAME, b"\0")
        + _octal(mode, 8)
        + _octal(uid, 8)
        + _octal(gid, 8)
        + _octal(size, 12)
        + _octal(mtime, 12)
    )
    after = (
        kind
        + linkname.ljust(_LINK, b"\0")
        + b"ustar\x0000"
        + bytes(64)
        + _octal(major, 8)
        + _octal(minor, 8)
        + prefix.ljust(_PREFIX, b"\0")
        + bytes(12)
    )
    total = sum(before) + sum(b" " * 8) + sum(after)
    return before + b"%06o\0 " % total + after
