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


# What Docker has in a layer of its own below every container: mount points and marks, which are no changes.
_OWN = frozenset(
    (
        "/.dockerenv",
        "/dev",
        "/dev/console",
        "/dev/pts",
        "/dev/shm",
        "/etc/hostname",
        "/etc/hosts",
        "/etc/mtab",
        "/etc/resolv.conf",
        "/proc",
        "/sbin/docker-init",
        "/sys",
        "/usr/sbin/docker-init",
    )
)


def _walk(upper: str, lower: list[str], path: str, found: list[tuple[str, int]]) -> None:
    for entry in os.scandir(upper + path):
        name = f"{path}/{entry.name}"
        status = entry.stat(follow_symlinks=False)
        below = layers.kind(lower, name) != "missing" if lower else False
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            if below:
                found.append((name, DELETED))
            continue
        before = len(found)
        is_directory = stat.S_ISDIR(status.st_mode)
        if is_directory:
            _walk(upper, lower if below else [], name, found)
        if name in _OWN and len(found) == before and (not below if is_directory else _is_mark(status, upper + name)):
            continue
        if is_directory and below and len(found) == before and os.listdir(upper + name):
            # It is here only because of such a mount point in it.
            continue
        found.append((name, MODIFIED if below else ADDED))


def _is_mark(status: os.stat_result, path: str) -> bool:
    """An empty file, or the link that /etc/mtab is."""
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path) == "/proc/mounts"
    return status.st_size == 0
