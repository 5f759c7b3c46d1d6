"""Layer tars for the tests, of any shape, also those that no archiver would write."""

from __future__ import annotations

import io
import tarfile
from typing import Any

MTIME = 1_600_000_000


class Member(tarfile.TarInfo):
    content: bytes = b""


def file(name: str, content: bytes = b"", **fields: Any) -> Member:
    return member(name, tarfile.REGTYPE, content=content, **fields)


def directory(name: str, **fields: Any) -> Member:
    return member(name, tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def symlink(name: str, target: str, **fields: Any) -> Member:
    return member(name, tarfile.SYMTYPE, linkname=target, **fields)


def hardlink(name: str, target: str) -> Member:
    return member(name, tarfile.LNKTYPE, linkname=target)


def member(name: str, kind: bytes, **fields: Any) -> Member:
    info = Member(name)
    info.type, info.mtime = kind, MTIME
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def xattrs(info: Member, **values: bytes) -> Member:
    """With SCHILY.xattr records; "__" in a name stands for "."."""
    for name, value in values.items():
        # tarfile encodes with surrogateescape, so any bytes pass.
        info.pax_headers[f"SCHILY.xattr.{name.replace('__', '.')}"] = value.decode("utf-8", "surrogateescape")
    return info


def layer(*members: Member, format: int = tarfile.PAX_FORMAT) -> bytes:
    """The names are written as they are: "/", ".." and duplicates included."""
    out = io.BytesIO()
    for info in members:
        info.size = len(info.content)
        out.write(info.tobuf(format, encoding="utf-8", errors="surrogateescape"))
        out.write(info.content + bytes(-len(info.content) % 512))
    return out.getvalue() + bytes(1024)
