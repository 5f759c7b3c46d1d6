"""Work that takes long and that only a function of ours can do: done by a forked child, while the loop goes on."""

from __future__ import annotations

import json
import os
import signal
from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair

from sampan import errors
from sampan.linux import fds, sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Sequence

    from sampan.keeper.reaper import Reaper

_LARGEST = 1 << 16
_MOST_FDS = 4


def aside(
    reaper: Reaper,
    work: Callable[[], Sequence[int] | None],
    done: Callable[[Exception | None, list[int]], None],
    keep: Sequence[int] = (),
) -> None:
    """Have a child do `work`; `done` gets what it raised, or None, when the child has ended. Errors: OSError.

    Descriptors that `work` returns are handed over: `done` owns them. Of ours the child has those in `keep`.
    """
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    # safe because the keeper has one thread, and the child returns to no code of it: it works, tells and exits.
    pid = os.fork()
    if pid == 0:
        _work(theirs, work, keep)
    theirs.close()
    ours.setblocking(False)
    pidfd = os.pidfd_open(pid)

    def ended(status: int) -> None:
        os.close(pidfd)
        try:
            told, received, _ = sockets.recv_with_fds(ours, _LARGEST, _MOST_FDS)
        except OSError:
            told, received = b"", []
        ours.close()
        done(_error(told, status), received)

    reaper.watch(pid, pidfd, ended)


def _work(channel: socket, work: Callable[[], Sequence[int] | None], keep: Sequence[int]) -> None:
    """In the child: never returns."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # A child that held the keeper's connections would hide the keeper's death from its clients.
        fds.close_all_except((0, 1, 2, channel.fileno(), *keep))
        kind, text = "", ""
        given: Sequence[int] = ()
        try:
            given = work() or ()
        except errors.Error as error:
            kind, text = type(error).__name__, str(error)
        except Exception as error:
            kind, text = "Error", f"{type(error).__name__}: {error}"
        sockets.send_with_fds(channel, json.dumps([kind, text[: _LARGEST // 8]]).encode(), given)
        os._exit(0)
    finally:
        os._exit(1)


def _error(told: bytes, status: int) -> Exception | None:
    if not told:
        return errors.Error(f"the process that was to do it ended with status {status}")
    kind, text = json.loads(told)
    if not kind:
        return None
    found = getattr(errors, kind, errors.Error)  # a kind of a room's own counts as what it is derived from
    return found(text) if isinstance(found, type) and issubclass(found, errors.Error) else errors.Error(text)
