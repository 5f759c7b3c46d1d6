"""The System tag: _ping, version, info, system/df (Engine API 1.51)."""

from __future__ import annotations

from aiohttp import web

from sampan.engine.compose import Engine
from sampan.engine.http.messages import api_version, reply
from sampan.errors import InvalidArgument

_NO_CACHE = {"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache"}
# The classic builder: BuildKit's gRPC session is not offered.
_PING = {**_NO_CACHE, "Builder-Version": "1", "Swarm": "inactive"}
_KINDS = frozenset(("container", "image", "volume", "build-cache"))


def routes(engine: Engine) -> list[web.RouteDef]:
    async def ping(request: web.Request) -> web.Response:
        if request.method == "HEAD":
            return web.Response(headers={**_PING, "Content-Length": "0"}, content_type="text/plain", charset="utf-8")
        return web.Response(text="OK", headers=_PING)

    async def version(request: web.Request) -> web.Response:
        return reply(engine.system.version())

    async def info(request: web.Request) -> web.Response:
        return reply(engine.system.info())

    async def disk_usage(request: web.Request) -> web.Response:
        wanted = request.query.getall("type", [])
        for kind in wanted:
            if kind not in _KINDS:
                raise InvalidArgument(f"unknown object type: {kind}")
        return reply(await engine.system.disk_usage(wanted if api_version(request) >= (1, 42) else ()))

    return [
        web.get("/_ping", ping, allow_head=False),
        web.head("/_ping", ping),
        web.get("/version", version, allow_head=False),
        web.get("/info", info, allow_head=False),
        web.get("/system/df", disk_usage, allow_head=False),
    ]
