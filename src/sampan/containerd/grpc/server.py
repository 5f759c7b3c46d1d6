"""The gRPC server: every service of our .proto files on one unix socket.

A service is a class with `descriptor` and one coroutine method for each RPC it offers, named as the RPC in snake case:

    unary             async def get(self, call, request) -> response
    server streaming  def list(self, call, request) -> AsyncIterator[response]
    both streaming    def write(self, call, requests) -> AsyncIterator[response]

An RPC of the descriptor without such a method is answered Unimplemented with its name. `call` says for which
containerd namespace and under which lease. Errors of the kinds become status codes in errors.py.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from typing import Any, Protocol

from google.protobuf import message_factory
from grpclib import GRPCError, Status
from grpclib.config import Configuration
from grpclib.protocol import H2Protocol
from h2.config import H2Configuration
from hyperframe.frame import Frame

from sampan import errors
from sampan.containerd.grpc.calls import Call, Calls, Exchange, Method, Methods

__all__ = ["Call", "GrpcServer", "Service", "attribute", "listen"]

# As many bytes may be on their way in one stream and in all of a connection: several messages of a blob's 1 MiB.
_STREAM_WINDOW, _CONNECTION_WINDOW = 4 << 20, 16 << 20

_Serve = Callable[[Call, Exchange], Awaitable[None]]


class Service(Protocol):
    descriptor: Any


def attribute(method: str) -> str:
    """What the method of a service class for an RPC is called: ResizePty is resize_pty, CloseIO close_io."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", method).lower()


def methods(service: Service) -> Iterator[tuple[str, Method]]:
    """Every RPC of the service by its path."""
    descriptor = service.descriptor
    for method in descriptor.methods:
        parse = message_factory.GetMessageClass(method.input_type).FromString
        yield f"/{descriptor.full_name}/{method.name}", Method(parse, _served(service, method))


def _served(service: Service, method: Any) -> _Serve:
    offered = getattr(service, attribute(method.name), None)
    if offered is None:
        return _unoffered(method.name)
    if method.client_streaming:
        return _both_streaming(offered)
    return _server_streaming(offered) if method.server_streaming else _unary(offered)


def _unary(method: Callable[..., Awaitable[Any]]) -> _Serve:
    async def serve(call: Call, exchange: Exchange) -> None:
        await exchange.send(await method(call, await _single(exchange)))

    return serve


def _server_streaming(method: Callable[..., Any]) -> _Serve:
    async def serve(call: Call, exchange: Exchange) -> None:
        request = await _single(exchange)
        # Subscribers wait for the headers before they go on: nothing may have happened yet to send.
        async with aclosing(method(call, request)) as answers:
            await exchange.begin()
            async for answer in answers:
                await exchange.send(answer)

    return serve


def _both_streaming(method: Callable[..., Any]) -> _Serve:
    async def requests(exchange: Exchange) -> AsyncIterator[Any]:
        while (request := await exchange.receive()) is not None:
            yield request

    async def serve(call: Call, exchange: Exchange) -> None:
        async with aclosing(method(call, requests(exchange))) as answers:
            async for answer in answers:
                await exchange.send(answer)

    return serve


async def _single(exchange: Exchange) -> Any:
    request = await exchange.receive()
    if request is None:
        raise GRPCError(Status.INTERNAL, "the request has no message")
    return request


def _unoffered(name: str) -> _Serve:
    async def serve(call: Call, exchange: Exchange) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, f"method {name} not implemented")

    return serve


class Gathering:
    """A transport that sends together what is written in one turn of the loop, or until `flush`.

    grpclib writes an answer's headers, message and trailers one by one, and before them, in the turn in which the
    request came, what HTTP/2 itself has to say (Go's clients ask for a ping with every request); each would be a system
    call here and a wake-up of the client, and a `ctr run` has forty answers. What is written before `release` waits for
    the answers of the next turn."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._held = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._waiting and not self._held:
            self._loop.call_soon(self.flush)
        self._waiting.append(data)

    def hold(self) -> None:
        """Requests are being taken in."""
        self._held = True

    def release(self) -> None:
        """The requests' handlers are scheduled by now, so they run before the flush that is scheduled here."""
        self._held = False
        if self._waiting:
            self._loop.call_soon(self.flush)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and not self._transport.is_closing():
            self._transport.write(b"".join(waiting))


class _Connection(H2Protocol):
    """A client's: grpclib's, with a `Gathering` instead of its transport."""

    def __init__(
        self, calls: Calls, config: Configuration, h2_config: H2Configuration, connected: set[_Connection]
    ) -> None:
        super().__init__(calls, config, h2_config)
        self.calls = calls
        self._connected = connected

    def connection_made(self, transport: Any) -> None:
        self._connected.add(self)
        self._gathering = Gathering(transport)
        self.calls.flush = self._gathering.flush
        super().connection_made(self._gathering)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        self._gathering.hold()
        super().data_received(data)
        self._gathering.release()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._connected.discard(self)
        super().connection_lost(exc)


class GrpcServer:
    """Serving on `address` until `close`. Made by `listen`."""

    def __init__(self, known: Methods, address: str, closing: Iterable[Callable[[], Awaitable[None]]] = ()) -> None:
        self.address = address
        self._methods = known
        self._closing = list(closing)
        self._connections: set[_Connection] = set()
        self._server: asyncio.AbstractServer | None = None
        self._config = Configuration(
            http2_stream_window_size=_STREAM_WINDOW,
            http2_connection_window_size=_CONNECTION_WINDOW,
            _http2_max_pings_without_data=0,
        ).__for_server__()
        # Headers stay the bytes they are; what is no gRPC among them is `Calls`' to refuse.
        self._h2_config = H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_inbound_headers=False,
            normalize_outbound_headers=False,
        )

    async def serve(self, listener: socket.socket) -> None:
        """Take connections from now on."""
        # grpclib knows unix sockets by path alone; one that the caller made never stands with another mode.
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._connection, sock=listener)

    async def close(self) -> None:
        """Stop listening, end running calls (a subscription never ends by itself), remove the socket."""
        assert self._server is not None
        self._server.close()
        try:
            os.unlink(self.address)
        except FileNotFoundError:
            pass  # somebody tidied up before us
        connections = list(self._connections)
        for connection in connections:
            connection.calls.close()
        for connection in connections:
            await connection.calls.wait_closed()
            connection.connection.close()
        await self._server.wait_closed()
        for close in self._closing:
            await close()

    def _connection(self) -> _Connection:
        return _Connection(Calls(self._methods), self._config, self._h2_config, self._connections)


async def listen(
    services: Iterable[Service],
    address: str,
    *,
    mode: int = 0o660,
    closing: Iterable[Callable[[], Awaitable[None]]] = (),
) -> GrpcServer:
    """Serve `services` on the unix socket `address`, replacing one that nobody listens on any more.

    Unavailable when somebody does."""
    path = address.removeprefix("unix://")
    os.makedirs(os.path.dirname(path), mode=0o711, exist_ok=True)
    _free(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    listener.bind(path)
    os.chmod(path, mode)
    listener.listen(128)
    listener.setblocking(False)
    _spare_texts_of_frames()
    known = Methods(one for service in services for one in methods(service))
    server = GrpcServer(known, path, closing)
    await server.serve(listener)
    return server


def _spare_texts_of_frames() -> None:
    """h2 makes one of each frame that it receives, for a log that is off: a twentieth of the core's time in `ctr run`.

    In all of the process, whose only HTTP/2 is what is served here."""
    Frame.__repr__ = object.__repr__  # type: ignore[method-assign]


def _free(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise errors.Unavailable(f'"{path}" is in use by another process')
