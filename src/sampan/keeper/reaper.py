"""Collecting exit statuses: of our own processes by pidfd, of orphans because the keeper is their subreaper.

Sources: pidfd_open(2), waitid(2), PR_SET_CHILD_SUBREAPER in prctl(2).
"""

from __future__ import annotations

import os
import signal

from sampan.keeper.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.keeper.loop import Loop

    Gone = Callable[[int], None]

LOST = 137
"""The status of a process whose own one nobody can know: as if it had been killed."""


def shell_status(code: int, status: int) -> int:
    """waitid's (si_code, si_status) as a shell shows it: 0..255, or 128 + signal."""
    return status if code == os.CLD_EXITED else 128 + status


class Reaper:
    """`watch` a child by its pidfd: `gone(status)` is called once, on the loop, after it has been reaped.

    While `expecting` is above 0 (a foreign runtime is at work), the statuses of unknown children are kept: one of
    them may be the container's init, which ended before its pid was read.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._watched: dict[int, tuple[int, Gone]] = {}
        self._orphans: dict[int, int] = {}
        self.expecting = 0
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        # The wake-up pipe is written only for a signal that has a handler.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._wakeup = reader
        loop.add(reader, READ, self._child_changed)

    def watch(self, pid: int, pidfd: int, gone: Gone) -> None:
        """`pidfd` stays the caller's."""
        self._watched[pid] = (pidfd, gone)
        self._loop.add(pidfd, READ, lambda mask: self._ended(pid))

    def take_orphan(self, pid: int) -> int | None:
        """The status of an unknown child that has already been reaped."""
        return self._orphans.pop(pid, None)

    def _ended(self, pid: int) -> None:
        found = self._watched.get(pid)
        if found is None:
            return
        pidfd, gone = found
        try:
            result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
            if result is None:
                return
            status = shell_status(result.si_code, result.si_status)
        except ChildProcessError:
            status = LOST  # not our child: only its end is known
        del self._watched[pid]
        self._loop.remove(pidfd)
        gone(status)

    def _child_changed(self, mask: int) -> None:
        try:
            while os.read(self._wakeup, 512):
                pass
        except BlockingIOError:
            pass
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if found is None:
                break
            if found.si_pid in self._watched:
                self._ended(found.si_pid)
                continue
            os.waitid(os.P_PID, found.si_pid, os.WEXITED | os.WNOHANG)
            if self.expecting:
                self._orphans[found.si_pid] = shell_status(found.si_code, found.si_status)
        if not self.expecting:
            self._orphans.clear()
