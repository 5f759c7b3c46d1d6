"""POST /commit: an image from a container, which stands still meanwhile if it was asked to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Protocol

from sampan.api.docker.containers import Config
from sampan.engine.containers.pause import pause, unpause
from sampan.engine.containers.room import Room
from sampan.errors import Conflict
from sampan.oci.reference import Reference


class Commits(Protocol):
    """What this verb asks of the images room; see `engine/images/commits.py`."""

    async def commit(
        self,
        container: str,
        image_id: str,
        own: Config,
        *,
        asked: Config,
        changes: Sequence[str],
        target: Reference | None,
        author: str = "",
        comment: str = "",
    ) -> str: ...


async def commit(
    room: Room,
    images: Commits,
    reference: str,
    *,
    asked: Config,
    changes: Sequence[str],
    target: Reference | None,
    author: str = "",
    comment: str = "",
    standing: bool = True,
) -> str:
    """The ID of the image. NotFound; Conflict for one that is being removed; InvalidArgument (a bad change)."""
    record = room.store.get(reference)
    if record.status in ("removing", "dead"):
        raise Conflict(f"You cannot commit container {record.id} which is {record.status.capitalize()}")
    async with AsyncExitStack() as undo:
        if standing and record.status == "running":
            await pause(room, record.id)
            undo.push_async_callback(unpause, room, record.id)
        image_id = await images.commit(
            record.id,
            record.image_id,
            record.config,
            asked=asked,
            changes=changes,
            target=target,
            author=author,
            comment=comment,
        )
    shown = str(target) if target is not None else ""
    room.publish(record, "commit", comment=comment, imageID=image_id, imageRef=shown)
    return image_id
