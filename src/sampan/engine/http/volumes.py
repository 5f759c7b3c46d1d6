"""The Volume tag (Engine API 1.51)."""

from __future__ import annotations

from aiohttp import web

from sampan.api.docker import volumes as documents
from sampan.engine.compose import Engine
from sampan.engine.filters import Filters
from sampan.engine.http.messages import api_version, empty, flag, read, reply
from sampan.engine.volumes.local import document

LIST_FILTERS = ("dangling", "driver", "label", "name")
PRUNE_FILTERS = ("all", "label", "label!")


def routes(engine: Engine) -> list[web.RouteDef]:
    volumes = engine.volumes

    async def index(request: web.Request) -> web.Response:
        filters = Filters.parse(request.query.get("filters"), LIST_FILTERS)
        return reply(documents.VolumeList(Volumes=[document(volume) for volume in volumes.list(filters)]))

    async def create(request: web.Request) -> web.Response:
        body = await read(request, documents.VolumeCreateOptions)
        volume = volumes.create(body.Name or "", body.Driver or "local", body.DriverOpts, body.Labels)
        return reply(document(volume), 201)

    async def inspect(request: web.Request) -> web.Response:
        return reply(document(volumes.get(request.match_info["name"])))

    async def remove(request: web.Request) -> web.Response:
        volumes.remove(request.match_info["name"], flag(request, "force"))
        return empty()

    async def prune(request: web.Request) -> web.Response:
        filters = Filters.parse(request.query.get("filters"), PRUNE_FILTERS)
        removed, freed = volumes.prune(filters, everything=api_version(request) < (1, 42))
        return reply(documents.VolumesPruned(VolumesDeleted=list(removed) or None, SpaceReclaimed=freed))

    return [
        web.get("/volumes", index, allow_head=False),
        web.post("/volumes/create", create),
        web.post("/volumes/prune", prune),
        web.get("/volumes/{name:.*}", inspect, allow_head=False),
        web.delete("/volumes/{name:.*}", remove),
    ]
