"""What the API has and this engine does not offer (yet): a plain answer each, so that clients say why.

Swarm's calls are answered as by a dockerd that is in no swarm, which is what scripts test for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from sampan.engine.compose import Engine
from sampan.engine.http.messages import read, reply
from sampan.errors import Error, Unavailable, Unimplemented

_NO_SWARM = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
    "and try again."
)

# (method, path, what the answer says is not offered)
_VERBS = (
    ("POST", "/build", "building images"),
    ("POST", "/session", "BuildKit sessions"),
    ("GET", "/images/search", "searching Docker Hub"),
    ("POST", "/swarm/init", "swarm mode"),
    ("POST", "/swarm/join", "swarm mode"),
    ("POST", "/plugins/pull", "plugins"),
    ("POST", "/plugins/create", "plugins"),
)
_SWARM = (
    ("GET", "/swarm"),
    ("GET", "/swarm/unlockkey"),
    ("POST", "/swarm/leave"),
    ("POST", "/swarm/update"),
    ("POST", "/swarm/unlock"),
    *(
        (method, path)
        for kind in ("nodes", "services", "tasks", "secrets", "configs")
        for method, path in (("GET", f"/{kind}"), ("GET", f"/{kind}/{{id}}"), ("POST", f"/{kind}/create"),
                             ("POST", f"/{kind}/{{id}}/update"), ("DELETE", f"/{kind}/{{id}}"))
    ),
)  # fmt: skip


def routes(engine: Engine) -> list[web.RouteDef]:
    async def plugins(request: web.Request) -> web.Response:
        return reply([])

    async def pruned(request: web.Request) -> web.Response:
        return reply({"CachesDeleted": None, "SpaceReclaimed": 0})

    return [
        web.get("/plugins", plugins, allow_head=False),
        web.post("/build/prune", pruned),
        *(web.route(method, path, _refusing(Unimplemented(f"{what} is not offered"))) for method, path, what in _VERBS),
        *(web.route(method, path, _refusing(Unavailable(_NO_SWARM))) for method, path in _SWARM),
    ]


class _Unread(msgspec.Struct):
    """The body of a call that is not offered: any JSON object."""


def _refusing(error: Error) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def refuse(request: web.Request) -> web.Response:
        if request.method == "POST" and request.path.startswith("/swarm/"):
            # A body that is no JSON is refused as such first.
            await read(request, _Unread)
        raise type(error)(str(error))

    return refuse
