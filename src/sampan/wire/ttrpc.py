"""ttrpc, what containerd and its shims speak: requests and responses as frames of one stream socket.

    frame    := length(4) stream(4) type(1) flags(1) payload(length bytes)          all big endian
    type     := 1 request, 2 response, 3 data (of a streaming call)
    flags    := 1 the sender sends no more, 2 it will send more, 4 data without a message
    request  := protobuf {1 service, 2 method, 3 payload, 4 timeout_nano, 5 metadata: repeated {1 key, 2 value}}
    response := protobuf {1 status: {1 code, 2 message}, 2 payload}

    client                                          server
      | 1 request  stream 1  containerd.task.v2.Task/Create |
      |----------------------------------------------------->|
      | 1 request  stream 3  .../State                       |    calls are answered in any order
      |----------------------------------------------------->|
      | 2 response stream 3                                  |
      |<-----------------------------------------------------|
      | 2 response stream 1                                  |
      |<-----------------------------------------------------|

Clients number their streams 1, 3, 5, ... A message of more than 4 MiB is refused by who reads it: its stream fails with
status 8 and the connection goes on. Source: ttrpc's PROTOCOL.md. No I/O here.
"""

from __future__ import annotations

import struct

from sampan import errors
from sampan.wire import protobuf
from sampan.wire.protobuf import BYTES, INT, STRING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.wire.protobuf import Table

REQUEST, RESPONSE, DATA = 1, 2, 3
REMOTE_CLOSED, REMOTE_OPEN, NO_DATA = 1, 2, 4
HEADER_SIZE = 10
MAX_PAYLOAD = 4 << 20

# Codes of google.rpc.Code that this protocol itself has use for.
OK, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 0, 3, 8, 12

# google.rpc.Code of our kinds of error and back, as containerd's errdefs have it; any other kind is Unknown.
KINDS: dict[int, type[errors.Error]] = {
    3: errors.InvalidArgument,
    5: errors.NotFound,
    6: errors.AlreadyExists,
    9: errors.Conflict,
    12: errors.Unimplemented,
    14: errors.Unavailable,
}
UNKNOWN = 2

_HEADER = struct.Struct(">IIBB")
_PAIR: Table = {1: ("key", STRING), 2: ("value", STRING)}
_REQUEST: Table = {
    1: ("service", STRING),
    2: ("method", STRING),
    3: ("payload", BYTES),
    4: ("timeout", INT),
    5: ("metadata", [_PAIR]),
}
_STATUS: Table = {1: ("code", INT), 2: ("message", STRING)}
_RESPONSE: Table = {1: ("status", _STATUS), 2: ("payload", BYTES)}


def code_of(error: Exception) -> int:
    """The google.rpc.Code of an error's kind."""
    return next((code for code, kind in KINDS.items() if isinstance(error, kind)), UNKNOWN)


class TtrpcError(ValueError):
    """The bytes are no ttrpc; the connection is of no more use."""


class Request:
    """A call. `timeout` in nanoseconds, 0 for none."""

    __slots__ = ("metadata", "method", "payload", "service", "stream", "timeout")

    def __init__(
        self,
        stream: int,
        service: str,
        method: str,
        payload: bytes,
        timeout: int = 0,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.stream = stream
        self.service = service
        self.method = method
        self.payload = payload
        self.timeout = timeout
        self.metadata = dict(metadata or {})


class Response:
    """The answer to the call of the same stream: `payload`, or a `code` other than OK with its text."""

    __slots__ = ("code", "message", "payload", "stream")

    def __init__(self, stream: int, payload: bytes = b"", code: int = OK, message: str = "") -> None:
        self.stream = stream
        self.payload = payload
        self.code = code
        self.message = message


class Data:
    """A message of a streaming call, which nothing here makes; a server refuses its stream."""

    __slots__ = ("flags", "payload", "stream")

    def __init__(self, stream: int, payload: bytes, flags: int) -> None:
        self.stream = stream
        self.payload = payload
        self.flags = flags


class Oversized:
    """A message of `size` bytes, more than MAX_PAYLOAD, was on `stream`: its bytes are passed over."""

    __slots__ = ("size", "stream")

    def __init__(self, stream: int, size: int) -> None:
        self.stream = stream
        self.size = size


class Reader:
    """Events out of bytes that arrive in any pieces: `feed` them, then ask `next_event` until it has none."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data = data[passed:]
        self._held += data

    def next_event(self) -> Request | Response | Data | Oversized | None:
        """The next whole message; None until more bytes come. TtrpcError."""
        if len(self._held) < HEADER_SIZE:
            return None
        size, stream, kind, flags = _HEADER.unpack_from(self._held)
        if kind not in (REQUEST, RESPONSE, DATA):
            raise TtrpcError(f"message type {kind}")
        if size > MAX_PAYLOAD:
            self._skip = max(0, HEADER_SIZE + size - len(self._held))
            del self._held[: HEADER_SIZE + size]
            return Oversized(stream, size)
        if len(self._held) < HEADER_SIZE + size:
            return None
        payload = bytes(self._held[HEADER_SIZE : HEADER_SIZE + size])
        del self._held[: HEADER_SIZE + size]
        try:
            return _event(kind, stream, flags, payload)
        except protobuf.ProtobufError as error:
            raise TtrpcError(f"message on stream {stream}: {error}") from error


def _event(kind: int, stream: int, flags: int, payload: bytes) -> Request | Response | Data:
    if kind == REQUEST:
        found = protobuf.decode(_REQUEST, payload)
        metadata = {pair["key"]: pair["value"] for pair in found["metadata"]}
        return Request(stream, found["service"], found["method"], found["payload"], found["timeout"], metadata)
    if kind == RESPONSE:
        found = protobuf.decode(_RESPONSE, payload)
        status = found["status"] or {"code": OK, "message": ""}
        return Response(stream, found["payload"], status["code"], status["message"])
    return Data(stream, payload, flags)


def send(event: Request | Response) -> bytes:
    """The frame of a message. TtrpcError when it is larger than its reader would take."""
    if isinstance(event, Request):
        kind = REQUEST
        payload = protobuf.encode(
            _REQUEST,
            {
                "service": event.service,
                "method": event.method,
                "payload": event.payload,
                "timeout": event.timeout,
                "metadata": [{"key": key, "value": value} for key, value in event.metadata.items()],
            },
        )
    else:
        kind = RESPONSE
        status = {"code": event.code, "message": event.message} if event.code != OK else None
        payload = protobuf.encode(_RESPONSE, {"status": status, "payload": event.payload})
    if len(payload) > MAX_PAYLOAD:
        raise TtrpcError(f"message of {len(payload)} bytes, at most {MAX_PAYLOAD} are taken")
    return _HEADER.pack(len(payload), event.stream, kind, 0) + payload
