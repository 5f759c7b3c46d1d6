"""POST /containers/{id}/resize."""

from __future__ import annotations

from sampan.engine.containers.room import Room
from sampan.errors import Conflict


async def resize(room: Room, reference: str, height: int, width: int) -> None:
    """Characters. NotFound, Conflict when it does not run."""
    record = room.store.get(reference)
    if not record.has_task:
        raise Conflict(f"container {record.id} is not running")
    if record.config.tty:  # without one there is nothing to do, and Docker says so by doing it
        await room.core.tasks.resize(record.id, "", height, width)
    room.publish(record, "resize", height=str(height), width=str(width))
