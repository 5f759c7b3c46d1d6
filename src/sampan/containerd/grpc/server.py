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
import logging
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf import empty_pb2, message_factory
from grpclib import GRPCError, Status
from grpclib.config import Configuration
from grpclib.const import Cardinality, Handler
from grpclib.server import Server, Stream

from sampan import errors
from sampan.containerd import identifiers
from sampan.containerd.grpc.errors import grpc_error

log = logging.getLogger("sampan.containerd.grpc")

# As many bytes may be on their way in one stream and in all of a connection: several messages of a blob's 1 MiB.
_STREAM_WINDOW, _CONNECTION_WINDOW = 4 << 20, 16 << 20

# containerd's, for what is received and what is sent; clients hold the latter themselves.
MESSAGE_LIMIT = 16 << 20


@dataclass(frozen=True, slots=True)
class Call:
    """What a request's headers say. `lease` is "" for none."""

    header_namespace: str
    lease: str

    @property
    def namespace(self) -> str:
        """Conflict when the client named none; InvalidArgument."""
        if not self.header_namespace:
            raise errors.Conflict("namespace is required: failed precondition")
        try:
            return identifiers.validate(self.header_namespace)
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument(f"namespace validation: {error}") from error


class Service(Protocol):
    descriptor: Any


def attribute(method: str) -> str:
    """What the method of a service class for an RPC is called: ResizePty is resize_pty, CloseIO close_io."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", method).lower()


class Bound:
    """One service as grpclib wants it."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def __mapping__(self) -> Mapping[str, Handler]:
        descriptor = self._service.descriptor
        return {
            f"/{descriptor.full_name}/{method.name}": Handler(
                self._handler(method),
                Cardinality[_CARDINALITY[method.client_streaming, method.server_streaming]],
                message_factory.GetMessageClass(method.input_type),
                message_factory.GetMessageClass(method.output_type),
            )
            for method in descriptor.methods
        }

    def _handler(self, method: Any) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
        offered = getattr(self._service, attribute(method.name), None)
        if offered is None:
            return _refuse(f"method {method.name} not implemented")
        if method.client_streaming:
            return _guarded(_both_streaming(offered))
        return _guarded(_server_streaming(offered) if method.server_streaming else _unary(offered))


_CARDINALITY = {
    (False, False): "UNARY_UNARY",
    (False, True): "UNARY_STREAM",
    (True, False): "STREAM_UNARY",
    (True, True): "STREAM_STREAM",
}


def _call(stream: Stream[Any, Any]) -> Call:
    headers: Any = stream.metadata or {}
    return Call(str(headers.get("containerd-namespace", "")), str(headers.get("containerd-lease", "")))


def _unary(method: Callable[..., Any]) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
    async def handle(stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        await stream.send_message(await method(_call(stream), request))

    return handle


def _server_streaming(method: Callable[..., Any]) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
    async def handle(stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        # Subscribers wait for the headers before they go on: nothing may have happened yet to send.
        async with aclosing(method(_call(stream), request)) as answers:
            await stream.send_initial_metadata()
            async for answer in answers:
                await stream.send_message(answer)

    return handle


def _both_streaming(method: Callable[..., Any]) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
    async def requests(stream: Stream[Any, Any]) -> AsyncIterator[Any]:
        while (request := await stream.recv_message()) is not None:
            yield request

    async def handle(stream: Stream[Any, Any]) -> None:
        async with aclosing(method(_call(stream), requests(stream))) as answers:
            async for answer in answers:
                await stream.send_message(answer)

    return handle


def _refuse(text: str) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
    async def handle(stream: Stream[Any, Any]) -> None:
        raise GRPCError(Status.UNIMPLEMENTED, text)

    return handle


class Methods(dict[str, Handler]):
    """Every RPC by its path. One that nobody knows is refused as grpc-go does, whose clients go on without it; grpclib
    answers without a content type, which is no answer to them."""

    def __init__(self, known: Mapping[str, Handler]) -> None:
        super().__init__(known)
        self._services = {path.split("/")[1] for path in known}

    def get(self, path: str, default: Any = None) -> Any:
        if path in self:
            return self[path]
        service, _, method = path.removeprefix("/").rpartition("/")
        text = (
            f"unknown method {method} for service {service}"
            if service in self._services
            else f"unknown service {service}"
        )
        return Handler(_refuse(text), Cardinality.UNARY_UNARY, empty_pb2.Empty, empty_pb2.Empty)


def _guarded(
    handle: Callable[[Stream[Any, Any]], Awaitable[None]],
) -> Callable[[Stream[Any, Any]], Awaitable[None]]:
    async def guarded(stream: Stream[Any, Any]) -> None:
        _bound(stream)
        try:
            await handle(stream)
        except GRPCError:
            raise
        except Exception as error:
            status = grpc_error(error)
            if status is None:
                raise
            raise status from error

    return guarded


def _bound(stream: Stream[Any, Any]) -> None:
    """Refuse a message that is announced larger than any may be, before a byte of it is kept."""
    read = stream._stream.recv_data

    async def recv_data(size: int) -> bytes:
        if size > MESSAGE_LIMIT:
            text = f"grpc: received message larger than max ({size} vs. {MESSAGE_LIMIT})"
            raise GRPCError(Status.RESOURCE_EXHAUSTED, text)
        return await read(size)

    stream._stream.recv_data = recv_data  # type: ignore[method-assign]


class Gathering:
    """A transport that sends at once all that was written in this turn of the loop and in the next.

    grpclib writes an answer's headers, message and trailers one by one, and before them, in the turn in which the
    request came, what HTTP/2 itself has to say (Go's clients ask for a ping with every request); each would be a system
    call here and a wake-up of the client, and a `ctr run` has forty answers."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._waiting: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._waiting:
            # A request's handler runs in the turn after the one in which it was read.
            self._loop.call_soon(self._loop.call_soon, self._send)
        self._waiting.append(data)

    def close(self) -> None:
        self._send()
        self._transport.close()

    def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and not self._transport.is_closing():
            self._transport.write(b"".join(waiting))


def _gathering(protocol: Any) -> Any:
    """`protocol`, which will be given a `Gathering` instead of its transport."""
    connect = protocol.connection_made
    protocol.connection_made = lambda transport: connect(Gathering(transport))
    return protocol


class GrpcServer:
    """Serving on `address` until `close`. Made by `listen`."""

    def __init__(self, server: Server, address: str, closing: Iterable[Callable[[], Awaitable[None]]] = ()) -> None:
        self.address = address
        self._server = server
        self._closing = list(closing)

    async def close(self) -> None:
        """Stop listening, end running calls (a subscription never ends by itself), remove the socket."""
        self._server.close()
        try:
            os.unlink(self.address)
        except FileNotFoundError:
            pass  # somebody tidied up before us
        await self._server.wait_closed()
        for close in self._closing:
            await close()


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
    config = Configuration(
        http2_stream_window_size=_STREAM_WINDOW,
        http2_connection_window_size=_CONNECTION_WINDOW,
        _http2_max_pings_without_data=0,
    )
    server = Server([Bound(service) for service in services], config=config)
    server._mapping = Methods(server._mapping)
    # grpclib knows unix sockets by path alone; with the socket made here it never stands with another mode.
    loop = asyncio.get_running_loop()
    server._server = await loop.create_unix_server(lambda: _gathering(server._protocol_factory()), sock=listener)
    server._server_closed_fut = loop.create_future()
    return GrpcServer(server, path, closing)


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
