"""A second process that lets go of what is slow to let go of.

The last close of a container's mount namespace unmounts its overlay, which syncs: up to 80 ms, and the keeper has
other containers to serve. So the keeper sends the file descriptor to a child that does nothing but close.
"""

from __future__ import annotations

import os
import signal
import sys
from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair

from sampan.linux import fds, process, sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

PACKET_FDS = 16


class Janitor:
    """Forks the child at once; call before the keeper opens anything that the child should not hold."""

    def __init__(self) -> None:
        parent = os.getpid()
        self._socket, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        # safe because the keeper has one thread and the child returns to no code of it: it loops below and exits.
        pid = os.fork()
        if pid == 0:
            try:
                _sweep(theirs, parent)
            finally:
                os._exit(0)
        theirs.close()
        self._socket.setblocking(False)
        self.pid = pid

    def close_soon(self, fd: int) -> None:
        """Close `fd`, which the caller gives up, without waiting for what its last close does."""
        try:
            sockets.send_with_fds(self._socket, b"close", [fd])
        except OSError as error:
            # A full queue or a dead child: then it is closed here, late but surely.
            print(f"keeper: janitor: {error}", file=sys.stderr, flush=True)
        os.close(fd)


class Promptly:
    """The same for a process that serves one container: nobody else has to wait for the unmount."""

    def close_soon(self, fd: int) -> None:
        """Close `fd`, which the caller gives up."""
        os.close(fd)


def _sweep(socket: socket, parent: int) -> None:
    """The child: closes what arrives until the keeper is gone."""
    process.set_pdeathsig(signal.SIGKILL)
    if os.getppid() != parent:
        return
    process.set_name("sampan-janitor")
    signal.set_wakeup_fd(-1)
    fds.close_all_except((2, socket.fileno()))
    while True:
        data, received, _ = sockets.recv_with_fds(socket, 16, PACKET_FDS)
        for fd in received:
            os.close(fd)
        if not data:
            return
