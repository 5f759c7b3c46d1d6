"""gRPC on grpclib's HTTP/2 streams: a request's headers and messages, the answer's messages and trailers.

    headers (path, namespace, lease, timeout)  ->  Method.serve(call, exchange)
                                                     exchange.receive()   a message, None after the last
                                                     exchange.send(...)   a message, after the answer's headers
    trailers (grpc-status, grpc-message)       <-  its end, or its GRPCError

grpclib's own server does this too, with metadata, hooks and states for callers that want them; a `ctr run` makes forty
calls and waits for each (docs/bench.md), so what nobody here wants is left out, and an answer leaves at once.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from grpclib import GRPCError, Status
from grpclib.metadata import decode_timeout, encode_grpc_message
from grpclib.protocol import AbstractHandler, Stream
from h2.exceptions import ProtocolError

from sampan import errors
from sampan.containerd import identifiers
from sampan.containerd.grpc.errors import grpc_error

log = logging.getLogger("sampan.containerd.grpc")

# containerd's, for what is received and what is sent; clients hold the latter themselves.
MESSAGE_LIMIT = 16 << 20

_HEADERS = [(b":status", b"200"), (b"content-type", b"application/grpc")]
_CONTENT_TYPES = frozenset((b"application/grpc", b"application/grpc+proto"))
_PREFIX = struct.Struct(">?I")
"""Of a message: whether it is compressed, and its length."""

Headers = Mapping[bytes, bytes]


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


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC. `parse` makes a request message of its bytes; DecodeError."""

    parse: Callable[[bytes], Any]
    serve: Callable[[Call, Exchange], Awaitable[None]]


class Exchange:
    """The messages of one call."""

    def __init__(self, stream: Stream, headers: Headers, flush: Callable[[], None]) -> None:
        self.parse: Callable[[bytes], Any] = bytes
        self._stream, self._headers, self._flush = stream, headers, flush
        self._begun = False

    async def receive(self) -> Any:
        """The next message of the client, None when it sends no more. GRPCError for one that cannot be read."""
        prefix = await self._read(_PREFIX.size)
        if not prefix:
            return None
        compressed, size = _PREFIX.unpack(prefix)
        if compressed:
            encoding = self._headers.get(b"grpc-encoding", b"").decode("ascii", "replace")
            text = f'grpc: Decompressor is not installed for grpc-encoding "{encoding}"'
            raise GRPCError(Status.UNIMPLEMENTED, text)
        if size > MESSAGE_LIMIT:  # before a byte of it is kept
            text = f"grpc: received message larger than max ({size} vs. {MESSAGE_LIMIT})"
            raise GRPCError(Status.RESOURCE_EXHAUSTED, text)
        body = await self._read(size)
        try:
            return self.parse(body)
        except DecodeError as error:
            raise GRPCError(Status.INTERNAL, f"grpc: error unmarshalling request: {error}") from error

    async def _read(self, size: int) -> bytes:
        """So many bytes, none at the end of the request. GRPCError when that comes in their midst."""
        try:
            return await self._stream.recv_data(size)
        except AssertionError as error:  # how grpclib tells of it
            raise GRPCError(Status.INTERNAL, "unexpected EOF") from error

    async def begin(self) -> None:
        """Send the answer's headers, which come before any message."""
        if not self._begun:
            await self._stream.send_headers(_HEADERS)  # type: ignore[arg-type]
            self._begun = True

    async def send(self, message: Any) -> None:
        """Send a message, as the client's windows allow."""
        await self.begin()
        body = message.SerializeToString()
        await self._stream.send_data(_PREFIX.pack(False, len(body)) + body)

    async def end(self, status: Status, text: str) -> None:
        """The last of an answer. `text` is for people, "" for none."""
        headers = [] if self._begun else list(_HEADERS)
        headers.append((b"grpc-status", b"%d" % status.value))
        if text:
            headers.append((b"grpc-message", encode_grpc_message(text).encode()))
        await self._stream.send_headers(headers, end_stream=True)  # type: ignore[arg-type]
        if status is not Status.OK:
            self._reset()
        # The client need not wait for what is still to be done in this turn.
        self._flush()

    async def refuse(self, code: bytes, text: str) -> None:
        """The answer to what is no gRPC request: a status of HTTP."""
        status = (b"grpc-status", b"%d" % Status.UNKNOWN.value)
        headers = [(b":status", code), status, (b"grpc-message", encode_grpc_message(text).encode())]
        await self._stream.send_headers(headers, end_stream=True)  # type: ignore[arg-type]
        self._reset()

    def _reset(self) -> None:
        """What the client may still be sending is not waited for."""
        if self._stream.closable:
            self._stream.reset_nowait()


class Methods:
    """Every RPC by its path, `/package.Service/Method`."""

    def __init__(self, known: Iterable[tuple[str, Method]]) -> None:
        self._known = {path.encode(): method for path, method in known}
        self._services = {path.decode().split("/")[1] for path in self._known}

    def of(self, path: bytes) -> Method:
        """GRPCError in grpc-go's words, whose clients go on without what is not known."""
        method = self._known.get(path)
        if method is not None:
            return method
        service, _, name = path.decode("ascii", "replace").removeprefix("/").rpartition("/")
        if not service:
            raise GRPCError(Status.UNIMPLEMENTED, f'malformed method name: "{name}"')
        if service not in self._services:
            raise GRPCError(Status.UNIMPLEMENTED, f"unknown service {service}")
        raise GRPCError(Status.UNIMPLEMENTED, f"unknown method {name} for service {service}")


class Calls(AbstractHandler):
    """The calls of one connection: grpclib tells which begin (`accept`) and which are given up. `flush` sends what was
    written."""

    def __init__(self, methods: Methods) -> None:
        self.flush: Callable[[], None] = _nothing
        self._methods = methods
        self._tasks: dict[Stream, asyncio.Task[None]] = {}
        self._loop = asyncio.get_running_loop()

    def accept(self, stream: Stream, headers: Any, release_stream: Callable[[], None]) -> None:
        task = self._tasks[stream] = self._loop.create_task(self._serve(stream, dict(headers)))

        def ended(_: asyncio.Task[None]) -> None:
            del self._tasks[stream]
            release_stream()

        task.add_done_callback(ended)

    def cancel(self, stream: Stream) -> None:
        self._tasks[stream].cancel()

    def close(self) -> None:
        """End all calls: some, like a subscription, never end by themselves."""
        for task in self._tasks.values():
            task.cancel()

    async def wait_closed(self) -> None:
        """Until what `close` has cancelled is over."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))

    async def _serve(self, stream: Stream, headers: Headers) -> None:
        exchange = Exchange(stream, headers, self.flush)
        try:
            refusal = _refusal(headers)
            if refusal is not None:
                await exchange.refuse(*refusal)
                return
            try:
                await self._answer(headers, exchange)
            except Exception as error:
                failed = error if isinstance(error, GRPCError) else grpc_error(error)
                if failed is None:
                    log.exception("%s", _text(headers, b":path"))
                    failed = GRPCError(Status.UNKNOWN, "Internal Server Error")
                await exchange.end(failed.status, failed.message or "")
            else:
                await exchange.end(Status.OK, "")
        except ProtocolError:
            pass  # the client has given the call up meanwhile

    async def _answer(self, headers: Headers, exchange: Exchange) -> None:
        method = self._methods.of(headers.get(b":path", b""))
        exchange.parse = method.parse
        call = Call(_text(headers, b"containerd-namespace"), _text(headers, b"containerd-lease"))
        timeout = headers.get(b"grpc-timeout")
        if timeout is None:
            await method.serve(call, exchange)
        else:
            async with asyncio.timeout(_seconds(timeout)):
                await method.serve(call, exchange)


def _nothing() -> None:
    """There is no connection yet."""


def _text(headers: Headers, name: bytes) -> str:
    return headers.get(name, b"").decode("utf-8", "replace")


def _seconds(timeout: bytes) -> float:
    try:
        return decode_timeout(timeout.decode("ascii", "replace"))
    except ValueError as error:
        raise GRPCError(Status.INTERNAL, f"malformed grpc-timeout: {error}") from error


def _refusal(headers: Headers) -> tuple[bytes, str] | None:
    """A status of HTTP and why, for a request that is none of gRPC."""
    if headers.get(b":method") != b"POST":
        return b"405", f"http2: received a {_text(headers, b':method')} request, want POST"
    if headers.get(b"content-type") not in _CONTENT_TYPES:
        return b"415", f'invalid gRPC request content-type "{_text(headers, b"content-type")}"'
    if headers.get(b"te") != b"trailers":
        return b"400", 'gRPC requires "te: trailers"'
    return None
