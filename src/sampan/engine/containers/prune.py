"""POST /containers/prune: remove every container that does not run."""

from __future__ import annotations

from contextlib import suppress

from sampan.engine.containers import rm
from sampan.engine.containers.room import Room
from sampan.engine.filters import Filters
from sampan.errors import Error

FILTERS = frozenset(("label", "label!", "until"))


async def prune(room: Room, filters: Filters) -> tuple[list[str], int]:
    """(ids removed, bytes freed). InvalidArgument for a wrong `until`."""
    until = filters.until()
    removed, freed = [], 0
    for record in room.store.all():
        if record.is_running or not filters.labels(record.config.labels):
            continue
        if not filters.without_labels(record.config.labels) or (until is not None and record.created_at > until):
            continue
        size = 0
        with suppress(Error):
            size = room.core.snapshots.usage(record.id).size
        # One that was started or removed meanwhile is left alone.
        with suppress(Error):
            await rm.remove(room, record.id)
            removed.append(record.id)
            freed += size
    return removed, freed
