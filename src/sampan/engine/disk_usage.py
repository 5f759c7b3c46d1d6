"""/system/df: what images, containers and volumes take on disk, from their rooms.

Adding up sizes walks directories, so it is done in threads: a big disk must not hold up a start. What a thread may
touch is the core, memory and the disk; networks' rows belong to the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sampan.engine.containers import inspect
from sampan.engine.containers import list as listing
from sampan.engine.containers.room import Room
from sampan.engine.filters import Filters
from sampan.engine.images.catalog import Catalog
from sampan.engine.images.listing import disk_usage
from sampan.engine.services import ContainerUsage
from sampan.engine.volumes.local import LocalVolumes


def sources(
    images: Catalog, room: Room, volumes: LocalVolumes, usage: ContainerUsage
) -> Mapping[str, Callable[[], Awaitable[Any]]]:
    """What `System.disk_usage` asks, by the kinds that the API's `type` parameter names."""

    async def of_containers() -> list[dict[str, Any]]:
        documents = listing.list_containers(room, Filters(), everything=True)
        records = [found for document in documents if (found := room.store.find(document["Id"])) is not None]
        sizes = await asyncio.to_thread(lambda: [inspect.sizes(room, record) for record in records])
        for document, (changed, whole) in zip(documents, sizes, strict=True):
            document["SizeRw"], document["SizeRootFs"] = changed, whole
        return documents

    async def of_images() -> Any:
        return await asyncio.to_thread(disk_usage, images, usage)

    async def of_volumes() -> Any:
        return await asyncio.to_thread(volumes.disk_usage)

    return {"image": of_images, "container": of_containers, "volume": of_volumes}
