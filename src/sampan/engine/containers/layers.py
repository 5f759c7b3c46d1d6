"""Reading a file of a container without mounting it: overlayfs lookup done by hand over its directories.

The directories belong to images and containers, so nothing in them is trusted: every name is opened relative to a
directory fd without following, symlinks are resolved inside the stack, sizes are capped by the caller.
Rules from the kernel's Documentation/filesystems/overlayfs.rst: a 0:0 character device hides a name, the attribute
trusted.overlay.opaque=y hides everything below a directory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from sampan.containerd.services import Mount

_MAX_LINKS = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def directories(mounts: Sequence[Mount]) -> list[str] | None:
    """The layer directories of a snapshot, topmost first; None for a shape that only the kernel can read."""
    if len(mounts) != 1:
        return None
    mount = mounts[0]
    if mount.type in ("bind", "rbind"):
        return [mount.source]
    if mount.type != "overlay":
        return None
    lower: list[str] = []
    upper: list[str] = []
    for option in mount.options:
        key, _, value = option.partition("=")
        if key == "lowerdir":
            lower = [part for part in value.split(":") if part]
        elif key == "lowerdir+":
            lower.append(value)
        elif key == "upperdir":
            upper = [value]
    return upper + lower


def read_file(stack: Sequence[str], path: str, limit: int) -> bytes:
    """At most `limit` bytes of the regular file `path`; b"" when there is none."""
    fd = _find(stack, path, os.O_RDONLY)
    if fd is None:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        chunks = []
        while limit > 0 and (chunk := os.read(fd, min(limit, 65536))):
            chunks.append(chunk)
            limit -= len(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)


def kind(stack: Sequence[str], path: str) -> str:
    """ "directory" (with content), "empty" (a directory without), "file" or "missing"."""
    found = _walk(stack, path)
    if not found:
        return "missing"
    try:
        if not stat.S_ISDIR(os.fstat(found[0]).st_mode):
            return "file"
        return "directory" if any(_has_entries(fd) for fd in found) else "empty"
    finally:
        _close(found)


def _has_entries(fd: int) -> bool:
    directory = os.open(".", _DIRECTORY, dir_fd=fd)
    try:
        return bool(os.listdir(directory))
    finally:
        os.close(directory)


def _find(stack: Sequence[str], path: str, flags: int) -> int | None:
    found = _walk(stack, path)
    if not found:
        return None
    try:
        # An O_PATH fd cannot be read: opened again through /proc, which names exactly this inode.
        return os.open(f"/proc/self/fd/{found[0]}", flags | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        _close(found)


def _walk(stack: Sequence[str], path: str) -> list[int]:
    """O_PATH fds of what `path` is: one for a file, one per contributing layer for a directory, none if missing."""
    if "\0" in path:
        return []  # an image's, which no file system takes
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    trail: list[list[int]] = [[os.open(directory, _DIRECTORY) for directory in stack]]
    links = 0
    try:
        while todo:
            name = todo.pop()
            if name == "..":
                if len(trail) > 1:
                    _close(trail.pop())
                continue
            found = _enter(trail[-1], name)
            if not found:
                return []
            mode = os.fstat(found[0]).st_mode
            if stat.S_ISLNK(mode):
                target = os.fsdecode(os.readlink(b"", dir_fd=found[0]))
                _close(found)
                links += 1
                if links > _MAX_LINKS:
                    return []
                if target.startswith("/"):
                    while len(trail) > 1:
                        _close(trail.pop())
                todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
                continue
            trail.append(found)
            if todo and not stat.S_ISDIR(mode):
                return []
        return trail.pop()
    finally:
        for fds in trail:
            _close(fds)


def _enter(layers: Sequence[int], name: str) -> list[int]:
    """What `name` is in the merged directory whose layers are given, topmost first."""
    found: list[int] = []
    for layer in layers:
        try:
            fd = os.open(name, _PATH, dir_fd=layer)
        except (FileNotFoundError, NotADirectoryError):
            continue
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            found.append(fd)
            if _opaque(fd):
                break
            continue
        if found or (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):
            os.close(fd)
        else:
            found.append(fd)
        break
    return found


def _opaque(fd: int) -> bool:
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", "trusted.overlay.opaque") == b"y"
    except OSError:
        # ENODATA nearly always; a file system without trusted attributes has no opaque directories.
        return False


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
