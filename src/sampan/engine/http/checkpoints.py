"""Checkpoints of containers (Engine API 1.51): as in dockerd, refused unless the daemon is experimental."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from sampan.api.docker.containers import CheckpointRequest
from sampan.engine.compose import Engine
from sampan.engine.containers import checkpoints
from sampan.engine.http.containers import name_of
from sampan.engine.http.messages import empty, read, reply
from sampan.errors import Unimplemented

_DISABLED = (
    "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable "
    "it."
)

Handler = Callable[[web.Request], Awaitable[web.Response]]


def routes(engine: Engine) -> list[web.RouteDef]:
    room, experimental = engine.containers, engine.settings.experimental

    async def create_checkpoint(request: web.Request) -> web.Response:
        asked = await read(request, CheckpointRequest, required=True)
        await checkpoints.create(
            room, name_of(request), asked.checkpoint_id, directory=asked.checkpoint_dir, leave=not asked.exit
        )
        return empty(201)

    async def list_checkpoints(request: web.Request) -> web.Response:
        found = checkpoints.names(room, name_of(request), request.query.get("dir", ""))
        return reply([{"Name": name} for name in found] or None)

    async def remove_checkpoint(request: web.Request) -> web.Response:
        name, directory = request.match_info["checkpoint"], request.query.get("dir", "")
        await checkpoints.remove(room, name_of(request), name, directory)
        return empty()

    async def disabled(request: web.Request) -> web.Response:
        raise Unimplemented(_DISABLED)

    def when_experimental(handler: Handler) -> Handler:
        return handler if experimental else disabled

    return [
        web.get("/containers/{id}/checkpoints", when_experimental(list_checkpoints), allow_head=False),
        web.post("/containers/{id}/checkpoints", when_experimental(create_checkpoint)),
        web.delete("/containers/{id}/checkpoints/{checkpoint}", when_experimental(remove_checkpoint)),
    ]
