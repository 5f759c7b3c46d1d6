"""POST /containers/{id}/stop."""

from __future__ import annotations

from contextlib import suppress

from sampan.engine.containers import kill, restarts
from sampan.engine.containers.model import Container
from sampan.engine.containers.room import Room
from sampan.engine.containers.signals import parse_signal
from sampan.errors import Conflict

DEFAULT_TIMEOUT = 10


async def stop(room: Room, reference: str, seconds: int | None = None, signal: str = "") -> bool:
    """The stop signal, then SIGKILL after `seconds` (negative: never); False when it does not run (304).

    NotFound, InvalidArgument (signal), Error."""
    record = room.store.get(reference)
    live = room.live.of(record.id)
    if record.status == "restarting":
        record = restarts.cancel(room, record, live)
        room.publish(record, "stop")
        return True
    if not record.has_task:
        # Also for a signal that is none: Docker looks at it only when there is something to stop.
        return False
    number = parse_signal(signal) if signal else kill.stop_signal(record)
    await end(room, record, number, seconds_for(record, seconds))
    room.publish(record, "stop")
    return True


def seconds_for(record: Container, timeout: int | None) -> float | None:
    """The asked time, else the container's own, else ten seconds; None for no limit."""
    if timeout is None:
        timeout = record.config.stop_timeout if record.config.stop_timeout is not None else DEFAULT_TIMEOUT
    return None if timeout < 0 else float(timeout)


async def end(room: Room, record: Container, number: int, seconds: float | None) -> None:
    """Signal, wait, kill. Returns when the exit is committed. Error when even SIGKILL does not end it."""
    live = room.live.of(record.id)
    live.stopping = True
    with suppress(Conflict):
        await kill.send(room, record, number)
    if not await kill.ended_within(live, seconds):
        await kill.end(room, record, live)
