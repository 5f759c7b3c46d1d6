"""Hijacked connections: after the answer's head the connection carries a container's raw streams.

    client ──bytes──▶ Connection.data_received ──▶ stdin fd (pipe or pty master)
    client ◀──bytes── transport.write ◀── stdout/stderr pipes, framed (wire/stdcopy) unless there is a terminal

aiohttp's protocol is replaced on the transport, because it closes a connection whose client half-closes it, and a
client that has sent all of its input still waits for the output. Source: Engine API 1.51, ContainerAttach.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from sampan.engine.containers.attach import Streams
from sampan.engine.http.detach import DetachKeys
from sampan.engine.http.messages import ANSWERED_KEY, api_version
from sampan.wire import stdcopy

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"

_CHUNK = 64 * 1024
_HIGH = 256 * 1024
"""Bytes of input that wait for the container before the client is told to wait."""


class Connection(asyncio.Protocol):
    """The client's side of a hijacked connection. `lost` is set when it is gone, `eof` when it half-closed."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.lost = asyncio.Event()
        self.eof = False
        self.writable = True
        self.received: deque[bytes] = deque()
        self.on_input: Callable[[], None] = _nothing
        self.on_writable: Callable[[], None] = _nothing

    def data_received(self, data: bytes) -> None:
        self.received.append(data)
        self.on_input()

    def eof_received(self) -> bool:
        self.eof = True
        self.on_input()
        # True keeps the connection open: the client still reads.
        return True

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        self.eof = True
        self.on_input()
        self.on_writable()


def _nothing() -> None: ...


class Hijacked(web.Response):
    """What a handler returns after it has taken the connection: aiohttp has nothing left to send."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def hijack(request: web.Request, tty: bool) -> Connection:
    """Answer the head and take the connection over. 101 when the client asked to upgrade, else 200."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client has gone")
    upgrades = "upgrade" in request.headers.get("Connection", "").lower() or "Upgrade" in request.headers
    content = RAW if tty or api_version(request) < (1, 42) else MULTIPLEXED
    if upgrades:
        head = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {content}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    else:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {content}\r\n\r\n"
    connection = Connection(transport)
    protocol: Any = request.protocol
    early, protocol._message_tail = protocol._message_tail, b""
    transport.write(head.encode())
    transport.set_protocol(connection)
    # aiohttp may have paused reading while nobody took what came.
    transport.resume_reading()
    if early:
        connection.data_received(early)
    # A marker of http/server.py: the head is out, an error can no longer be an HTTP answer.
    request[ANSWERED_KEY] = True
    return connection


def release(request: web.Request, connection: Connection) -> Hijacked:
    """End the connection once everything written has gone out; aiohttp is told at its next turn."""
    protocol: Any = request.protocol
    connection.transport.close()
    asyncio.get_running_loop().call_soon(protocol.connection_lost, None)
    return Hijacked()


def message(text: str, tty: bool) -> bytes:
    """A text of the engine on a hijacked connection."""
    return text.encode() if tty else stdcopy.frame(stdcopy.STDOUT, text.encode())


class Output:
    """One pipe of a container to the client. `done` when the pipe has ended or the client has gone."""

    def __init__(self, fd: int, stream: int | None, connection: Connection) -> None:
        self._fd, self._stream, self._connection = fd, stream, connection
        self._loop = asyncio.get_running_loop()
        self.done = asyncio.Event()
        self._loop.add_reader(fd, self._readable)
        self._reading = True

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            # A pty's other end is gone: its EIO is the end of file.
            data = b""
        if not data or self._connection.lost.is_set():
            self.close()
            return
        if self._stream is None:
            self._connection.transport.write(data)
        else:
            self._connection.transport.writelines((stdcopy.header(self._stream, len(data)), data))
        if not self._connection.writable:
            self._loop.remove_reader(self._fd)
            self._reading = False

    def writable(self) -> None:
        if self.done.is_set():
            return
        if self._connection.lost.is_set():
            self.close()
        elif not self._reading:
            self._loop.add_reader(self._fd, self._readable)
            self._reading = True

    def close(self) -> None:
        if self.done.is_set():
            return
        if self._reading:
            self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self.done.set()


class Input:
    """The client's bytes to the container's stdin. `done` at the client's end, `detached` by the detach keys."""

    def __init__(self, fd: int, connection: Connection, keys: DetachKeys | None) -> None:
        self._fd, self._connection, self._keys = fd, connection, keys
        self._loop = asyncio.get_running_loop()
        self._pending = bytearray()
        self._paused = self._writing = False
        self.done = asyncio.Event()
        self.detached = False
        os.set_blocking(fd, False)
        connection.on_input = self._take
        self._take()

    def _take(self) -> None:
        if self.done.is_set():
            return
        received = self._connection.received
        while received and not self.detached:
            data = received.popleft()
            if self._keys is not None:
                data, self.detached = self._keys.feed(data)
            self._pending += data
        self._flush()

    def _flush(self) -> None:
        try:
            while self._pending:
                written = os.write(self._fd, self._pending[:_CHUNK])
                del self._pending[:written]
        except BlockingIOError:
            pass
        except OSError:
            # The process closed its input: what the client still sends is nobody's.
            self._pending.clear()
            self._end()
            return
        self._watch()
        if not self._pending and (self.detached or (self._connection.eof and not self._connection.received)):
            self._end()

    def _watch(self) -> None:
        if self._pending and not self._writing:
            self._loop.add_writer(self._fd, self._flush)
        elif not self._pending and self._writing:
            self._loop.remove_writer(self._fd)
        self._writing = bool(self._pending)
        transport = self._connection.transport
        if len(self._pending) > _HIGH and not self._paused:
            transport.pause_reading()
            self._paused = True
        elif self._paused and len(self._pending) <= _HIGH // 2 and not self._connection.lost.is_set():
            transport.resume_reading()
            self._paused = False

    def _end(self) -> None:
        if self._writing:
            self._loop.remove_writer(self._fd)
            self._writing = False
        self.done.set()

    def close(self) -> None:
        if not self.done.is_set():
            self._end()
        self._connection.on_input = _nothing
        if self._paused and not self._connection.lost.is_set():
            self._connection.transport.resume_reading()
        os.close(self._fd)


async def relay(
    connection: Connection,
    streams: Streams,
    keys: DetachKeys | None,
    close_stdin: Callable[[], Awaitable[None]],
) -> bool:
    """Carry the streams until the container's side ends, the client goes, or it types the detach keys (then True).

    `close_stdin` is called when the client's input has ended and the container should know."""
    outputs = _outputs(connection, streams)
    feeding = asyncio.ensure_future(_feed(connection, streams, keys, close_stdin))
    ended = asyncio.ensure_future(_all(outputs))
    lost = asyncio.ensure_future(connection.lost.wait())
    try:
        waits: set[asyncio.Future[Any]] = {ended, lost}
        if streams.stdin is not None:
            waits.add(feeding)
        while True:
            done, waits = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if feeding in done and (left := _left(feeding)) is not None:
                return left
            if lost in done or (ended in done and (outputs or feeding not in waits)):
                return False
            if not outputs and feeding in done:
                return False
    finally:
        for task in (feeding, ended, lost):
            task.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        for output in outputs:
            output.close()
        streams.close()


def _left(feeding: asyncio.Future[bool | None]) -> bool | None:
    """What the end of the input means: True, over by the detach keys; False, over; None, the session goes on."""
    if feeding.cancelled() or feeding.exception() is not None:
        return None
    return feeding.result()


def _outputs(connection: Connection, streams: Streams) -> list[Output]:
    found = []
    for name, stream in (("stdout", stdcopy.STDOUT), ("stderr", stdcopy.STDERR)):
        fd = getattr(streams, name)
        if fd is not None:
            setattr(streams, name, None)
            found.append(Output(fd, None if streams.tty else stream, connection))

    def writable() -> None:
        for output in found:
            output.writable()

    connection.on_writable = writable
    return found


async def _all(outputs: list[Output]) -> None:
    for output in outputs:
        await output.done.wait()


async def _feed(
    connection: Connection,
    streams: Streams,
    keys: DetachKeys | None,
    close_stdin: Callable[[], Awaitable[None]],
) -> bool | None:
    """The input's whole life; what its end means is said in `_left`."""
    if streams.stdin is None:
        return None
    # Shielded: the fd that may still come must be closed by somebody (streams.close).
    fd = await asyncio.shield(streams.stdin)
    streams.stdin = None
    if fd is None:
        return None
    pump = Input(fd, connection, keys if streams.tty else None)
    try:
        await pump.done.wait()
    finally:
        pump.close()
    if pump.detached:
        return True
    if streams.tty or not streams.stdin_once:
        # The container keeps its input for the next client; this one has said all it had to say.
        return False
    await close_stdin()
    return None
