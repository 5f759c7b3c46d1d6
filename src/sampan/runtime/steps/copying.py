"""The step for a file system that begins with what was in its place (mount option "tmpcopyup")."""

from __future__ import annotations

import os
import stat

from sampan.runtime.steps import rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.runtime.steps.situation import Situation


def mount_with_copy(init: Situation, **arguments: Any) -> None:
    rootfs.mount_file_system(init, **arguments, copy=_copy_up)


def _copy_up(origin: int, made: int) -> None:
    """Copy the tree below the directory `origin` into the new file system, whatever it is."""
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=origin)
    writable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=made)
    try:
        _copy_tree(readable, writable)
    finally:
        os.close(readable)
        os.close(writable)


def _copy_tree(origin: int, copy: int) -> None:
    for name in os.listdir(origin):
        found = os.stat(name, dir_fd=origin, follow_symlinks=False)
        mode = stat.S_IMODE(found.st_mode)
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(name, dir_fd=origin), name, dir_fd=copy)
        elif stat.S_ISDIR(found.st_mode):
            os.mkdir(name, 0o700, dir_fd=copy)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            below, above = os.open(name, flags, dir_fd=origin), os.open(name, flags, dir_fd=copy)
            try:
                _copy_tree(below, above)
                os.chmod(above, mode)
            finally:
                os.close(below)
                os.close(above)
        elif stat.S_ISREG(found.st_mode):
            below = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=origin)
            above = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=copy)
            try:
                while os.sendfile(above, below, None, 1 << 24):
                    pass
                os.fchmod(above, mode)
            finally:
                os.close(below)
                os.close(above)
        else:
            os.mknod(name, found.st_mode, found.st_rdev, dir_fd=copy)
        os.chown(name, found.st_uid, found.st_gid, dir_fd=copy, follow_symlinks=False)
