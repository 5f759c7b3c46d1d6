"""ttrpc over asyncio: the client that calls a shim, and the server that shims send their events to.

connection = await connect("unix:///run/containerd/s/4f…", lost=...)
payload = await connection.call("containerd.task.v2.Task", "State", request.SerializeToString(), within=2)
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping

from sampan import errors
from sampan.wire import ttrpc

log = logging.getLogger("sampan.containerd.shims")

Handler = Callable[[bytes], Awaitable[bytes]]


def path_of(address: str) -> str:
    """The path to connect to of a shim's address; "@name" and "\\0name" are abstract sockets (shims before 1.5).

    Unimplemented for another transport than a unix socket."""
    scheme, separator, path = address.partition("://")
    if not separator:
        path = address
    elif scheme != "unix":
        raise errors.Unimplemented(f'shim address "{address}" is no unix socket: not implemented')
    return "\0" + path[1:] if path.startswith(("@", "\0")) else path


class Connection:
    """A client's side. Calls are answered in any order; `lost` is called once, after every waiting call has failed."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: Callable[[], None]) -> None:
        self._writer = writer
        self._lost = lost
        self._last = -1
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._open = True
        self._reading = asyncio.get_running_loop().create_task(self._read(reader))

    async def call(
        self,
        service: str,
        method: str,
        payload: bytes,
        *,
        within: float = 0,
        metadata: Mapping[str, str] | None = None,
    ) -> bytes:
        """The answer's payload. The kind that the status names; Unavailable when nobody answers `within` seconds (0:
        however long) or the connection ends."""
        if not self._open:
            raise errors.Unavailable("ttrpc: closed: unavailable")
        self._last += 2
        stream = self._last
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[stream] = future
        timeout = int(within * 1e9)
        try:
            self._writer.write(ttrpc.send(ttrpc.Request(stream, service, method, payload, timeout, metadata)))
            if not within:
                return await future
            async with asyncio.timeout(within):
                return await future
        except ttrpc.TtrpcError as error:
            raise errors.InvalidArgument(f"{method}: {error}: invalid argument") from error
        except TimeoutError as error:
            raise errors.Unavailable(f"shim did not answer {method} within {within:g} s: unavailable") from error
        finally:
            self._calls.pop(stream, None)

    def close(self) -> None:
        """Give up the connection; waiting calls are Unavailable, and `lost` is not called."""
        if self._open:
            self._reading.cancel()
            self._end()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        frames = ttrpc.Reader()
        try:
            while data := await reader.read(65536):
                frames.feed(data)
                while (event := frames.next_event()) is not None:
                    self._take(event)
        except (OSError, ttrpc.TtrpcError) as error:
            log.warning("shim connection: %s", error)
        self._end()
        self._lost()

    def _take(self, event: object) -> None:
        if isinstance(event, ttrpc.Oversized):
            self._answer(event.stream, errors.Error(f"answer of {event.size} bytes is too large: unknown"))
        elif isinstance(event, ttrpc.Response):
            if event.code == ttrpc.OK:
                self._answer(event.stream, event.payload)
            else:
                self._answer(event.stream, ttrpc.KINDS.get(event.code, errors.Error)(event.message))

    def _answer(self, stream: int, result: bytes | errors.Error) -> None:
        future = self._calls.get(stream)
        if future is None or future.done():
            return  # nobody waits for it any more
        if isinstance(result, bytes):
            future.set_result(result)
        else:
            future.set_exception(result)

    def _end(self) -> None:
        self._open = False
        self._writer.close()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(errors.Unavailable("ttrpc: closed: unavailable"))


async def connect(address: str, *, within: float, lost: Callable[[], None]) -> Connection:
    """A connection to the shim at `address`. Unavailable when nobody listens or answers there."""
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_unix_connection(path_of(address))
    except (OSError, TimeoutError) as error:
        raise errors.Unavailable(f'dial "{address}": {error or "timeout"}: unavailable') from error
    return Connection(reader, writer, lost)


class TtrpcServer:
    """Serves `handlers`, by "SERVICE/METHOD", on a unix socket until `close`. Made by `listen`."""

    def __init__(self, path: str, handlers: Mapping[str, Handler]) -> None:
        self.path = path
        self._handlers = handlers
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def close(self) -> None:
        """Hang up on every client and remove the socket."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass  # somebody tidied up before us

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        frames = ttrpc.Reader()
        try:
            while data := await reader.read(65536):
                frames.feed(data)
                while (event := frames.next_event()) is not None:
                    answer = await self._handle(event)
                    if answer is not None:
                        writer.write(ttrpc.send(answer))
                await writer.drain()
        except asyncio.CancelledError:
            pass  # the server is closed
        except (OSError, ttrpc.TtrpcError) as error:
            log.warning("ttrpc client: %s", error)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _handle(self, event: object) -> ttrpc.Response | None:
        if isinstance(event, ttrpc.Oversized):
            text = f"message of {event.size} bytes is larger than {ttrpc.MAX_PAYLOAD}"
            return ttrpc.Response(event.stream, b"", ttrpc.RESOURCE_EXHAUSTED, text)
        if isinstance(event, ttrpc.Data):
            return ttrpc.Response(event.stream, b"", ttrpc.INVALID_ARGUMENT, "no streaming call is offered")
        if not isinstance(event, ttrpc.Request):
            return None
        name = f"{event.service}/{event.method}"
        handler = self._handlers.get(name)
        if handler is None:
            return ttrpc.Response(event.stream, b"", ttrpc.UNIMPLEMENTED, f"{name}: not implemented")
        try:
            return ttrpc.Response(event.stream, await handler(event.payload))
        except errors.Error as error:
            return ttrpc.Response(event.stream, b"", ttrpc.code_of(error), str(error))


async def listen(path: str, handlers: Mapping[str, Handler]) -> TtrpcServer:
    """Serve on `path` (mode 0660, as the gRPC socket beside it), replacing a socket left there: its owner's lock is on
    the root directory."""
    server = TtrpcServer(path, handlers)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass  # the first start
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.bind(path)
        os.chmod(path, 0o660)
        server._server = await asyncio.start_unix_server(server._client, sock=listener)
    except BaseException:
        listener.close()
        raise
    return server
