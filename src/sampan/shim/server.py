"""The shim's socket: ttrpc requests in, calls of the Task service, answers out in whatever order they are ready."""

from __future__ import annotations

import os
import sys
from _socket import socket as Socket

from sampan import errors
from sampan.keeper.loop import ERROR, READ, WRITE
from sampan.shim.messages import METHODS, TASK_SERVICES
from sampan.wire import protobuf, ttrpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.keeper.loop import Loop

MAX_QUEUED = 16 << 20
"""Bytes waiting for a client above which it is taken for dead."""


class Call:
    """One request. One of `answer` and `fail` is to be called, at any time; a client that is gone is ignored."""

    def __init__(self, connection: Connection, request: ttrpc.Request) -> None:
        self.method = request.method
        self._connection = connection
        self._stream = request.stream
        _, table, _, self._table = METHODS[request.method]
        self.request: dict[str, Any] = protobuf.decode(table, request.payload)

    def answer(self, **result: Any) -> None:
        self._connection.send(ttrpc.Response(self._stream, protobuf.encode(self._table, result)))

    def fail(self, error: Exception) -> None:
        """A kind of sampan.errors as google.rpc.Code; anything else is Unknown."""
        self._connection.send(ttrpc.Response(self._stream, b"", ttrpc.code_of(error), str(error)))

    def done(self, error: Exception | None, result: dict[str, Any]) -> None:
        """The `Done` of the keeper's verbs, for those that answer nothing."""
        if error is None:
            self.answer()
        else:
            self.fail(error)


class Connection:
    """One client; the socket is this object's own."""

    def __init__(self, loop: Loop, sock: Socket, handle: Callable[[Call], None], gone: Callable[[Connection], None]):
        self._loop = loop
        self._socket = sock
        self._handle = handle
        self._gone = gone
        self._reader = ttrpc.Reader()
        self._unsent = bytearray()
        sock.setblocking(False)
        loop.add(sock.fileno(), READ, self._ready)

    def send(self, response: ttrpc.Response) -> None:
        """Now, or as soon as the client reads."""
        if self._socket.fileno() < 0:
            return
        try:
            data = ttrpc.send(response)
        except ttrpc.TtrpcError as error:
            data = ttrpc.send(ttrpc.Response(response.stream, b"", ttrpc.RESOURCE_EXHAUSTED, str(error)))
        self._unsent += data
        if len(self._unsent) == len(data) or len(self._unsent) > MAX_QUEUED:
            self._push()

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove(self._socket.fileno())
            self._socket.close()
            self._gone(self)

    def _push(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: os.write(self._socket.fileno(), self._unsent)]
        except BlockingIOError:
            if len(self._unsent) > MAX_QUEUED:
                self.close()
            else:
                self._loop.change(self._socket.fileno(), READ | WRITE)
            return
        except OSError:
            self.close()  # EPIPE: the client is gone
            return
        self._loop.change(self._socket.fileno(), READ)

    def _ready(self, mask: int) -> None:
        if mask & WRITE:
            self._push()
        if self._socket.fileno() >= 0 and mask & (READ | ERROR):
            self._receive()

    def _receive(self) -> None:
        try:
            data = os.read(self._socket.fileno(), 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._reader.feed(data)
        try:
            while self._socket.fileno() >= 0 and (event := self._reader.next_event()) is not None:
                self._take(event)
        except ttrpc.TtrpcError as error:
            print(f"shim: {error}", file=sys.stderr, flush=True)
            self.close()

    def _take(self, event: object) -> None:
        if isinstance(event, ttrpc.Oversized):
            text = f"message of {event.size} bytes is larger than {ttrpc.MAX_PAYLOAD}"
            self.send(ttrpc.Response(event.stream, b"", ttrpc.RESOURCE_EXHAUSTED, text))
        elif isinstance(event, ttrpc.Data):
            self.send(ttrpc.Response(event.stream, b"", ttrpc.INVALID_ARGUMENT, "no streaming call is offered"))
        elif isinstance(event, ttrpc.Request):
            self._request(event)

    def _request(self, event: ttrpc.Request) -> None:
        if event.service not in TASK_SERVICES or event.method not in METHODS:
            text = f"/{event.service}/{event.method}: not implemented"
            self.send(ttrpc.Response(event.stream, b"", ttrpc.UNIMPLEMENTED, text))
            return
        try:
            call = Call(self, event)
        except protobuf.ProtobufError as error:
            self.send(ttrpc.Response(event.stream, b"", ttrpc.INVALID_ARGUMENT, str(error)))
            return
        try:
            self._handle(call)
        except Exception as error:
            if not isinstance(error, (errors.Error, OSError)):
                sys.excepthook(*sys.exc_info())
            call.fail(error)


class Server:
    """Serves the listening socket until `close`."""

    def __init__(self, loop: Loop, listener: Socket, handle: Callable[[Call], None]) -> None:
        self._loop = loop
        self._listener = listener
        self._handle = handle
        self._connections: set[Connection] = set()
        listener.setblocking(False)
        loop.add(listener.fileno(), READ, self._accept)

    def _accept(self, mask: int) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return  # the client has gone again
        os.set_inheritable(fd, False)
        connection = Connection(self._loop, Socket(fileno=fd), self._handle, self._connections.discard)
        self._connections.add(connection)

    def refuse(self) -> None:
        """Take no more connections."""
        if self._listener.fileno() >= 0:
            self._loop.remove(self._listener.fileno())
            self._listener.close()

    def close(self) -> None:
        self.refuse()
        for connection in list(self._connections):
            connection.close()
