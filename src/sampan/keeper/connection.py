"""A client's side of the keeper's socket: packets to calls, answers and events to packets."""

from __future__ import annotations

import json
import os
import sys

from sampan import errors
from sampan.api.keeper import messages
from sampan.keeper.loop import ERROR, READ, WRITE
from sampan.linux import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Sequence
    from typing import Any

    from sampan.keeper.serve import Server

MAX_FDS = 4
MAX_QUEUED = 4 * 1024 * 1024
"""Bytes waiting for a client above which it is taken for dead."""


class Call:
    """One request. One of `answer` and `fail` is to be called, at any time; a client that is gone is ignored."""

    def __init__(self, connection: Connection, number: object, request: dict[str, Any], fds: list[int]) -> None:
        self.connection = connection
        self.request = request
        self.fds = fds
        self.number = number

    def answer(self, result: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Success. `fds` stay the caller's."""
        packet = encode({"id": self.number, "ok": result})
        if len(packet) <= messages.MAX_PACKET:
            self.connection.send(packet, fds)
            return
        for part in split(result):
            self.connection.send(encode({"id": self.number, "ok": part}))

    def fail(self, error: Exception) -> None:
        """Failure: a kind of sampan.errors with its text; anything else is Error."""
        kind = type(error).__name__ if isinstance(error, errors.Error) else "Error"
        message = str(error)[: messages.MAX_PACKET // 8]
        self.connection.send(encode({"id": self.number, "error": {"kind": kind, "message": message}}))

    def done(self, error: Exception | None, result: dict[str, Any]) -> None:
        """The `Done` of the verbs."""
        if error is None:
            self.answer(result)
        else:
            self.fail(error)

    def close_fds(self) -> None:
        """Close what came with the packet and nobody took."""
        while self.fds:
            os.close(self.fds.pop())


class Connection:
    """One client."""

    def __init__(self, server: Server, socket: socket) -> None:
        self.subscribed = False
        self._server = server
        self._socket = socket
        self._queue: list[tuple[bytes, list[int]]] = []
        self._queued = 0
        socket.setblocking(False)
        server.loop.add(socket.fileno(), READ, self._ready)

    def send(self, packet: bytes, fds: Sequence[int] = ()) -> None:
        """Send now, or as soon as the client reads; nothing when it is gone."""
        if self._socket.fileno() < 0:
            return
        if not self._queue and self._push(packet, fds):
            return
        if self._socket.fileno() < 0:
            return
        self._queue.append((packet, [os.dup(fd) for fd in fds]))
        self._queued += len(packet)
        if self._queued > MAX_QUEUED:
            self.close()
            return
        self._server.loop.change(self._socket.fileno(), READ | WRITE)

    def _push(self, packet: bytes, fds: Sequence[int]) -> bool:
        try:
            sockets.send_with_fds(self._socket, packet, fds)
        except BlockingIOError:
            return False
        except OSError:
            self.close()  # EPIPE: the client is gone
        return True

    def _ready(self, mask: int) -> None:
        if mask & WRITE:
            self._flush()
        if mask & (READ | ERROR) and self._socket.fileno() >= 0:
            self._receive()

    def _flush(self) -> None:
        while self._queue and self._socket.fileno() >= 0:
            packet, fds = self._queue[0]
            if not self._push(packet, fds):
                return
            if not self._queue:
                return  # closed meanwhile, with everything that waited
            self._queued -= len(packet)
            self._queue.pop(0)
            for fd in fds:
                os.close(fd)
        if self._socket.fileno() >= 0:
            self._server.loop.change(self._socket.fileno(), READ)

    def _receive(self) -> None:
        try:
            data, fds, truncated = sockets.recv_with_fds(self._socket, messages.MAX_PACKET, MAX_FDS)
        except BlockingIOError:
            return
        except OSError:
            data, fds, truncated = b"", [], False
        if not data and not truncated:
            for fd in fds:
                os.close(fd)
            self.close()
            return
        call = Call(self, None, {}, fds)
        try:
            if truncated:
                raise errors.InvalidArgument(
                    f"packet is larger than {messages.MAX_PACKET} bytes or brings more than {MAX_FDS} file descriptors"
                )
            self._server.handle(data, call)
        except Exception as error:
            if not isinstance(error, (errors.Error, OSError)):
                sys.excepthook(*sys.exc_info())
            call.fail(error)
        finally:
            call.close_fds()

    def close(self) -> None:
        """The client is gone, or to be given up."""
        if self._socket.fileno() < 0:
            return
        self._server.loop.remove(self._socket.fileno())
        self._socket.close()
        queue, self._queue = self._queue, []
        for _, fds in queue:
            for fd in fds:
                os.close(fd)
        self._server.gone(self)


def encode(message: dict[str, Any]) -> bytes:
    """A packet."""
    return json.dumps(message, separators=(",", ":")).encode()


def split(result: dict[str, Any]) -> list[dict[str, Any]]:
    """A large answer in parts: its lists a few items at a time, the rest in the first, "more" in all but the last."""
    first = {key: value for key, value in result.items() if not isinstance(value, list)}
    room = messages.MAX_PACKET - 1024
    parts: list[dict[str, Any]] = []
    part: dict[str, Any] = first
    used = len(encode(part))
    for key, value in result.items():
        if not isinstance(value, list):
            continue
        part.setdefault(key, [])
        for item in value:
            size = len(encode({"": item}))
            if used + size > room:
                parts.append({**part, "more": True})
                part, used = {key: []}, 0
            part.setdefault(key, []).append(item)
            used += size
    parts.append(part)
    return parts


def parse(data: bytes, call: Call) -> str:
    """Fill `call` from a packet and check it against the table of calls; the call's name. InvalidArgument."""
    try:
        request = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise errors.InvalidArgument(f"packet is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise errors.InvalidArgument("packet is not a JSON object")
    call.number = request.get("id")
    name = request.get("call")
    fields = messages.CALLS.get(name) if isinstance(name, str) else None
    if fields is None or not isinstance(name, str):
        raise errors.Unimplemented(f"unknown call {json.dumps(name)[:100]}")
    for field in fields:
        key = field.removesuffix("?")
        value = request.get(key)
        if value is None and key != field:
            continue
        wanted = messages.TYPES[key]
        if type(value) is not wanted:
            raise errors.InvalidArgument(f'call "{name}": "{key}" must be of type {wanted.__name__}')
    call.request = request
    return name
