"""POST /containers/{id}/restart: stop when it runs, then start."""

from __future__ import annotations

import msgspec

from sampan.engine.containers import kill, restarts, start, stop
from sampan.engine.containers.model import Container
from sampan.engine.containers.room import Room
from sampan.engine.containers.signals import parse_signal
from sampan.errors import Error, NotFound


async def restart(room: Room, reference: str, seconds: int | None = None, signal: str = "") -> None:
    """NotFound, InvalidArgument (signal), and Error for what stop or start would not do. --rm survives it."""
    record = room.store.get(reference)
    number = parse_signal(signal) if signal else kill.stop_signal(record)
    try:
        await _restart(room, record, number, seconds)
    except Error as error:
        raise Error(f"Cannot restart container {reference}: {error}") from error


async def _restart(room: Room, record: Container, number: int, seconds: int | None) -> None:
    live = room.live.of(record.id)
    if record.status == "restarting":
        restarts.cancel(room, record, live)
    elif record.has_task:
        # The exit that follows must not remove the container: it is about to run again.
        kept = live.removing
        live.removing = True
        try:
            await stop.end(room, record, number, stop.seconds_for(record, seconds))
        finally:
            live.removing = kept
    async with live.lock:
        current = room.store.find(record.id)
        if current is None:
            raise NotFound(f"No such container: {record.id}")
        if not current.has_task:
            await start.run(room, msgspec.structs.replace(current, manually_stopped=False), live)
        room.publish(current, "restart")
