"""The Network tag (Engine API 1.51)."""

from __future__ import annotations

from aiohttp import web

from sampan.api.docker import networks as documents
from sampan.engine.compose import Engine
from sampan.engine.filters import Filters
from sampan.engine.http.messages import empty, read, reply
from sampan.engine.networks import members
from sampan.engine.networks.filters import LIST_FILTERS, PRUNE_FILTERS


def routes(engine: Engine) -> list[web.RouteDef]:
    networks = engine.networks

    async def index(request: web.Request) -> web.Response:
        return reply(networks.list(Filters.parse(request.query.get("filters"), LIST_FILTERS)))

    async def inspect(request: web.Request) -> web.Response:
        return reply(networks.inspect(request.match_info["id"]))

    async def create(request: web.Request) -> web.Response:
        network = networks.create(await read(request, documents.NetworkCreateRequest))
        return reply(documents.NetworkCreateResponse(id=network.id), 201)

    async def remove(request: web.Request) -> web.Response:
        networks.remove(request.match_info["id"])
        return empty()

    async def connect(request: web.Request) -> web.Response:
        body = await read(request, documents.NetworkConnectRequest)
        await members.connect(
            networks, engine.containers, request.match_info["id"], body.container, body.endpoint_config
        )
        return empty(200)

    async def disconnect(request: web.Request) -> web.Response:
        body = await read(request, documents.NetworkDisconnectRequest)
        await members.disconnect(networks, engine.containers, request.match_info["id"], body.container, body.force)
        return empty(200)

    async def prune(request: web.Request) -> web.Response:
        removed = networks.prune(Filters.parse(request.query.get("filters"), PRUNE_FILTERS))
        return reply(documents.NetworkPruneResponse(networks_deleted=list(removed) or None))

    return [
        web.get("/networks", index, allow_head=False),
        web.get("/networks/", index, allow_head=False),
        web.post("/networks/create", create),
        web.post("/networks/prune", prune),
        web.post("/networks/{id}/connect", connect),
        web.post("/networks/{id}/disconnect", disconnect),
        web.get("/networks/{id:.+}", inspect, allow_head=False),
        web.delete("/networks/{id:.+}", remove),
    ]
