"""What one directory tree changed of another: the members of the layer between them (image-spec layer.md).

Both trees are walked side by side, names in byte order, by descriptor. Two files are the same when type, mode, owner,
device, size, extended attributes and time are; where a time has no fraction (it came from a tar) their bytes decide.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_PIECE = 1 << 20
# overlayfs' own, of no meaning outside; and of the security ones, only capabilities travel.
_OWN_XATTRS = ("trusted.overlay.", "user.overlay.")


@dataclass(frozen=True, slots=True)
class Change:
    """`path` is clean and relative; `status` is the new one's lstat, None for "deleted"."""

    kind: Literal["added", "modified", "deleted"]
    path: bytes
    status: os.stat_result | None


def changes(left_fd: int, right_fd: int) -> Iterator[Change]:
    """Of directory `right_fd` relative to `left_fd`, parents before their children. OSError."""
    yield from _compare(left_fd, right_fd, b"")


def xattrs(path: str) -> dict[str, bytes]:
    """The attributes of `path` (not followed) that a layer carries."""
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
        if not name.startswith(_OWN_XATTRS) and (not name.startswith("security.") or name == "security.capability")
    }


def at(directory_fd: int, name: bytes) -> str:
    """A path for calls that take no descriptor: xattrs above all."""
    return f"/proc/self/fd/{directory_fd}/{os.fsdecode(name)}"


def _names(fd: int) -> dict[bytes, os.stat_result]:
    with os.scandir(fd) as entries:
        found = {os.fsencode(entry.name): entry.stat(follow_symlinks=False) for entry in entries}
    return dict(sorted(found.items()))


def _compare(left_fd: int, right_fd: int, prefix: bytes) -> Iterator[Change]:
    left, right = _names(left_fd), _names(right_fd)
    for name in sorted(left.keys() | right.keys()):
        path = prefix + name
        if name not in right:
            yield Change("deleted", path, None)
            continue
        new, old = right[name], left.get(name)
        if old is None or stat.S_IFMT(old.st_mode) != stat.S_IFMT(new.st_mode):
            yield Change("added" if old is None else "modified", path, new)
            if stat.S_ISDIR(new.st_mode):
                yield from _all(right_fd, name, path + b"/")
            continue
        if not _same(left_fd, right_fd, name, old, new):
            yield Change("modified", path, new)
        if stat.S_ISDIR(new.st_mode):
            below_left = os.open(name, _DIRECTORY, dir_fd=left_fd)
            below_right = os.open(name, _DIRECTORY, dir_fd=right_fd)
            try:
                yield from _compare(below_left, below_right, path + b"/")
            finally:
                os.close(below_left)
                os.close(below_right)


def _all(parent_fd: int, name: bytes, prefix: bytes) -> Iterator[Change]:
    fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
    try:
        for child, status in _names(fd).items():
            yield Change("added", prefix + child, status)
            if stat.S_ISDIR(status.st_mode):
                yield from _all(fd, child, prefix + child + b"/")
    finally:
        os.close(fd)


def _same(left_fd: int, right_fd: int, name: bytes, old: os.stat_result, new: os.stat_result) -> bool:
    if (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino) and not stat.S_ISDIR(new.st_mode):
        return True
    if (old.st_mode, old.st_uid, old.st_gid, old.st_rdev) != (new.st_mode, new.st_uid, new.st_gid, new.st_rdev):
        return False
    if xattrs(at(left_fd, name)) != xattrs(at(right_fd, name)):
        return False
    if stat.S_ISDIR(new.st_mode):
        return True
    if old.st_size != new.st_size:
        return False
    if stat.S_ISLNK(new.st_mode):
        return os.readlink(name, dir_fd=left_fd) == os.readlink(name, dir_fd=right_fd)
    if old.st_mtime_ns // 10**9 != new.st_mtime_ns // 10**9:
        return False
    if old.st_mtime_ns % 10**9 and new.st_mtime_ns % 10**9:
        return old.st_mtime_ns == new.st_mtime_ns
    return not stat.S_ISREG(new.st_mode) or _same_bytes(left_fd, right_fd, name)


def _same_bytes(left_fd: int, right_fd: int, name: bytes) -> bool:
    with (
        open(os.open(name, _FILE, dir_fd=left_fd), "rb", buffering=0) as left,
        open(os.open(name, _FILE, dir_fd=right_fd), "rb", buffering=0) as right,
    ):
        while True:
            one, other = left.read(_PIECE), right.read(_PIECE)
            if one != other:
                return False
            if not one:
                return True
