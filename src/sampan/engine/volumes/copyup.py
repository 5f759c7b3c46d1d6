"""Copy-up: what an image has at a mount point becomes the first content of an empty volume.

Both sides are walked by directory descriptors and no symlink is ever followed, so that neither an image's links
nor a container that already uses the volume can lead the copy elsewhere. Kept: type, owner, mode, times, xattrs
of files and directories, hard links inside the tree.
"""

from __future__ import annotations

import errno
import os
import stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20


def copy_if_empty(source_fd: int, target: str) -> None:
    """Copy the tree of the directory `source_fd` into the directory `target` unless that has anything in it.

    OSError. A copy that fails half-way leaves what it made."""
    # An own description: the caller's may be O_PATH, and reading a directory moves its offset.
    source = os.open(".", _DIRECTORY, dir_fd=source_fd)
    try:
        destination = os.open(target, _DIRECTORY)
        try:
            with os.scandir(destination) as entries:
                if any(entry.name != "lost+found" for entry in entries):
                    return
            _Copy(destination).directory(source, destination, ())
        finally:
            os.close(destination)
    finally:
        os.close(source)


class _Copy:
    """One run: remembers where each file with several names was put first."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._placed: dict[tuple[int, int], tuple[str, ...]] = {}

    def directory(self, source: int, destination: int, where: tuple[str, ...]) -> None:
        with os.scandir(source) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            self._entry(name, source, destination, (*where, name))
        # Last: filling a directory changes its times, and a read-only mode must not stand in the way.
        _copy_status(os.fstat(source), source, destination)

    def _entry(self, name: str, source: int, destination: int, where: tuple[str, ...]) -> None:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            os.mkdir(name, 0o700, dir_fd=destination)
            inner = os.open(name, _DIRECTORY, dir_fd=source)
            try:
                made = os.open(name, _DIRECTORY, dir_fd=destination)
                try:
                    self.directory(inner, made, where)
                finally:
                    os.close(made)
            finally:
                os.close(inner)
            return
        first = self._placed.setdefault((status.st_dev, status.st_ino), where) if status.st_nlink > 1 else where
        if first != where:
            self._link(first, name, destination)
        elif stat.S_ISREG(mode):
            _copy_file(name, source, destination)
        elif stat.S_ISLNK(mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=destination)
            _own(name, destination, status)
        elif not stat.S_ISSOCK(mode):
            os.mknod(name, mode, status.st_rdev, dir_fd=destination)
            # safe because mknod just made this name and the chmod does not go through a symlink's target:
            # a container that swapped it would only change the mode of a file inside its own volume's view.
            os.chown(name, status.st_uid, status.st_gid, dir_fd=destination, follow_symlinks=False)
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=destination)
            try:
                if not stat.S_ISLNK(os.fstat(fd).st_mode):
                    os.chmod(f"/proc/self/fd/{fd}", stat.S_IMODE(mode))
            finally:
                os.close(fd)

    def _link(self, first: tuple[str, ...], name: str, destination: int) -> None:
        opened: list[int] = []
        try:
            parent = self._root
            for part in first[:-1]:
                parent = os.open(part, _DIRECTORY, dir_fd=parent)
                opened.append(parent)
            os.link(first[-1], name, src_dir_fd=parent, dst_dir_fd=destination, follow_symlinks=False)
        finally:
            for fd in opened:
                os.close(fd)


def _copy_file(name: str, source: int, destination: int) -> None:
    # O_NONBLOCK: should a FIFO be swapped in between, opening it must not hang.
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writer = os.open(name, flags, 0o600, dir_fd=destination)
        try:
            while os.sendfile(writer, reader, None, _CHUNK):
                pass
            _copy_status(os.fstat(reader), reader, writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_status(status: os.stat_result, source: int, destination: int) -> None:
    # Owner before mode: chown clears the set-user-id bit. Capabilities (an xattr) after both: chown drops them.
    os.chown(destination, status.st_uid, status.st_gid)
    os.chmod(destination, stat.S_IMODE(status.st_mode))
    for key in os.listxattr(source):
        try:
            os.setxattr(destination, key, os.getxattr(source, key))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
    os.utime(destination, ns=(status.st_atime_ns, status.st_mtime_ns))


def _own(name: str, destination: int, status: os.stat_result) -> None:
    os.chown(name, status.st_uid, status.st_gid, dir_fd=destination, follow_symlinks=False)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=destination, follow_symlinks=False)
