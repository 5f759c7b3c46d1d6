"""The keeper's one thread: readiness by epoll, small jobs when nothing else is to be done. Source: epoll(7)."""

from __future__ import annotations

import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ, WRITE, ERROR = select.EPOLLIN, select.EPOLLOUT, select.EPOLLERR | select.EPOLLHUP
URGENT = select.EPOLLPRI


TOLERATED = 3


class Loop:
    """Calls handlers of ready file descriptors, level-triggered.

    A handler gets the epoll event mask and must tolerate a call for nothing. What it raises is written to stderr, and
    one that raises TOLERATED times in a row is not called again: one container's trouble neither ends the others nor
    takes their time.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._jobs: list[Callable[[], None]] = []
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._troubles: dict[int, int] = {}
        self._stopping = False

    def add(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        """Watch `fd`. OSError (EPERM) for a regular file, which is always ready."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def change(self, fd: int, events: int) -> None:
        """Watch the known `fd` for other events; 0 leaves errors and hang-ups."""
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Stop watching, before the fd is closed; an unknown fd is left alone."""
        if self._handlers.pop(fd, None) is not None:
            self._troubles.pop(fd, None)
            self._epoll.unregister(fd)

    def when_idle(self, job: Callable[[], None]) -> None:
        """Run `job` once, when no file descriptor is ready."""
        self._jobs.append(job)

    def after(self, seconds: float, job: Callable[[], None]) -> Callable[[], None]:
        """Run `job` once, that long from now; call what is returned to have it not run."""
        entry = (time.monotonic() + seconds, job)
        self._later.append(entry)

        def cancel() -> None:
            if entry in self._later:
                self._later.remove(entry)

        return cancel

    def stop(self) -> None:
        """Make `run` return when the present handler has."""
        self._stopping = True

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._stopping:
            self.turn(0 if self._jobs else self._patience())

    def _patience(self) -> float:
        """Seconds until the next timed job; -1 when there is none."""
        return max(0.0, min(at for at, _ in self._later) - time.monotonic()) if self._later else -1

    def turn(self, timeout: float) -> int:
        """Wait at most `timeout` seconds (-1: no limit) and call what is ready; how many events there were."""
        events = self._epoll.poll(timeout)
        # A handler may close a file descriptor whose number the next one reuses: an event belongs to the handler
        # that was there when the kernel reported it.
        ready = [(self._handlers.get(fd), fd, mask) for fd, mask in events]
        for handler, fd, mask in ready:
            if handler is not None and self._handlers.get(fd) is handler:
                if self._guarded(handler, mask):
                    self._troubles.pop(fd, None)
                else:
                    self._in_trouble(fd)
        if self._later:
            self._run_due()
        if not events and self._jobs:
            self._guarded(self._jobs.pop(0))
        return len(events)

    def _run_due(self) -> None:
        now = time.monotonic()
        due = [entry for entry in self._later if entry[0] <= now]
        self._later = [entry for entry in self._later if entry[0] > now]
        for _, job in due:
            self._guarded(job)

    def _guarded(self, function: Callable[..., None], *arguments: int) -> bool:
        try:
            function(*arguments)
        except Exception:
            sys.excepthook(*sys.exc_info())
            return False
        return True

    def _in_trouble(self, fd: int) -> None:
        self._troubles[fd] = self._troubles.get(fd, 0) + 1
        if self._troubles[fd] >= TOLERATED:
            del self._troubles[fd]
            print(f"keeper: file descriptor {fd} is given up", file=sys.stderr, flush=True)
            self.remove(fd)

    def close(self) -> None:
        """Give up the epoll file descriptor (in a forked child, or at the end)."""
        self._handlers.clear()
        self._epoll.close()
