"""Out-of-memory notices of a container's cgroup.

v1: an eventfd registered for memory.oom_control (cgroup-v1/memory.rst, "OOM Control"). v2: memory.events becomes ready
for EPOLLPRI when it changes (cgroup-v2.rst). Both count kernel kills in "oom_kill"; the notice is given when it grew.
"""

from __future__ import annotations

import os

from sampan.keeper.loop import READ, URGENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.keeper.loop import Loop


def parse_kills(text: str) -> int:
    """The number after "oom_kill" in memory.oom_control or memory.events; 0 when there is none."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.isdigit():
            return int(value)
    return 0


class OomWatch:
    """Watches the memory cgroup at `directory` and calls `notice()` whenever processes were killed in it.

    OSError when the cgroup has no memory controller."""

    def __init__(self, loop: Loop, directory: str, notice: Callable[[], None]) -> None:
        self._loop = loop
        self._notice = notice
        self._directory = directory
        self._told = 0
        self._file = self._ready = -1
        try:
            self._file = os.open(f"{directory}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
            loop.add(self._file, URGENT, self._changed)
        except FileNotFoundError:
            self._file = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            self._ready = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            try:
                control = os.open(f"{directory}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(control, b"%d %d" % (self._ready, self._file))
                finally:
                    os.close(control)
                loop.add(self._ready, READ, self._changed)
            except OSError:
                self.close()
                raise

    def look(self) -> bool:
        """Whether the cgroup has ever been out of memory; gives the notice when that is news."""
        kills = self._kills()
        if kills > self._told:
            self._told = kills
            self._notice()
        return self._told > 0

    def _kills(self) -> int:
        if self._file < 0:
            return 0
        try:
            return parse_kills(os.pread(self._file, 4096, 0).decode())
        except OSError:
            self.close()  # ENODEV: the cgroup has been removed, and its file would stay ready for ever
            return 0

    def close(self) -> None:
        """Stop watching."""
        for fd in (self._file, self._ready):
            if fd >= 0:
                self._loop.remove(fd)
                os.close(fd)
        self._file = self._ready = -1

    def _changed(self, mask: int) -> None:
        if self._ready >= 0:
            try:
                times = os.eventfd_read(self._ready)
            except BlockingIOError:
                return
            if not os.path.exists(self._directory):
                return  # the eventfd also tells of the cgroup's removal
            # v1 tells before the kernel has chosen whom to kill, so the count may still be the old one.
            before, self._told = self._told, max(self._told + times, self._kills())
            if self._told > before:
                self._notice()
            return
        self.look()
