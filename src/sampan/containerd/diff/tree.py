"""Directories of a layer being unpacked, by descriptor: no name is ever resolved outside the root.

A parent path is resolved by openat2(2) with RESOLVE_IN_ROOT, so symlinks that the layer itself brought lead where
the container would see them lead, and nowhere else; the last name of a member is never followed. Descriptors of
recent parents are kept, which spares most members the lookup.
"""

from __future__ import annotations

import os

from sampan.containerd.diff.names import Allowance, split
from sampan.linux.paths import mkdirs_in_root, open_in_root
from sampan.linux.trees import remove_tree

_KEPT = 64
# Of paths that are remembered until the layer is whole: millions of members with usual names.
_ALLOWANCE = 512 << 20
_PATH = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Tree:
    """The directory `root`, owned by the unpacker until `close`. `scratch` is a directory on the same file system
    that takes what a later member replaces, until it is deleted."""

    def __init__(self, root: str, scratch: str) -> None:
        self.fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._scratch = scratch
        self._kept: dict[bytes, int] = {}
        self._removed = 0
        # Directories that no member has named so far: made because something lies in them.
        self.implied: dict[bytes, None] = {}
        self.allowance = Allowance(_ALLOWANCE)

    def close(self) -> None:
        self.forget()
        os.close(self.fd)

    def directory(self, path: bytes) -> int:
        """An O_PATH descriptor of directory `path` (clean), made with its parents where missing. It stays the tree's,
        and is good until the next but one call. NotADirectoryError and OSError (ELOOP) as the kernel says."""
        if not path:
            return self.fd
        fd = self._kept.pop(path, -1)
        if fd < 0:
            fd = self._open(path)
            if len(self._kept) >= _KEPT:
                os.close(self._kept.pop(next(iter(self._kept))))
        self._kept[path] = fd
        return fd

    def existing(self, path: bytes) -> int:
        """A new O_PATH descriptor of directory `path` (clean), which is the caller's. FileNotFoundError."""
        return self._open(path, make=False) if path else os.dup(self.fd)

    def forget(self) -> None:
        """A directory or symlink was replaced: what paths mean may have changed."""
        for fd in self._kept.values():
            os.close(fd)
        self._kept.clear()

    def _open(self, path: bytes, make: bool = True) -> int:
        missing: list[bytes] = []
        fd = -1
        while path and fd < 0:
            if path in self._kept:
                fd = os.dup(self._kept[path])
                break
            try:
                fd = open_in_root(self.fd, path, _PATH)
                break
            except FileNotFoundError:
                if not make:
                    raise
            missing.append(path)
            path = split(path)[0]
        if fd < 0:
            fd = os.dup(self.fd)
        while missing:
            try:
                below = self._enter(fd, missing.pop(), make)
            finally:
                os.close(fd)
            fd = below
        return fd

    def _enter(self, parent_fd: int, path: bytes, make: bool) -> int:
        name = split(path)[1]
        if not make:
            return os.open(name, _PATH | os.O_NOFOLLOW, dir_fd=parent_fd)
        try:
            os.mkdir(name, 0o755, dir_fd=parent_fd)
            self.allowance.take(len(path))
            self.implied[path] = None
        except FileExistsError:
            # A dangling symlink, or somebody's file: the first is followed inside the root, the second an error.
            return mkdirs_in_root(self.fd, path)
        return os.open(name, _PATH | os.O_NOFOLLOW, dir_fd=parent_fd)

    def remove(self, parent_fd: int, name: bytes) -> None:
        """Delete whatever `name` is, however deep. FileNotFoundError."""
        self._removed += 1
        taken = f"replaced-{self._removed}"
        scratch_fd = os.open(self._scratch, _PATH)
        try:
            os.rename(name, taken, src_dir_fd=parent_fd, dst_dir_fd=scratch_fd)
        finally:
            os.close(scratch_fd)
        self.forget()
        remove_tree(self._scratch, taken)
