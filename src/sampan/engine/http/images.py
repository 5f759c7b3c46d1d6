"""The Image tag (Engine API 1.51)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

import msgspec
from aiohttp import web

from sampan.api.docker import images as documents
from sampan.api.docker.containers import Config
from sampan.engine.compose import Engine
from sampan.engine.containers import commit as committing
from sampan.engine.filters import Filters
from sampan.engine.http.messages import JsonStream, api_version, empty, ends_with_client, flag, read, reply
from sampan.engine.images import inspect as inspection
from sampan.engine.images import listing, names, transfer
from sampan.engine.images.remove import PRUNE_FILTERS
from sampan.errors import Error, InvalidArgument, Unimplemented
from sampan.oci import platform as platforms
from sampan.oci.image import Platform
from sampan.oci.reference import Reference

log = logging.getLogger("sampan.http")


def routes(engine: Engine) -> list[web.RouteDef]:
    return [*_reading(engine), *_changing(engine), *_moving(engine), *_archives(engine)]


def _reading(engine: Engine) -> list[web.RouteDef]:
    catalog = engine.images

    async def index(request: web.Request) -> web.Response:
        filters = Filters.parse(request.query.get("filters"), listing.FILTERS)
        if api_version(request) < (1, 41) and request.query.get("filter"):
            # The old way to name one repository.
            filters = Filters({**filters.fields(), "reference": [request.query["filter"]]})
        found = listing.summaries(
            catalog, filters, version=api_version(request), shared_size=flag(request, "shared-size")
        )
        return reply(found)

    async def inspect(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return reply(inspection.inspect(catalog, name, api_version(request), _platform(request, (1, 49))))

    async def history(request: web.Request) -> web.Response:
        return reply(inspection.history(catalog, request.match_info["name"], _platform(request, (1, 48))))

    return [
        web.get("/images/json", index, allow_head=False),
        web.get("/images/{name:.*}/json", inspect, allow_head=False),
        web.get("/images/{name:.*}/history", history, allow_head=False),
    ]


def _changing(engine: Engine) -> list[web.RouteDef]:
    async def tag(request: web.Request) -> web.Response:
        query = request.query
        names.tag(engine.images, engine.events, request.match_info["name"], query.get("repo", ""), query.get("tag", ""))
        return empty(201)

    async def remove(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if not name.strip():
            raise InvalidArgument("image name cannot be blank")
        return reply(await engine.removal.remove(name, flag(request, "force")))

    async def prune(request: web.Request) -> web.Response:
        removed, freed = await engine.removal.prune(Filters.parse(request.query.get("filters"), PRUNE_FILTERS))
        return reply(documents.ImagesPruned(ImagesDeleted=list(removed) or None, SpaceReclaimed=freed))

    return [
        web.post("/images/prune", prune),
        web.post("/images/{name:.*}/tag", tag),
        web.delete("/images/{name:.*}", remove),
    ]


def _moving(engine: Engine) -> list[web.RouteDef]:
    @ends_with_client
    async def create(request: web.Request) -> web.StreamResponse:
        query = request.query
        if not query.get("fromImage"):
            return await _imported(engine, request)
        stream = JsonStream(request)
        pull = engine.transfers.pull(
            query["fromImage"],
            query.get("tag", ""),
            query.get("platform", "") if api_version(request) >= (1, 32) else "",
            transfer.credentials_from(request.headers.get("X-Registry-Auth")),
            stream.put,
        )
        return await _told(stream, pull)

    @ends_with_client
    async def push(request: web.Request) -> web.StreamResponse:
        stream = JsonStream(request)
        credentials = transfer.credentials_from(request.headers.get("X-Registry-Auth"))
        name, tag = request.match_info["name"], request.query.get("tag", "")
        return await _told(stream, engine.transfers.push(name, tag, credentials, stream.put))

    async def commit(request: web.Request) -> web.Response:
        query = request.query
        image_id = await committing.commit(
            engine.containers,
            engine.commits,
            query.get("container", ""),
            asked=await read(request, Config),
            changes=query.getall("changes", []),
            target=_target(request),
            author=query.get("author", ""),
            comment=query.get("comment", ""),
            standing=flag(request, "pause", True),
        )
        return reply({"Id": image_id}, 201)

    return [
        web.post("/commit", commit),
        web.post("/images/create", create),
        web.post("/images/{name:.*}/push", push),
    ]


async def _imported(engine: Engine, request: web.Request) -> web.StreamResponse:
    """`docker import`: the tar is the request's body."""
    query = request.query
    if query.get("fromSrc") != "-":
        raise Unimplemented(
            f'importing from a URL is not offered: "{query.get("fromSrc", "")}"; send the archive itself'
        )
    target, stream = _target(request), JsonStream(request)

    async def importing() -> None:
        image_id = await engine.commits.import_tar(
            request.content.iter_chunked(1 << 18),
            changes=query.getall("changes", []),
            target=target,
            message=query.get("message", ""),
            platform=query.get("platform", ""),
        )
        stream.put(documents.ProgressLine(status=image_id))

    return await _told(stream, importing())


def _target(request: web.Request) -> Reference | None:
    """The `repo` and `tag` parameters as a name; None without. InvalidArgument."""
    repository = request.query.get("repo", "")
    return names.parse_target(repository, request.query.get("tag", "")) if repository else None


def _archives(engine: Engine) -> list[web.RouteDef]:
    async def save(request: web.Request) -> web.StreamResponse:
        given = [request.match_info["name"]] if "name" in request.match_info else request.query.getall("names", [])
        pieces = engine.archives.save(given)
        response = web.StreamResponse(headers={"Content-Type": "application/x-tar"})
        await response.prepare(request)
        # A piece is read from disk in a thread: an archive may be larger than memory and slower than the client.
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            await response.write(piece)
        await response.write_eof()
        return response

    @ends_with_client
    async def load(request: web.Request) -> web.StreamResponse:
        stream = JsonStream(request)
        archive = request.content.iter_chunked(1 << 18)
        return await _told(stream, engine.archives.load(archive, flag(request, "quiet", True), stream.put))

    return [
        web.get("/images/get", save, allow_head=False),
        web.get("/images/{name:.*}/get", save, allow_head=False),
        web.post("/images/load", load),
    ]


async def _told(stream: JsonStream, work: Awaitable[None]) -> web.StreamResponse:
    """Stream what `work` tells; a failure after the first line is the last line."""
    try:
        with transfer.registry_failure():
            await stream.run(work)
    except ConnectionError:
        raise
    except Exception as error:
        if not stream.started:
            raise
        if not isinstance(error, Error):
            log.exception("unexpected error in a transfer")
        stream.put(transfer.failure(error))
    return await stream.close()


def _platform(request: web.Request, since: tuple[int, int]) -> str:
    """The JSON `platform` parameter as "os/arch[/variant]"; "" when absent or older than it. InvalidArgument."""
    text = request.query.get("platform", "")
    if not text or api_version(request) < since:
        return ""
    try:
        given = msgspec.json.decode(text, type=documents.Platform)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"failed to parse platform: {error}") from None
    return platforms.format(Platform(given.os, given.architecture, given.variant))
