"""A client's logging program: what a process writes is its to read, as containerd's shim has it.

    binary:///path/to/program?key=value&flag

    arguments    key, value, flag, each value after its key        environment   CONTAINER_ID, CONTAINER_NAMESPACE
    3, 4         where the container's stdout and stderr come in   5             closed (or written to) when it is ready

The process is not run before the program is ready. At the end of both streams the program is to end itself. One that
has not after GRACE is told so by SIGTERM, and killed after PATIENCE.
Source: containerd, "runtime v2 README", Logging.
"""

from __future__ import annotations

import fcntl
import os
from signal import SIGKILL, SIGTERM, pidfd_send_signal

from sampan import errors
from sampan.keeper.loop import READ
from sampan.keeper.uris import split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.keeper.loop import Loop
    from sampan.keeper.reaper import Reaper

    Ready = Callable[[Exception | None], None]

START_TIMEOUT, GRACE, PATIENCE = 10.0, 2.0, 12.0
"""Seconds. containerd sends SIGTERM at once, so that a slow program may lose the last lines; its
PATIENCE is the same."""


class Logger:
    """The program of `uri`, started. `outputs` are the write ends of its two streams, the caller's to close or pass on;
    `ready` is called once: with None when the program takes them, with the reason when it does not.

    Error when it cannot be started."""

    def __init__(self, loop: Loop, reaper: Reaper, uri: str, names: dict[str, str], ready: Ready) -> None:
        _, self._path, query = split(uri)
        self._loop = loop
        self._ready: Ready | None = ready
        self._pidfd = -1
        self._call_off: Callable[[], None] | None = None
        arguments = [self._path, *(word for pair in query for word in pair if word)]
        out, err, said = (os.pipe2(os.O_CLOEXEC) for _ in range(3))
        try:
            self._spawn(arguments, names, (out[0], err[0], said[1]))
        except OSError as error:
            for fd in (*out, *err, *said):
                os.close(fd)
            text = f"failed to start binary process: fork/exec {self._path}: {(error.strerror or '').lower()}"
            raise errors.Error(text) from error
        for fd in (out[0], err[0], said[1]):
            os.close(fd)
        self.outputs = (out[1], err[1])
        self._said = said[0]
        loop.add(self._said, READ, self._told)
        self._call_off = loop.after(START_TIMEOUT, self._too_late)
        reaper.watch(self._pid, self._pidfd, self._gone)

    def finish(self) -> None:
        """Both streams have ended."""
        if self._pidfd >= 0 and self._call_off is None:
            self._call_off = self._loop.after(GRACE, self._hurry)

    def _hurry(self) -> None:
        self._signal(SIGTERM)
        self._call_off = self._loop.after(PATIENCE, lambda: self._signal(SIGKILL))

    def _spawn(self, arguments: list[str], names: dict[str, str], passed: tuple[int, int, int]) -> None:
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        # Above the numbers that they come to, so that no copy overwrites the source of another.
        high = [_above(fd, 5) for fd in passed]
        actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(high, 3)]
        try:
            self._pid = os.posix_spawn(
                self._path,
                arguments,
                names,
                file_actions=actions,
                setsid=True,
                setsigdef=[number for number in range(1, 32) if number not in (9, 19)],
            )
        finally:
            for fd in (null, *high):
                os.close(fd)
        self._pidfd = os.pidfd_open(self._pid)

    def _told(self, mask: int) -> None:
        self._answer(None)

    def _too_late(self) -> None:
        self._signal(SIGKILL)
        self._answer(errors.Error(f"failed to read from logging binary: {self._path} was not ready in time"))

    def _answer(self, error: Exception | None) -> None:
        ready, self._ready = self._ready, None
        if ready is None:
            return
        self._loop.remove(self._said)
        os.close(self._said)
        self._off()
        ready(error)

    def _signal(self, number: int) -> None:
        if self._pidfd >= 0:
            try:
                pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                pass  # it has ended, and is about to be reaped

    def _gone(self, status: int) -> None:
        os.close(self._pidfd)
        self._pidfd = -1
        if self._ready is None:
            self._off()

    def _off(self) -> None:
        call_off, self._call_off = self._call_off, None
        if call_off is not None:
            call_off()


def _above(fd: int, least: int) -> int:
    """A duplicate of `fd` with a number above `least`."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, least + 1)
