"""Docker's multiplexed stream: stdout and stderr of a container without a terminal over one connection.

    frame := stream(1 byte) 0 0 0 length(4 bytes, big endian) payload(length bytes)

`stream` is 0 stdin, 1 stdout, 2 stderr, 3 an error of the daemon itself. Source: Engine API 1.51, ContainerAttach,
"Stream format". No I/O here.
"""

from __future__ import annotations

import struct

STDIN, STDOUT, STDERR, SYSTEM_ERROR = 0, 1, 2, 3
HEADER_SIZE = 8

_HEADER = struct.Struct(">BxxxI")


class StreamError(ValueError):
    """The bytes are no multiplexed stream."""


def header(stream: int, length: int) -> bytes:
    """The eight bytes before `length` bytes of `stream`."""
    return _HEADER.pack(stream, length)


def frame(stream: int, payload: bytes) -> bytes:
    return _HEADER.pack(stream, len(payload)) + payload


class Demultiplexer:
    """Frames out of bytes that arrive in any pieces.

    `feed` returns every payload part that is known by now, as (stream, bytes): a long frame is handed on piecemeal,
    so memory does not grow with the length that a header claims."""

    def __init__(self) -> None:
        self._head = b""
        self._stream = STDOUT
        self._rest = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """StreamError for a header that no Docker daemon writes."""
        found: list[tuple[int, bytes]] = []
        view = memoryview(data)
        while view:
            if self._rest:
                part = bytes(view[: self._rest])
                found.append((self._stream, part))
                self._rest -= len(part)
                view = view[len(part) :]
                continue
            needed = HEADER_SIZE - len(self._head)
            self._head += bytes(view[:needed])
            view = view[needed:]
            if len(self._head) == HEADER_SIZE:
                self._stream, self._rest = _HEADER.unpack(self._head)
                if self._stream > SYSTEM_ERROR or self._head[1:4] != b"\0\0\0":
                    raise StreamError(f"unrecognized stream: {self._stream}")
                self._head = b""
        return found

    def close(self) -> None:
        """The end of the bytes. StreamError inside a frame."""
        if self._head or self._rest:
            raise StreamError("unexpected EOF")
