"""Deleting a tree of any depth, by descriptors: what a container made must not exhaust us when it goes."""

from __future__ import annotations

import os
import stat

# Below this depth a directory is moved up to the top before it is emptied, so that neither open descriptors nor
# recursion grow with what a container made.
_DEPTH = 32

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(directory: str, name: str) -> None:
    """Delete `directory`/`name`, following no symlink and entering no mount; nothing when it is not there.

    What is deep is first moved into `directory`, as deep-DEVICE-INODE, and deleted there. Errors: OSError."""
    top_fd = os.open(directory, _DIRECTORY)
    try:
        pending = [name]
        while pending:
            pending += _remove(top_fd, top_fd, pending.pop(), 0)
    finally:
        os.close(top_fd)


def _remove(top_fd: int, parent_fd: int, name: str, depth: int) -> list[str]:
    """Delete one entry; the names at the top of directories that were too deep and were moved there instead."""
    try:
        os.unlink(name, dir_fd=parent_fd)
        return []
    except (IsADirectoryError, PermissionError):
        # Linux says EISDIR for a directory; EPERM also stands for an immutable file, which stays an error.
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
            raise
    except FileNotFoundError:
        return []
    moved: list[str] = []
    fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
    try:
        for child in os.listdir(fd):
            status = os.stat(child, dir_fd=fd, follow_symlinks=False) if depth >= _DEPTH else None
            if status is not None and stat.S_ISDIR(status.st_mode):
                fresh = f"deep-{status.st_dev}-{status.st_ino}"
                os.rename(child, fresh, src_dir_fd=fd, dst_dir_fd=top_fd)
                moved.append(fresh)
            else:
                moved += _remove(top_fd, fd, child, depth + 1)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent_fd)
    return moved
