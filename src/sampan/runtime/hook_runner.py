"""A process of its own that runs hooks one after another, so that a keeper need not wait for them.

It is a fork that executes nothing itself; what the hooks say, and how long they may take, is `hooks.run`'s matter.
The parent polls `fd` and calls `step`.
"""

from __future__ import annotations

import os
from _signal import SIG_DFL, SIGCHLD, set_wakeup_fd, signal  # type: ignore[import-not-found]

from sampan.linux import abi, fds, process
from sampan.runtime import hooks
from sampan.runtime.steps.situation import StepFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

    Work = Sequence[tuple[str, int, Mapping[str, Any]]]

_WALL = 0x40000000  # wait(2): children of any exit signal
_DONE = b"\0"


def leave(work: Work, state: str) -> None:
    """Run hooks whose outcome changes nothing, in a process that the caller's reaping of unknown children ends."""
    pid, pidfd = process.clone3(0)
    if pid == 0:
        _run(work, state, -1)
    os.close(pidfd)


class HookRunner:
    """Runs `work`, (list's name, index, hook) each, with the state JSON `state` on their standard input."""

    __slots__ = ("_heard", "_pidfd", "fd", "pid")

    def __init__(self, work: Work, state: str) -> None:
        self.fd, telling = os.pipe2(os.O_CLOEXEC)
        self._heard = b""
        try:
            # No exit signal: a keeper that reaps every child it does not know must leave this one to us.
            self.pid, self._pidfd = process.clone3(0, exit_signal=0)
            if self.pid == 0:
                _run(work, state, telling)
        finally:
            os.close(telling)
        os.set_blocking(self.fd, False)

    def step(self) -> str | None:
        """None while hooks run, then "" or the error's text. Never blocks."""
        try:
            while part := os.read(self.fd, 65536):
                self._heard += part
        except BlockingIOError:
            return None
        self._reap()
        if self._heard == _DONE:
            return ""
        return self._heard.decode("utf-8", "surrogateescape") or "the process that runs the hooks has been killed"

    def end(self) -> None:
        """Kill the hook that runs, with all it has started in its process group."""
        try:
            os.killpg(self.pid, abi.SIGKILL)
        except ProcessLookupError:
            process.pidfd_send_signal(self._pidfd, abi.SIGKILL)  # it has not made its group yet
        self._reap()

    def _reap(self) -> None:
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | _WALL)
        os.close(self._pidfd)
        os.close(self.fd)


def _run(work: Work, state: str, telling: int) -> NoReturn:
    """In the child: never returns."""
    try:
        os.setpgid(0, 0)
        set_wakeup_fd(-1)  # its number is soon another file's
        signal(SIGCHLD, SIG_DFL)
        # The parent's other descriptors: as long as we held them, whoever reads from one would see no end.
        fds.close_all_except([0, 1, 2, telling])
        word = _DONE
        for name, index, hook in work:
            try:
                hooks.run(hook, name, index, state, {})
            except StepFailed as failure:
                word = str(failure).encode("utf-8", "surrogateescape")
                if telling >= 0:
                    break
        view = memoryview(word if telling >= 0 else b"")
        while view:
            view = view[os.write(telling, view) :]
    finally:
        os._exit(0)
