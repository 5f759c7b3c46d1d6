"""POST /containers/{id}/pause and /unpause: the freezer."""

from __future__ import annotations

import msgspec

from sampan.engine.containers.model import after, refusal
from sampan.engine.containers.room import Room
from sampan.errors import Error


async def pause(room: Room, reference: str) -> None:
    """NotFound, Conflict (not running, paused already)."""
    record = room.store.get(reference)
    async with room.live.of(record.id).lock:
        record = room.store.get(record.id)
        status = after(record.status, "pause", record.id)
        try:
            await room.core.tasks.pause(record.id)
        except Error as error:
            raise type(error)(f"cannot pause container {record.id}: {error}") from error
        record = room.store.put(msgspec.structs.replace(record, status=status))
        room.publish(record, "pause")


async def unpause(room: Room, reference: str) -> None:
    """NotFound; Error (HTTP 500, as dockerd) when it is not paused."""
    record = room.store.get(reference)
    async with room.live.of(record.id).lock:
        record = room.store.get(record.id)
        if record.status != "paused":
            raise Error(refusal(record.status, "unpause", record.id))
        try:
            await room.core.tasks.resume(record.id)
        except Error as error:
            raise type(error)(f"cannot unpause container {record.id}: {error}") from error
        record = room.store.put(msgspec.structs.replace(record, status="running"))
        room.publish(record, "unpause")
