"""POST /containers/{id}/update: new limits for a container, at once when it runs."""

from __future__ import annotations

import msgspec

from sampan.api.docker.containers import UpdateRequest
from sampan.engine.containers import resources, verify
from sampan.engine.containers.room import Room
from sampan.errors import Conflict, Error

_SWAP = "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"


async def update(room: Room, reference: str, request: UpdateRequest) -> list[str]:
    """Warnings. NotFound, InvalidArgument, Conflict, Error with the kernel's refusal; then nothing changed."""
    record = room.store.get(reference)
    resources.check(request, room.facts)
    if request.restart_policy.name:
        verify.check_restart_policy(request.restart_policy, record.host_config.auto_remove)
    async with room.live.of(record.id).lock:
        record = room.store.get(record.id)
        if record.status in ("removing", "dead"):
            raise Conflict(
                f'Cannot update container {record.id}: Container is marked for removal and cannot be "update"'
            )
        changed = msgspec.structs.replace(record.host_config, **resources.merge(record.host_config, request))
        if request.memory > record.host_config.memory_swap and not request.memory_swap:
            # Docker asks for both even where there was no limit before.
            raise Conflict(f"Cannot update container {record.id}: {_SWAP}")
        if record.has_task:
            limits = resources.limits(request)
            if limits:
                try:
                    await room.core.tasks.update(record.id, limits)
                except Error as error:
                    raise type(error)(f"Cannot update container {record.id}: {error}") from error
        record = room.store.put(msgspec.structs.replace(record, host_config=changed))
        room.publish(record, "update")
    return []
