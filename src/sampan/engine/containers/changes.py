"""GET /containers/{id}/changes (docker diff): what the container's upper directory has that its image has not."""

from __future__ import annotations

import asyncio
import os
import stat

from sampan.engine.containers import layers
from sampan.engine.containers.room import Room

MODIFIED, ADDED, DELETED = 0, 1, 2


async def changes(room: Room, reference: str) -> list[tuple[str, int]]:
    """(path, kind) in path order. NotFound."""
    record = room.store.get(reference)
    stack = layers.directories(room.core.snapshots.mounts(record.id)) or []
    upper = room.core.snapshots.upper(record.id)
    lower = [directory for directory in stack if directory != upper]
    return await asyncio.to_thread(compare, upper, lower)


def compare(upper: str, lower: list[str]) -> list[tuple[str, int]]:
    """What `upper` changes over the layers `lower`, topmost first."""
    found: list[tuple[str, int]] = []
    _walk(upper, lower, "", found)
    return sorted(found)


def _walk(upper: str, lower: list[str], path: str, found: list[tuple[str, int]]) -> None:
    for entry in os.scandir(upper + path):
        name = f"{path}/{entry.name}"
        status = entry.stat(follow_symlinks=False)
        below = layers.kind(lower, name) != "missing" if lower else False
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            if below:
                found.append((name, DELETED))
            continue
        found.append((name, MODIFIED if below else ADDED))
        if stat.S_ISDIR(status.st_mode):
            _walk(upper, lower if below else [], name, found)
