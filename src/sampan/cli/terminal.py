"""The user's side of a hijacked stream: raw mode, window size, signals, and copying bytes both ways."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import sys
import termios

from sampan.cli.connection import Api, ApiError, NoEngine
from sampan.wire.stdcopy import STDERR, Demultiplexer, StreamError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.cli.connection import Response

# Sent on by `--sig-proxy`, as docker does: all that a terminal or a supervisor sends, but for what Python needs.
_PROXIED = [
    getattr(signal, name)
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGTSTP", "SIGALRM")
]


def window_size(fd: int) -> tuple[int, int]:
    """(rows, columns) of the terminal; (0, 0) when it has none."""
    try:
        rows, cols, _, _ = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return 0, 0
    return rows, cols


class RawMode:
    """The terminal passes every key on while this is entered (cfmakeraw)."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._saved: list[Any] | None = None

    def __enter__(self) -> RawMode:
        if os.isatty(self.fd):
            self._saved = termios.tcgetattr(self.fd)
            mode = termios.tcgetattr(self.fd)
            mode[0] &= ~(
                termios.IGNBRK
                | termios.BRKINT
                | termios.PARMRK
                | termios.ISTRIP
                | termios.INLCR
                | termios.IGNCR
                | termios.ICRNL
                | termios.IXON
            )
            mode[1] &= ~termios.OPOST
            mode[2] = (mode[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
            mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
            termios.tcsetattr(self.fd, termios.TCSADRAIN, mode)
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self._saved)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_frames(frames: Demultiplexer, data: bytes) -> None:
    """Bytes of a multiplexed stream to our own stdout and stderr. NoEngine for what is no such stream."""
    try:
        found = frames.feed(data)
    except StreamError as err:
        raise NoEngine(str(err)) from err
    for kind, piece in found:
        write_all(2 if kind == STDERR else 1, piece)


DETACH_KEYS = "ctrl-p,ctrl-q"


def key_bytes(keys: str) -> bytes:
    """The bytes that a terminal sends for "ctrl-p,ctrl-q" or "a,ctrl-@"; b"" for what is no such list."""
    out = bytearray()
    for key in keys.split(","):
        if len(key) == 1:
            out += key.encode()
        elif len(key) == 6 and key.startswith("ctrl-") and "@" <= key[5].upper() <= "_":
            out.append(ord(key[5].upper()) ^ 0x40)
        else:
            return b""
    return bytes(out)


class Session:
    """One hijacked connection and the user's three streams.

    `detached` says, once `copy` has returned, whether the user typed the detach keys: the engine ends the stream then,
    and nothing in the stream tells that end from the container's."""

    def __init__(self, response: Response, *, tty: bool, stdin: bool, detach_keys: str = "") -> None:
        self.sock = response.sock
        self.first = response.take_buffer()
        self.tty = tty
        self.stdin = stdin
        self._frames = Demultiplexer()
        self._keys = key_bytes(detach_keys or DETACH_KEYS) if tty else b""
        self._typed = b""

    @property
    def detached(self) -> bool:
        return bool(self._keys) and self._typed == self._keys

    def _output(self, data: bytes) -> None:
        if self.tty:
            write_all(1, data)
            return
        write_frames(self._frames, data)

    def copy(self) -> None:
        """Until the engine's side ends. The end of our input is passed on as a half-close."""
        self._output(self.first)
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        if self.stdin:
            poll.register(0, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == 0:
                    if not self._input():
                        poll.unregister(0)
                    continue
                try:
                    data = self.sock.recv(65536)
                except ConnectionError:
                    data = b""
                if not data:
                    return
                self._output(data)

    def _input(self) -> bool:
        try:
            data = os.read(0, 65536)
            if data:
                self.sock.sendall(data)
                self._typed = (self._typed + data)[-len(self._keys) :] if self._keys else b""
                return True
            self.sock.shutdown(1)
        except OSError:
            pass  # the container's side is gone: its output still has to be read to the end
        return False


def _quietly(call: Callable[[], Any]) -> bool:
    """For signals and resizes: the container may have ended between the event and the call. Whether it was done."""
    try:
        call()
    except (ApiError, NoEngine):
        return False
    return True


def follow_window(api: Api, path: str) -> None:
    """Send the terminal's size now and whenever it changes. `path` is the object's resize endpoint."""

    def send(*_: object) -> bool:
        rows, cols = window_size(sys.stdin.fileno())
        return not (rows and cols) or _quietly(lambda: api.call("POST", path, {"h": rows, "w": cols}))

    signal.signal(signal.SIGWINCH, send)
    # The stream may be there a moment before the process that has the terminal: docker's client tries again, too.
    for patience_ms in (10, 20, 30, 40, 50):
        if send():
            return
        select.poll().poll(patience_ms)


def proxy_signals(api: Api, container: str) -> None:
    """Pass our signals on to the container's process."""

    def send(number: int, _: object) -> None:
        _quietly(lambda: api.call("POST", f"/containers/{container}/kill", {"signal": str(number)}))

    for number in _PROXIED:
        signal.signal(number, send)


def stop_proxying() -> None:
    for number in _PROXIED:
        signal.signal(number, signal.SIG_DFL)
