"""The streaming half of the Container tag (Engine API 1.51): attach, logs, wait, stats, and docker cp's archives."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from contextlib import aclosing
from typing import BinaryIO

import msgspec
from aiohttp import web

from sampan.engine.compose import Engine
from sampan.engine.containers import archive, attach, logs, stats, wait
from sampan.engine.containers.room import Room
from sampan.engine.http import detach, streams
from sampan.engine.http.containers import name_of
from sampan.engine.http.messages import JsonStream, api_version, empty, ends_with_client, flag
from sampan.engine.logging.jsonfile import Entry, Selection
from sampan.engine.timestamps import from_query
from sampan.errors import InvalidArgument
from sampan.wire import stdcopy

_TAR = "application/x-tar"
_STAT = "X-Docker-Container-Path-Stat"
_CHUNK = 1 << 18


def routes(engine: Engine) -> list[web.RouteDef]:
    room = engine.containers
    return [*_streams(room), *_waiting(room), *_archives(room)]


def _streams(room: Room) -> list[web.RouteDef]:
    async def attach_container(request: web.Request) -> web.StreamResponse:
        keys = detach.DetachKeys(detach.parse(request.query.get("detachKeys", "")))
        record = room.store.get(name_of(request))
        follows = flag(request, "stream")
        joined = await attach.attach(
            room,
            record.id,
            stdin=follows and flag(request, "stdin"),
            stdout=follows and flag(request, "stdout"),
            stderr=follows and flag(request, "stderr"),
        )
        try:
            connection = streams.hijack(request, record.config.tty)
        except BaseException:
            joined.close()
            raise
        if flag(request, "logs"):
            selection = Selection(stdout=flag(request, "stdout"), stderr=flag(request, "stderr"))
            async with aclosing(logs.logs(room, record.id, selection)) as batches:
                async for batch in batches:
                    connection.transport.write(_bytes(batch, record.config.tty))
        if follows:
            left = await streams.relay(connection, joined, keys, lambda: attach.close_stdin(room, record.id))
            if left:
                room.publish(record, "detach")
        else:
            joined.close()
        return streams.release(request, connection)

    async def logs_of_container(request: web.Request) -> web.StreamResponse:
        record = room.store.get(name_of(request))
        selection = _selection(request)
        logs.check(room, record.id, selection)
        stamps, details = flag(request, "timestamps"), flag(request, "details")
        tty = record.config.tty
        content = streams.RAW if tty or api_version(request) < (1, 42) else streams.MULTIPLEXED
        response = web.StreamResponse(headers={"Content-Type": content})
        # Docker's client waits for the head, also when there is nothing to show yet.
        await response.prepare(request)
        async with aclosing(logs.logs(room, record.id, selection, flag(request, "follow"))) as batches:
            async for batch in batches:
                await response.write(_bytes(batch, tty, stamps, details))
        await response.write_eof()
        return response

    return [
        web.post("/containers/{id}/attach", attach_container),
        web.get("/containers/{id}/logs", logs_of_container, allow_head=False),
    ]


def _bytes(batch: list[Entry], tty: bool, stamps: bool = False, details: bool = False) -> bytes:
    parts = []
    for entry in batch:
        data = logs.render(entry, stamps, details)
        if not tty:
            parts.append(stdcopy.header(stdcopy.STDERR if entry.stream == "stderr" else stdcopy.STDOUT, len(data)))
        parts.append(data)
    return b"".join(parts)


def _selection(request: web.Request) -> Selection:
    text = request.query.get("tail", "all")
    # Docker takes everything that is no number, and negative ones, for "all".
    tail = int(text) if text.isascii() and text.isdigit() else None
    since, until = request.query.get("since"), request.query.get("until")
    return Selection(
        stdout=flag(request, "stdout"),
        stderr=flag(request, "stderr"),
        since=from_query(since) if since not in (None, "0") else None,
        until=from_query(until) if until not in (None, "0") else None,
        tail=tail,
    )


def _waiting(room: Room) -> list[web.RouteDef]:
    @ends_with_client
    async def wait_for_container(request: web.Request) -> web.StreamResponse:
        future = wait.wait(room, name_of(request), request.query.get("condition", ""))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        # The head goes out at once: a client starts the container only when it knows that its wait has begun.
        await response.prepare(request)
        status, error = await future
        document: dict[str, object] = {"StatusCode": status}
        if error:
            document["Error"] = {"Message": error}
        await response.write(msgspec.json.encode(document) + b"\n")
        await response.write_eof()
        return response

    async def stats_of_container(request: web.Request) -> web.StreamResponse:
        name = name_of(request)
        follows, one_shot = flag(request, "stream", True), flag(request, "one-shot")
        if follows and one_shot:
            raise InvalidArgument("cannot have stream=true and one-shot=true")
        running = room.store.get(name).has_task
        stream = JsonStream(request)
        previous = None
        if running and not follows and not one_shot:
            # A rate needs two samples.
            previous = await stats.sample(room, name)
            await asyncio.sleep(1)
        while True:
            found = await stats.sample(room, name, previous)
            stream.put(found)
            await stream.drain()
            if not follows:
                return await stream.close()
            previous = found
            await asyncio.sleep(1)

    return [
        web.post("/containers/{id}/wait", wait_for_container),
        web.get("/containers/{id}/stats", stats_of_container, allow_head=False),
    ]


async def _tar(
    request: web.Request, response: web.StreamResponse, produce: Callable[[BinaryIO], None]
) -> web.StreamResponse:
    """Send what `produce` writes, as it is written: through a pipe from its thread, so that a slow client slows it."""
    read, write = os.pipe()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_CHUNK)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", buffering=0)
    )

    def write_all() -> None:
        with os.fdopen(write, "wb", buffering=_CHUNK) as target:
            produce(target)

    producing = asyncio.ensure_future(asyncio.to_thread(write_all))
    try:
        await response.prepare(request)
        while data := await reader.read(_CHUNK):
            await response.write(data)
        # The pipe ends also when the work failed half-way: then the answer must not look complete.
        await producing
        await response.write_eof()
        return response
    finally:
        transport.close()
        # A client that left broke the pipe, which is how the thread hears of it.
        await asyncio.gather(producing, return_exceptions=True)


def _archives(room: Room) -> list[web.RouteDef]:
    def path_of(request: web.Request) -> str:
        path = request.query.get("path", "")
        if not path:
            raise InvalidArgument("bad parameter: path cannot be empty")
        return path

    async def stat_path(request: web.Request) -> web.Response:
        source = archive.source_of(room, name_of(request))
        header = await asyncio.to_thread(archive.stat_header, source, path_of(request))
        return web.Response(headers={_STAT: header})

    async def get_archive(request: web.Request) -> web.StreamResponse:
        source, path = archive.source_of(room, name_of(request)), path_of(request)
        header = await asyncio.to_thread(archive.stat_header, source, path)
        response = web.StreamResponse(headers={_STAT: header, "Content-Type": _TAR})
        room.publish(room.store.get(name_of(request)), "archive-path")
        return await _tar(request, response, lambda target: archive.get(source, path, target))

    async def put_archive(request: web.Request) -> web.Response:
        with tempfile.TemporaryFile(dir=room.settings.root) as spool:
            async for data in request.content.iter_chunked(_CHUNK):
                spool.write(data)
            spool.seek(0)
            no_overwrite = flag(request, "noOverwriteDirNonDir")
            source = archive.source_of(room, name_of(request))
            await asyncio.to_thread(archive.put, source, path_of(request), spool, no_overwrite=no_overwrite)
        room.publish(room.store.get(name_of(request)), "extract-to-dir")
        return empty(200)

    async def export(request: web.Request) -> web.StreamResponse:
        source = archive.source_of(room, name_of(request))
        response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
        room.publish(room.store.get(name_of(request)), "export")
        return await _tar(request, response, lambda target: archive.export(source, target))

    return [
        web.head("/containers/{id}/archive", stat_path),
        web.get("/containers/{id}/archive", get_archive, allow_head=False),
        web.put("/containers/{id}/archive", put_archive),
        web.get("/containers/{id}/export", export, allow_head=False),
    ]
