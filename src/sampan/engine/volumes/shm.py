"""The /dev/shm of a container that lets others join it (--ipc shareable): a file system of its own with its own size.

A directory would do for sharing, but what is written there is the host's /run, all of it.
"""

from __future__ import annotations

import errno
import os

from sampan.linux import abi
from sampan.linux import mount as syscalls

_ATTRIBUTES = abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NODEV | abi.MOUNT_ATTR_NOEXEC


def mount(path: str, size: int) -> None:
    """Mount a new one of `size` bytes on `path`, made if missing; one that is there goes. OSError."""
    release(path)
    os.makedirs(path, mode=0o700, exist_ok=True)
    options: list[tuple[str, str | None]] = [("source", "shm"), ("mode", "1777"), ("size", str(size))]
    made = syscalls.new_mount("tmpfs", options, _ATTRIBUTES)
    try:
        syscalls.move_mount(made, "", abi.AT_FDCWD, path)
    finally:
        os.close(made)


def release(path: str) -> None:
    """Undo `mount`; those who use it keep it. Nothing when there is none. OSError."""
    try:
        syscalls.umount2(path, abi.MNT_DETACH | abi.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):  # none, or a directory of before there were mounts
            raise
