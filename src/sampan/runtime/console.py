"""The caller's side of a container's terminal: handing the master away, or joining it to our own terminal."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from sampan.errors import Error
from sampan.linux import sockets, tty
from sampan.runtime.steps.situation import words

_CHUNK = 65536


def send_master(path: str, name: str, master: int) -> None:
    """Send the pty's master with its name to the socket `path` (--console-socket) and close it. Errors: Error."""
    try:
        send_descriptor(path, name, master)
    finally:
        os.close(master)


def send_descriptor(path: str, name: str, fd: int) -> None:
    """Send `fd` with `name` as the data to the stream socket `path`. Errors: Error."""
    channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    try:
        channel.connect(path)
        sockets.send_with_fds(channel, name.encode(), (fd,))
    except OSError as error:
        raise Error(f"dial unix {path}: connect: {words(error)}") from None
    finally:
        channel.close()


class Terminal:
    """Our terminal, in raw mode, joined to a container's pty until `close`, which restores it.

    Poll `master` for input and, while `reading`, fd 0; then call `output` and `input`.
    """

    def __init__(self, master: int) -> None:
        self.master = master
        self.reading = True
        self._before: bytes | None = None
        os.set_blocking(master, False)
        if os.isatty(0):
            self._before = tty.set_raw(0)
            self.resize()

    def resize(self) -> None:
        """Give the pty our terminal's size. On SIGWINCH."""
        try:
            tty.set_winsize(self.master, *tty.get_winsize(0))
        except OSError:
            pass  # standard input is no terminal, so there is no size to follow

    def output(self) -> bool:
        """Copy what the container wrote to standard output; False when its last writer has gone."""
        try:
            data = os.read(self.master, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False  # EIO: the slave side is closed
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]
        return bool(data)

    def input(self) -> None:
        """Copy what was typed to the container."""
        data = os.read(0, _CHUNK)
        if not data:
            self.reading = False
            return
        os.set_blocking(self.master, True)
        view = memoryview(data)
        while view:
            view = view[os.write(self.master, view) :]
        os.set_blocking(self.master, False)

    def close(self) -> None:
        while self.output():
            try:
                os.read(self.master, 0)
            except OSError:
                break
            if not _readable(self.master):
                break
        if self._before is not None:
            tty.set_attributes(0, self._before)
        os.close(self.master)


def _readable(fd: int) -> bool:
    import select

    return bool(select.select([fd], [], [], 0)[0])
