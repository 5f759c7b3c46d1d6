"""DELETE /containers/{id}: the record goes first, in one transaction; then everything it held."""

from __future__ import annotations

import shutil
from contextlib import suppress

import msgspec

from sampan.engine.containers import failures, kill, restarts
from sampan.engine.containers.live import Live
from sampan.engine.containers.model import Container
from sampan.engine.containers.room import Room
from sampan.engine.volumes import shm
from sampan.errors import Conflict, Error, NotFound


async def remove(room: Room, reference: str, *, force: bool = False, volumes: bool = False) -> None:
    """NotFound; Conflict when it runs and `force` is not given, or when it is being removed already."""
    record = room.store.get(reference)
    live = room.live.of(record.id)
    if record.is_running and not force:
        raise _running(record)
    if live.removing:
        raise Conflict(f"removal of container {reference} is already in progress")
    live.removing = True
    try:
        if record.status == "restarting":
            restarts.cancel(room, record, live)
        elif record.has_task:
            try:
                await kill.end(room, record, live)
            except Error as error:
                raise Error(f'cannot remove container "/{record.name}": could not kill: {error}') from error
        async with live.lock:
            current = room.store.find(record.id)
            if current is not None:
                # --rm asked for the anonymous volumes to go too, however the container comes to its end.
                volumes = volumes or current.host_config.auto_remove
                await remove_record(room, current, live, volumes=volumes, exit_code=current.exit_code)
    finally:
        live.removing = False


def _running(record: Container) -> Conflict:
    if record.status == "paused":
        return Conflict(f'cannot remove container "/{record.name}": container is paused and must be unpaused first')
    return Conflict(
        f'cannot remove container "/{record.name}": container is {record.status}: stop the container before '
        "removing or force remove"
    )


async def remove_record(room: Room, record: Container, live: Live, *, volumes: bool, exit_code: int) -> None:
    """Remove a container that has no task; answers those who wait for the removal."""
    if live.teardown is not None:
        await live.teardown
    room.store.delete(record.id)
    failures.drop_attachments(live)
    live.move()
    await remove_remains(room, record, volumes=volumes)
    live.answer(exit_code, removed=True)
    room.live.drop(record.id)


async def remove_remains(room: Room, record: Container, *, volumes: bool) -> None:
    """What a container without a record may have left: each step goes on when there is nothing to do."""
    room.networks.release(record.id)
    room.networks.forget(record.id)
    room.execs.forget(record.id)
    with suppress(NotFound):
        room.core.snapshots.remove(record.id)
    shutil.rmtree(room.directory(record.id), ignore_errors=True)
    shm.release(room.shm(record.id))
    if volumes:
        for mount in record.mounts:
            if mount.type == "volume" and mount.anonymous:
                # Another container may have taken it over by --volumes-from: then it stays.
                with suppress(Error):
                    room.volumes.remove(mount.name)
    room.publish(msgspec.structs.replace(record, status="removing"), "destroy")
