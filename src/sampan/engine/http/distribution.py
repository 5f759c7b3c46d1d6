"""GET /distribution/{name}/json (Engine API 1.51, DistributionInspect)."""

from __future__ import annotations

from aiohttp import web

from sampan.api.docker import images as documents
from sampan.engine.compose import Engine
from sampan.engine.http.messages import reply
from sampan.engine.images.transfer import credentials_from, registry_failure
from sampan.oci import reference


def routes(engine: Engine) -> list[web.RouteDef]:
    async def inspect(request: web.Request) -> web.Response:
        name = reference.parse_normalized(request.match_info["name"]).with_default_tag()
        with registry_failure():
            target, platforms = await engine.registries.describe(
                name, credentials_from(request.headers.get("X-Registry-Auth"))
            )
        return reply(
            documents.DistributionInspect(
                Descriptor=documents.Descriptor(target.media_type, target.digest, target.size),
                Platforms=[documents.Platform(one.architecture, one.os, one.variant) for one in platforms],
            )
        )

    return [web.get("/distribution/{name:.*}/json", inspect, allow_head=False)]
