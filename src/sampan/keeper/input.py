"""One stream that flows into a process: from the writers that clients hold.

attached client --> its own write end of the pipe --> process
attached client --> a pipe made before the terminal was there --> Feed --> pty master --> process
"""

from __future__ import annotations

import os

from sampan.keeper.loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.keeper.loop import Loop

CHUNK = 4096


class Feed:
    """Copies what a client writes into a pipe to a pty master: for a client that came before the terminal."""

    def __init__(self, loop: Loop, source: int, master: int) -> None:
        os.set_blocking(source, False)
        self._loop = loop
        self._source = source
        self._master = master
        self._held = memoryview(b"")
        loop.add(source, READ, self._readable)

    def _readable(self, mask: int) -> None:
        try:
            data = os.read(self._source, CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        self._held = memoryview(data)
        # A terminal takes about 4 KiB: what it refuses waits, and the client's pipe with it.
        self._loop.remove(self._source)
        self._loop.add(self._master, WRITE, self._writable)

    def _writable(self, mask: int) -> None:
        try:
            self._held = self._held[os.write(self._master, self._held) :]
        except BlockingIOError:
            return
        except OSError:
            self.close()  # the terminal has no other side any more
            return
        if not self._held:
            self._loop.remove(self._master)
            self._loop.add(self._source, READ, self._readable)

    def close(self) -> None:
        """Stop copying; both file descriptors are this object's own."""
        for fd in (self._source, self._master):
            if fd >= 0:
                self._loop.remove(fd)
                os.close(fd)
        self._source = self._master = -1


class Input:
    """The standard input of a process without a terminal: a pipe whose writers are the keeper and its clients.

    The keeper's own writer keeps the stream open while nobody is attached; every client gets a writer of its own
    (an open file description of its own, so nobody's O_NONBLOCK is another's). With `once` the keeper lets go at the
    first client, so that the end of that client's input is the end of the stream.
    """

    def __init__(self, once: bool) -> None:
        self.child, self._writer = os.pipe2(os.O_CLOEXEC)
        self._once = once
        # O_PATH refers to the pipe without being one of its readers or writers.
        self._handle = os.open(f"/proc/self/fd/{self._writer}", os.O_PATH | os.O_CLOEXEC)

    def open_writer(self) -> int:
        """A non-blocking write end for a client, who closes it. Writing is EPIPE once the process reads no more."""
        fd = os.open(f"/proc/self/fd/{self._handle}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if self._once:
            self.close_writer()
        return fd

    def close_writer(self) -> None:
        """End the stream as far as the keeper is concerned."""
        self._writer = _close(self._writer)

    def close_child(self) -> None:
        """The process has its own copy of the read end."""
        self.child = _close(self.child)

    def take_child(self) -> int:
        """The read end, which the caller closes from now on."""
        fd, self.child = self.child, -1
        return fd

    def close(self) -> None:
        """Give up every end; clients keep theirs."""
        self.close_writer()
        self.close_child()
        self._handle = _close(self._handle)


def _close(fd: int) -> int:
    if fd >= 0:
        os.close(fd)
    return -1
