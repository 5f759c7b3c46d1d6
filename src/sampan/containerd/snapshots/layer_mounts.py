"""The erofs mounts of layers: made when they are first needed, attached nowhere, held by descriptors.

A descriptor is needed only until an overlay is mounted over it, which then keeps the layer itself; it is kept longer so
that the next container need not mount the layer again. What was not asked for lately is given up when there are many:
a machine may have thousands of layers, and a process has its limit of descriptors (1024, usually).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from sampan.linux import abi
from sampan.linux.mount import new_mount

KEPT = 256
# Seconds in which whoever was told of a mount, a client of the API at the slowest, has made use of it.
SETTLED = 120.0


class LayerMounts:
    """By the layer's number. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        # The longest unused first.
        self._held: dict[int, tuple[int, float]] = {}

    def get(self, number: int, file: str) -> int:
        """The descriptor of the mount of `file`, -1 when there is no such file; it stays ours. OSError."""
        with self._lock:
            fd, _ = self._held.pop(number, (-1, 0.0))
            if fd < 0:
                if not os.path.exists(file):
                    return -1
                self._give_up()
                fd = mount_file(file)
            self._held[number] = (fd, self._clock())
            return fd

    def drop(self, number: int) -> None:
        """The layer goes."""
        with self._lock:
            fd, _ = self._held.pop(number, (-1, 0.0))
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        with self._lock:
            for fd, _ in self._held.values():
                os.close(fd)
            self._held.clear()

    def _give_up(self) -> None:
        """Make room for one more, as far as there are some that nobody can be about to use."""
        while len(self._held) >= KEPT:
            number, (fd, used) = next(iter(self._held.items()))
            if self._clock() - used < SETTLED:
                return
            del self._held[number]
            os.close(fd)


def mount_file(file: str) -> int:
    """A detached mount of an erofs image. OSError."""
    # "source" takes at most 255 bytes; a descriptor's name is short wherever the file is.
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return new_mount("erofs", [("source", f"/proc/self/fd/{fd}")], abi.MOUNT_ATTR_RDONLY)
    finally:
        os.close(fd)
