"""The Exec tag (Engine API 1.51)."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from sampan.api.docker import containers as documents
from sampan.engine.compose import Engine
from sampan.engine.containers import attach
from sampan.engine.containers import exec as execs
from sampan.engine.http import detach, streams
from sampan.engine.http.containers import name_of
from sampan.engine.http.messages import empty, extent, read, reply
from sampan.errors import Error

_AFTER_THE_HEAD_S = 0.02


def routes(engine: Engine) -> list[web.RouteDef]:
    room = engine.containers

    async def create(request: web.Request) -> web.Response:
        asked = await read(request, documents.ExecCreateRequest)
        detach.parse(asked.detach_keys)
        return reply({"Id": execs.create(room, name_of(request), asked)}, 201)

    async def start(request: web.Request) -> web.StreamResponse:
        asked = await read(request, documents.ExecStartRequest)
        entry, record = execs.check_startable(room, name_of(request))
        if asked.detach:
            _, run = await execs.start(room, entry.id, attach=False, console_size=asked.console_size)
            await run
            return empty(200)
        joined, run = await execs.start(room, entry.id, attach=True, console_size=asked.console_size)
        assert joined is not None
        try:
            connection = streams.hijack(request, entry.request.tty)
        except BaseException:
            joined.close()
            raise
        keys = detach.DetachKeys(detach.parse(entry.detach_keys))
        relaying = asyncio.ensure_future(
            streams.relay(connection, joined, keys, lambda: attach.close_stdin(room, record.id, entry.id))
        )
        try:
            await run
        except Error as error:
            # The head is out: dockerd too tells on the stream why the command did not start.
            relaying.cancel()
            await asyncio.gather(relaying, return_exceptions=True)
            # docker-py reads the head through a buffer and the rest past it: what comes along with the head is lost.
            await asyncio.sleep(_AFTER_THE_HEAD_S)
            connection.transport.write(streams.message(f"{error}\r\n", entry.request.tty))
            return streams.release(request, connection)
        if await relaying:
            room.publish(record, "exec_detach", execID=entry.id)
        elif not connection.lost.is_set():
            # A client asks for the exit code right after the end of the stream: it must be there.
            await entry.ended.wait()
        return streams.release(request, connection)

    async def resize(request: web.Request) -> web.Response:
        await execs.resize(room, name_of(request), extent(request, "h", "height"), extent(request, "w", "width"))
        return empty(200)

    async def inspect(request: web.Request) -> web.Response:
        return reply(msgspec.to_builtins(execs.inspect(room, name_of(request))))

    return [
        web.post("/containers/{id}/exec", create),
        web.post("/exec/{id}/start", start),
        web.post("/exec/{id}/resize", resize),
        web.get("/exec/{id}/json", inspect, allow_head=False),
    ]
