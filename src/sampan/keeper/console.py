"""Receiving the master of a container's terminal from another runtime, by the OCI command line's console socket."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM
from _socket import socket as Socket

from sampan.keeper.loop import READ
from sampan.linux import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.keeper.loop import Loop


class Console:
    """A listening socket over which a runtime sends the master of the container's terminal (runc, terminals.md)."""

    def __init__(self, loop: Loop, path: str, received: Callable[[int], None]) -> None:
        self._loop = loop
        self._path = path
        self._received = received
        self._listener = Socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        self._listener.bind(path)
        self._listener.listen(1)
        loop.add(self._listener.fileno(), READ, self._accept)

    def _accept(self, mask: int) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        connection = Socket(fileno=fd)
        try:
            # The runtime sends right after it has connected, so this waits for microseconds at most.
            connection.settimeout(1)
            _, fds, _ = sockets.recv_with_fds(connection, 4096, 1)
        finally:
            connection.close()
        for master in fds:
            self._received(master)

    def close(self) -> None:
        """Take what has arrived and not been looked at, and stop listening."""
        self._accept(0)
        self._loop.remove(self._listener.fileno())
        self._listener.close()
        os.unlink(self._path)
