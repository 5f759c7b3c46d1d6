"""Reading requests and writing answers as Docker's API does: JSON bodies, query flags, progress streams.

Every route file uses these, so that a wrong content type or broken JSON gets the same words everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from sampan.api.docker import reading
from sampan.errors import InvalidArgument

T = TypeVar("T", bound=msgspec.Struct)
F = TypeVar("F", bound=Callable[[web.Request], Awaitable[web.StreamResponse]])

# aiohttp warns about plain strings from the release on that has typed keys (3.14).
VERSION_KEY: Any = web.RequestKey("version", tuple) if hasattr(web, "RequestKey") else "version"
ANSWERED_KEY: Any = web.RequestKey("answered", bool) if hasattr(web, "RequestKey") else "answered"

FALSE = frozenset(("", "0", "no", "false", "none"))


def ends_with_client(handler: F) -> F:
    """Mark a route that is cancelled when its client leaves.

    GET and HEAD always are; anything else runs to its end, so that a start or a removal is never cut in half."""
    handler.__dict__["ends_with_client"] = True
    return handler


def api_version(request: web.Request) -> tuple[int, int]:
    """The version the client asked for, as (1, NN); the newest when the path named none."""
    version: tuple[int, int] = request[VERSION_KEY]
    return version


def flag(request: web.Request, name: str, default: bool = False) -> bool:
    """A boolean query parameter: absent is `default`; empty, 0, no, false and none are false, the rest true."""
    value = request.query.get(name)
    return default if value is None else value.strip().lower() not in FALSE


def number(request: web.Request, name: str, default: int = 0) -> int:
    """A decimal query parameter. InvalidArgument with Go's words when it is none."""
    value = request.query.get(name)
    if not value:
        return default
    try:
        return int(value)
    except ValueError:
        raise InvalidArgument(f'strconv.Atoi: parsing "{value}": invalid syntax') from None


def extent(request: web.Request, name: str, what: str) -> int:
    """A terminal's height or width, which must be there. InvalidArgument in Docker's words."""
    value = request.query.get(name, "")
    if not (value.isascii() and value.isdigit()):
        raise InvalidArgument(f'invalid resize {what} "{value}": invalid syntax')
    return int(value)


def check_json(request: web.Request) -> None:
    """Raise InvalidArgument unless the content type is JSON, or there is neither type nor body."""
    given = request.headers.get("Content-Type", "")
    if not given and not request.can_read_body:
        return
    if given.partition(";")[0].strip().lower() != "application/json":
        raise InvalidArgument(f"unsupported Content-Type header ({given}): must be 'application/json'")


async def read(request: web.Request, kind: type[T], *, required: bool = False) -> T:
    """The request's body as the document `kind`; an empty body is an empty document unless `required`.

    InvalidArgument in Docker's words."""
    check_json(request)
    data = await request.read()
    try:
        return reading.parse(data or (b" " if required else b""), kind)
    except reading.TrailingContent as error:
        raise InvalidArgument(str(error)) from None
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"invalid JSON: {error}") from None


def reply(document: Any, status: int = 200) -> web.Response:
    """`document` (a msgspec struct, or plain lists and maps) as a JSON answer."""
    return web.Response(status=status, body=msgspec.json.encode(document) + b"\n", content_type="application/json")


def empty(status: int = 204) -> web.Response:
    return web.Response(status=status)


class JsonStream:
    """A chunked stream of JSON objects, one a line: progress of a pull, events, prune-like long work.

    The headers go out with the first object (or `open`), so that a failure before it is still a plain HTTP
    error. `put` never waits and may be called from plain callbacks; `drain` waits for a slow client."""

    def __init__(self, request: web.Request, content_type: str = "application/json", end: bytes = b"\r\n") -> None:
        self._request = request
        self._end = end
        self._response = web.StreamResponse(headers={"Content-Type": content_type})
        self._pending: list[bytes] = []
        self._wake = asyncio.Event()

    @property
    def started(self) -> bool:
        return self._response.prepared

    @property
    def response(self) -> web.StreamResponse:
        return self._response

    async def open(self) -> None:
        if not self._response.prepared:
            await self._response.prepare(self._request)

    def put(self, document: Any) -> None:
        self._pending.append(msgspec.json.encode(document) + self._end)
        self._wake.set()

    async def drain(self) -> None:
        """Write what was put. ConnectionError when the client is gone."""
        if not self._pending:
            return
        await self.open()
        data, self._pending = b"".join(self._pending), []
        await self._response.write(data)

    async def run(self, work: Awaitable[Any]) -> Any:
        """Perform `work` while sending what it puts; its result. Cancels it when the client leaves."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self._wake.set())
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                done = task.done()
                if done and task.exception() is not None and not self.started:
                    # Lines put in the same instant as the failure give way to a proper status.
                    self._pending.clear()
                await self.drain()
                if done:
                    return task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def close(self) -> web.StreamResponse:
        await self.open()
        await self.drain()
        await self._response.write_eof()
        return self._response
