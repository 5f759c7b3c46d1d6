"""POST /containers/{id}/rename."""

from __future__ import annotations

import msgspec

from sampan.engine.containers.room import Room
from sampan.errors import AlreadyExists, InvalidArgument


async def rename(room: Room, reference: str, name: str) -> None:
    """NotFound, InvalidArgument (Docker's name rules), AlreadyExists."""
    name = name.removeprefix("/")
    if not reference or not name:
        raise InvalidArgument("neither old nor new names may be empty")
    record = room.store.get(reference)
    async with room.live.of(record.id).lock:
        record = room.store.get(record.id)
        if record.name == name:
            raise InvalidArgument("renaming a container with the same name as its current name")
        try:
            with room.store.name_reserved(name, record.id):
                room.networks.rename(record.id, name)
                renamed = room.store.put(msgspec.structs.replace(record, name=name))
        except (AlreadyExists, InvalidArgument) as error:
            # Here, unlike at create, Docker shows an illegal name with its slash.
            text = str(error).replace(f"container name ({name})", f"container name (/{name})")
            raise type(error)(f"Error when allocating new name: {text}") from None
        room.publish(renamed, "rename", oldName=f"/{record.name}")
