"""Streams as containerd's clients name them: paths of FIFOs that they have made, files, logging programs.

    /path, fifo:///path   the client's FIFO; a path that is no FIFO is a file to append to
    file:///path          a file to append to, made with its directories when missing
    binary:///path?a=b    a logging program (logger.py)
    ""                    nothing

A FIFO is opened for reading and writing (fifo(7)): neither is its client waited for, nor does the process end by
SIGPIPE or lose what the FIFO holds when the client goes away and another comes. The URI is only ever the client's own:
labels and annotations of images never come here (CVE-2026-53488).
"""

from __future__ import annotations

import os
import stat

from sampan import errors
from sampan.keeper.input import Feed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.keeper.loop import Loop

BINARY = "binary"
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY


def split(uri: str) -> tuple[str, str, list[tuple[str, str]]]:
    """(scheme, path, query in order) of a URI; "" as scheme for a plain path, of which nothing is decoded."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return "", uri, []
    path, _, query = rest.partition("?")
    pairs = [one.partition("=") for one in query.split("&") if one]
    return scheme, _decoded(path), [(_decoded(key, plus=True), _decoded(value, plus=True)) for key, _, value in pairs]


def open_output(uri: str) -> int:
    """A descriptor to write a stream to, which is the caller's. NotFound, InvalidArgument, OSError; not for BINARY."""
    scheme, path, _ = split(uri)
    if scheme == "file":
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        return os.open(path, _APPEND, 0o644)
    if scheme not in ("", "fifo"):
        raise errors.InvalidArgument(f"unknown STDIO scheme {scheme}")
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            return os.open(path, _APPEND, 0o644)
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise errors.NotFound(f'stdio "{path}" does not exist: not found') from None


class InputFifo:
    """Carries what comes through a client's FIFO to `target`, which is this object's from here on. OSError.

    The stream ends when `end` was called and the last client has closed its side."""

    def __init__(self, loop: Loop, uri: str, target: int) -> None:
        _, path, _ = split(uri)
        source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # While this writer is there, a client that closes its side does not end the stream.
        self._holder = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(target, False)
        self._feed = Feed(loop, source, target)

    def end(self) -> None:
        """No further client will come: the stream ends with the bytes that are there."""
        if self._holder >= 0:
            os.close(self._holder)
            self._holder = -1

    def close(self) -> None:
        """Stop at once."""
        self._feed.close()
        self.end()


def _decoded(text: str, *, plus: bool = False) -> str:
    """Percent escapes (RFC 3986) as what they stand for, and "+" as a space in a query; a broken escape stays."""
    if plus:
        text = text.replace("+", " ")
    if "%" not in text:
        return text
    first, *others = text.encode("utf-8", "surrogateescape").split(b"%")
    out = [first]
    for part in others:
        try:
            out.append(bytes([int(part[:2], 16)]) + part[2:] if len(part) >= 2 else b"%" + part)
        except ValueError:
            out.append(b"%" + part)
    return b"".join(out).decode("utf-8", "surrogateescape")
