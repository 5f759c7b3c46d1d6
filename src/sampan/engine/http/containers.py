"""The Container tag (Engine API 1.51): request, verb, document. Streams are in `container_streams.py`."""

from __future__ import annotations

import msgspec
from aiohttp import web

from sampan.api.docker import containers as documents
from sampan.engine.compose import Engine
from sampan.engine.containers import (
    changes,
    create,
    inspect,
    kill,
    links,
    pause,
    prune,
    rename,
    resize,
    restart,
    rm,
    start,
    stop,
    top,
    update,
)
from sampan.engine.containers import list as listing
from sampan.engine.containers.room import Room
from sampan.engine.filters import Filters
from sampan.engine.http.messages import api_version, empty, extent, flag, number, read, reply


def name_of(request: web.Request) -> str:
    return request.match_info["id"]


def routes(engine: Engine) -> list[web.RouteDef]:
    return [*_lifecycle(engine.containers), *_state(engine.containers), *_reading(engine.containers)]


def _lifecycle(room: Room) -> list[web.RouteDef]:
    async def create_container(request: web.Request) -> web.Response:
        asked = await read(request, documents.CreateRequest, required=True)
        asked = _for_version(asked, api_version(request))
        name, platform = request.query.get("name", ""), request.query.get("platform", "")
        return reply(await create.create(room, asked, name, platform), 201)

    async def start_container(request: web.Request) -> web.Response:
        name, directory = request.query.get("checkpoint", ""), request.query.get("checkpoint-dir", "")
        return empty(204 if await start.start(room, name_of(request), name, directory) else 304)

    async def stop_container(request: web.Request) -> web.Response:
        signal = request.query.get("signal", "")
        return empty(204 if await stop.stop(room, name_of(request), _seconds(request), signal) else 304)

    async def restart_container(request: web.Request) -> web.Response:
        await restart.restart(room, name_of(request), _seconds(request), request.query.get("signal", ""))
        return empty()

    async def kill_container(request: web.Request) -> web.Response:
        await kill.kill(room, name_of(request), request.query.get("signal", ""))
        return empty()

    async def remove_container(request: web.Request) -> web.Response:
        if flag(request, "link"):
            links.remove(room.store, name_of(request))
            return empty()
        await rm.remove(room, name_of(request), force=flag(request, "force"), volumes=flag(request, "v"))
        return empty()

    async def prune_containers(request: web.Request) -> web.Response:
        removed, freed = await prune.prune(room, Filters.parse(request.query.get("filters"), prune.FILTERS))
        return reply({"ContainersDeleted": removed or None, "SpaceReclaimed": freed})

    return [
        web.post("/containers/create", create_container),
        web.post("/containers/prune", prune_containers),
        web.post("/containers/{id}/start", start_container),
        web.post("/containers/{id}/stop", stop_container),
        web.post("/containers/{id}/restart", restart_container),
        web.post("/containers/{id}/kill", kill_container),
        web.delete("/containers/{id:.+}", remove_container),
    ]


def _for_version(asked: documents.CreateRequest, version: tuple[int, int]) -> documents.CreateRequest:
    """What older API versions meant by the same request."""
    host_config = asked.host_config
    if version < (1, 40) and host_config.pids_limit is not None and host_config.pids_limit <= 0:
        host_config = msgspec.structs.replace(host_config, pids_limit=None)
    if version < (1, 44):
        # A read-only bind was not recursive then.
        mounts = [
            msgspec.structs.replace(
                mount,
                bind_options=msgspec.structs.replace(
                    mount.bind_options or documents.BindOptions(), read_only_non_recursive=True
                ),
            )
            if mount.type == "bind" and mount.read_only
            else mount
            for mount in host_config.mounts
        ]
        host_config = msgspec.structs.replace(host_config, mounts=mounts)
    return msgspec.structs.replace(asked, host_config=host_config)


def _seconds(request: web.Request) -> int | None:
    return number(request, "t") if request.query.get("t") else None


def _state(room: Room) -> list[web.RouteDef]:
    async def pause_container(request: web.Request) -> web.Response:
        await pause.pause(room, name_of(request))
        return empty()

    async def unpause_container(request: web.Request) -> web.Response:
        await pause.unpause(room, name_of(request))
        return empty()

    async def rename_container(request: web.Request) -> web.Response:
        await rename.rename(room, name_of(request), request.query.get("name", ""))
        return empty()

    async def update_container(request: web.Request) -> web.Response:
        warnings = await update.update(room, name_of(request), await read(request, documents.UpdateRequest))
        return reply({"Warnings": warnings or None})

    async def resize_container(request: web.Request) -> web.Response:
        await resize.resize(room, name_of(request), extent(request, "h", "height"), extent(request, "w", "width"))
        return empty(200)

    return [
        web.post("/containers/{id}/pause", pause_container),
        web.post("/containers/{id}/unpause", unpause_container),
        web.post("/containers/{id}/rename", rename_container),
        web.post("/containers/{id}/update", update_container),
        web.post("/containers/{id}/resize", resize_container),
    ]


def _reading(room: Room) -> list[web.RouteDef]:
    async def list_containers(request: web.Request) -> web.Response:
        filters = Filters.parse(request.query.get("filters"), listing.FILTERS)
        found = listing.list_containers(
            room,
            filters,
            everything=flag(request, "all"),
            limit=max(0, number(request, "limit")),
            size=flag(request, "size"),
        )
        return reply(found)

    async def inspect_container(request: web.Request) -> web.Response:
        return reply(inspect.inspect(room, name_of(request), flag(request, "size")))

    async def top_container(request: web.Request) -> web.Response:
        titles, processes = await top.top(room, name_of(request), request.query.get("ps_args", "-ef"))
        return reply({"Titles": titles, "Processes": processes})

    async def changes_of_container(request: web.Request) -> web.Response:
        found = await changes.changes(room, name_of(request))
        return reply([{"Path": path, "Kind": kind} for path, kind in found] or None)

    return [
        web.get("/containers/json", list_containers, allow_head=False),
        web.get("/containers/{id:.+}/json", inspect_container, allow_head=False),
        web.get("/containers/{id}/top", top_container, allow_head=False),
        web.get("/containers/{id}/changes", changes_of_container, allow_head=False),
    ]
