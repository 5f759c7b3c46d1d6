"""What a directory tree occupies, counted as du(1) does: blocks of 512 bytes, an inode with several names once."""

from __future__ import annotations

import errno
import os

from sampan.containerd.services import Usage

# Whoever writes to the tree must not stop the counting: what goes meanwhile, is swapped for something else, or is
# deeper than a path can say, is left out.
_UNCOUNTED = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG))


def directory_usage(path: str) -> Usage:
    """Disk bytes and inodes of the tree at `path`, its root included. OSError."""
    status = os.lstat(path)
    size, inodes = status.st_blocks * 512, 1
    linked: set[tuple[int, int]] = set()
    pending = [path]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except OSError as error:
            if error.errno in _UNCOUNTED:
                continue
            raise
        with entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except OSError as error:
                    if error.errno in _UNCOUNTED:
                        continue
                    raise
                if found.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                    if (found.st_dev, found.st_ino) in linked:
                        continue
                    linked.add((found.st_dev, found.st_ino))
                size += found.st_blocks * 512
                inodes += 1
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return Usage(size, inodes)
