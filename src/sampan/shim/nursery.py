"""The parent of shims: one process for all of one containerd's, forked from what it has imported once.

    start                               the nursery                             a shim
      | where, which bundle + listener       |                                     |
      |------------------------------------->| fork ------------------------------>| serves
      | its pid                              |                                     |
      |<-------------------------------------|                                     |

An interpreter of its own costs a shim 7 MB and a tenth of a second; forked, it shares most of the first and needs
nothing of the second. The nursery does nothing else: it holds no container's descriptor, its death ends no shim, and it
ends with the last of them. `start` that finds none, or one that is just ending, leaves a new one behind.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_SEQPACKET
from _socket import socket as Socket

from sampan.keeper.loop import READ, Loop
from sampan.keeper.reaper import Reaper
from sampan.linux import fds, process, sockets
from sampan.shim import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.keeper.native import Runtime

MAX_REQUEST = 8192


class Nursery:
    """Listens at `path` and forks; `runtime` is what the shims run containers with."""

    def __init__(self, path: str, runtime: Runtime) -> None:
        self._path = path
        self._runtime = runtime
        self._loop = Loop()
        self._reaper = Reaper(self._loop)
        self._children = 0
        self._listener = Socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC)

    def run(self, first: tuple[str, str, str, str], listener: int) -> None:
        """Serve until the last shim has ended, beginning with the `first`, whose socket is `listener`."""
        gc.collect()
        gc.freeze()
        self._fork(first, listener)
        os.chdir("/")
        process.set_name("sampan-nursery")
        for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        # Whole at once, in the place of one that died: two that begin together both live, and the later one is found.
        mine = f"{self._path}.{os.getpid()}"
        old = os.umask(0o177)
        self._listener.bind(mine)
        os.umask(old)
        self._listener.listen(16)
        inode = os.stat(mine).st_ino
        os.rename(mine, self._path)
        self._loop.add(self._listener.fileno(), READ, self._accept)
        self._loop.run()
        if _inode(self._path) == inode:
            os.unlink(self._path)

    def _accept(self, mask: int) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return  # it has gone again
        connection = Socket(fileno=fd)
        try:
            connection.settimeout(1)  # it sends at once
            data, received, _ = sockets.recv_with_fds(connection, MAX_REQUEST, 1)
            namespace, path, events, bundle = data.decode().split("\0")
            pid = self._fork((namespace, path, events, bundle), received[0])
            connection.send(b"%d" % pid)
        except (OSError, ValueError, IndexError) as error:
            print(f"nursery: {error}", file=sys.stderr, flush=True)
        finally:
            connection.close()

    def _fork(self, wanted: tuple[str, str, str, str], listener: int) -> int:
        """A shim; `listener` is closed here and its own there."""
        # safe because this process has one thread, and the child returns to no code of it: it serves and exits.
        pid = os.fork()
        if pid == 0:
            try:
                self._be_shim(wanted, listener)
            finally:
                os._exit(1)
        os.close(listener)
        pidfd = os.pidfd_open(pid)
        self._children += 1
        self._reaper.watch(pid, pidfd, lambda status: self._ended(pidfd))
        return pid

    def _be_shim(self, wanted: tuple[str, str, str, str], listener: int) -> None:
        namespace, path, events, bundle = wanted
        signal.set_wakeup_fd(-1)
        self._loop.close()
        fds.close_all_except((0, 1, 2, listener))
        os.setsid()
        os.chdir(bundle)
        serve.run(namespace, path, listener, events, self._runtime)
        os._exit(0)

    def _ended(self, pidfd: int) -> None:
        os.close(pidfd)
        self._children -= 1
        if not self._children:
            self._loop.stop()


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0
