"""POST /auth (Engine API 1.51, SystemAuth): what `docker login` asks."""

from __future__ import annotations

from aiohttp import web

from sampan.api.docker.system import AuthConfig, AuthResult
from sampan.engine.compose import Engine
from sampan.engine.http.errors import body
from sampan.engine.http.messages import read, reply
from sampan.engine.images.transfer import credentials, registry_failure
from sampan.errors import Unauthorized


def routes(engine: Engine) -> list[web.RouteDef]:
    async def auth(request: web.Request) -> web.Response:
        config = await read(request, AuthConfig)
        try:
            with registry_failure():
                await engine.registries.login(config.serveraddress or "", credentials(config))
        except Unauthorized as error:
            # The one place where the registry's refusal is the caller's own.
            return web.Response(status=401, body=body(str(error)), content_type="application/json")
        return reply(AuthResult(Status="Login Succeeded", IdentityToken=""))

    return [web.post("/auth", auth)]
