"""A new ext4 of its own for one run, in a sparse file.

An ext4 without a journal does not give away inodes that were freed in the last minutes: runs one after another on one
disk measure the search for others (docs/bench.md)."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

_SIZE = 4 << 30
_MKFS = ["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"]


@contextmanager
def fresh_disk(path: str) -> Iterator[str]:
    """The directory where it is mounted, `path` itself; neither that nor the file beside it is left afterwards."""
    image = f"{path}.img"
    try:
        with open(image, "xb") as file:
            file.truncate(_SIZE)
        subprocess.run([*_MKFS, image], check=True)
        os.mkdir(path)
        try:
            subprocess.run(["mount", "-o", "loop", image, path], check=True)
            try:
                yield path
            finally:
                _unmount(path)
        finally:
            os.rmdir(path)
    finally:
        os.unlink(image)


def _unmount(path: str) -> None:
    """A process of the run may still be ending: for a while busy is not an error, and then it goes lazily."""
    end = time.monotonic() + 10
    while subprocess.run(["umount", path], stderr=subprocess.DEVNULL).returncode:
        if time.monotonic() > end:
            subprocess.run(["umount", "--lazy", path], check=True)
            return
        time.sleep(0.05)
