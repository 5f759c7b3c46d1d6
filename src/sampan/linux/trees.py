"""Deleting a tree of any depth, by descriptors: what a container made must not exhaust us when it goes."""

from __future__ import annotations

import os
import stat

# Below this depth a directory is moved up to the top before it is emptied, so that neither open descriptors nor
# recursion grow with what a container made.
_DEPTH = 32

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def empty(trash: str, name: str) -> None:
    """Delete `trash`/`name`, following no symlink and entering no mount. Errors: OSError.

    What is deep is first moved into `trash`, as deep-DEVICE-INODE, and deleted there."""
    trash_fd = os.open(trash, _DIRECTORY)
    try:
        pending = [name]
        while pending:
            pending += _remove(trash_fd, trash_fd, pending.pop(), 0)
    finally:
        os.close(trash_fd)


def _remove(trash_fd: int, parent_fd: int, name: str, depth: int) -> list[str]:
    """Delete one entry; the names in the trash of directories that were too deep and were moved there instead."""
    try:
        os.unlink(name, dir_fd=parent_fd)
        return []
    except (IsADirectoryError, PermissionError) as error:
        # Linux says EISDIR for a directory; EPERM also stands for an immutable file, which stays an error.
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            raise error
    except FileNotFoundError:
        return []
    moved: list[str] = []
    fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
    try:
        for child in os.listdir(fd):
            if depth >= _DEPTH and stat.S_ISDIR(os.stat(child, dir_fd=fd, follow_symlinks=False).st_mode):
                status = os.stat(child, dir_fd=fd, follow_symlinks=False)
                fresh = f"deep-{status.st_dev}-{status.st_ino}"
                os.rename(child, fresh, src_dir_fd=fd, dst_dir_fd=trash_fd)
                moved.append(fresh)
            else:
                moved += _remove(trash_fd, fd, child, depth + 1)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent_fd)
    return moved
