"""`docker rmi` and `docker image prune` (Engine API 1.51, ImageDelete and ImagePrune).

A name given: that name goes, and the image with its last one. An ID given: all its names go if they are of one
repository. Containers that use the image stand in the way: running ones always, stopped ones unless forced.

One removal at a time; what an image alone reached is collected in a thread, while the API goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from sampan.api.docker.images import ImageDelete
from sampan.containerd.services import Images as Names
from sampan.engine.filters import Filters
from sampan.engine.images import names
from sampan.engine.images.catalog import Catalog, Entry
from sampan.engine.images.listing import created
from sampan.engine.services import ContainerUsage, Events
from sampan.errors import Conflict, NotFound
from sampan.oci.reference import Reference

EMBEDDED = "docker.io/sampan/host"
PRUNE_FILTERS = ("dangling", "label", "label!", "until")


@dataclass(frozen=True, slots=True)
class Removal:
    """The parts that a removal touches."""

    catalog: Catalog
    names: Names
    containers: ContainerUsage
    events: Events
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def remove(self, text: str, force: bool = False) -> list[ImageDelete]:
        """The lines of what was untagged and deleted. NotFound; Conflict in Docker's words."""
        async with self._turn:
            return await self._remove(text, force)

    async def _remove(self, text: str, force: bool) -> list[ImageDelete]:
        entry = self.catalog.entry(text)
        done: list[ImageDelete] = []
        by_name = not entry.id.startswith(text) and not entry.id.removeprefix("sha256:").startswith(text)
        if entry.details.embedded and (not by_name or self._name(entry, text).name == EMBEDDED):
            # Without its name `run sampan/host` would fail until the next start of the engine.
            raise _conflict(entry, "cannot be forced", "image is embedded in sampan")
        if by_name:
            if not self._untag(entry, text, force, done):
                return done
        elif is_single(entry):
            self._check(entry, running=True, stopped=not force)
            for name in (*entry.tags, *entry.digests):
                self._take(entry, name, done)
        await self._delete(entry, force, quiet=by_name, done=done)
        return done

    def _untag(self, entry: Entry, text: str, force: bool, done: list[ImageDelete]) -> bool:
        """Take the name away; whether the image itself is to go too."""
        users = self.containers.using_image(entry.id)
        if users and not force and is_single(entry):
            raise Conflict(
                f'conflict: unable to remove repository reference "{text}" (must force) - '
                f"container {users[0][0][:12]} is using its referenced image {short(entry.id)}"
            )
        name = self._name(entry, text)
        self._take(entry, name, done)
        left = [other for other in (*entry.tags, *entry.digests) if other != name]
        if not name.digest and not any(other.tag and other.name == name.name for other in left):
            # The digests of a repository go with its last tag.
            for other in [other for other in left if other.name == name.name]:
                self._take(entry, other, done)
                left.remove(other)
        return not left

    def _name(self, entry: Entry, text: str) -> Reference:
        _, shown = self.catalog.find(text)
        for name in (*entry.tags, *entry.digests):
            if name.familiar == shown or (name.digest and shown.endswith("@" + name.digest)):
                return name
        raise NotFound(f"No such image: {text}")

    def _take(self, entry: Entry, name: Reference, done: list[ImageDelete]) -> None:
        names.take(self.catalog, name)
        self.events.publish("image", "untag", entry.id, {**entry.details.labels, "name": entry.id})
        done.append(ImageDelete(Untagged=name.familiar))

    async def _delete(self, entry: Entry, force: bool, quiet: bool, done: list[ImageDelete]) -> None:
        entry = self.catalog.entry_of(entry.id)
        try:
            self._check(entry, running=True, stopped=not force, named=not force)
        except Conflict:
            if quiet:
                # Its name is gone, as was asked for; that a container keeps the image is no failure.
                return
            raise
        for name in (*entry.tags, *entry.digests):
            self._take(entry, name, done)
        names.forget(self.catalog, entry.id)
        await asyncio.to_thread(self.names.collect)
        self.events.publish("image", "delete", entry.id, {**entry.details.labels, "name": entry.id})
        done.append(ImageDelete(Deleted=entry.id))
        for chain_id in reversed(entry.details.chain):
            if not self._is_there(chain_id):
                done.append(ImageDelete(Deleted=chain_id))

    def _is_there(self, chain_id: str) -> bool:
        try:
            self.catalog.snapshots.stat(chain_id)
        except NotFound:
            return False
        return True

    def _check(self, entry: Entry, *, running: bool, stopped: bool, named: bool = False) -> None:
        """Conflict for the first thing in the way, in dockerd's order."""
        users = self.containers.using_image(entry.id)
        if running:
            for container_id, runs in users:
                if runs:
                    raise _conflict(
                        entry, "cannot be forced", f"image is being used by running container {container_id[:12]}"
                    )
        if named and (entry.tags or entry.digests):
            raise _conflict(entry, "must be forced", "image is referenced in multiple repositories")
        if stopped:
            for container_id, runs in users:
                if not runs:
                    raise _conflict(
                        entry, "must be forced", f"image is being used by stopped container {container_id[:12]}"
                    )

    async def prune(self, filters: Filters) -> tuple[Sequence[ImageDelete], int]:
        """Remove unused images, only dangling ones unless `dangling=false`; (lines, bytes freed). InvalidArgument."""
        async with self._turn:
            return await self._prune(filters)

    async def _prune(self, filters: Filters) -> tuple[Sequence[ImageDelete], int]:
        dangling_only = filters.boolean("dangling", True)
        until = filters.until()
        done: list[ImageDelete] = []
        freed = 0
        for entry in self.catalog.entries():
            if (
                (dangling_only and entry.tags)
                or entry.details.embedded
                or self.containers.using_image(entry.id)
                or not filters.labels(entry.details.labels)
                or not filters.without_labels(entry.details.labels)
                or (until is not None and created(entry.details) >= until)
            ):
                continue
            sizes = {chain_id: self.catalog.layer_size(chain_id) for chain_id in entry.details.chain}
            lines: list[ImageDelete] = []
            with suppress(NotFound):  # removed by somebody else while the one before was
                await self._delete(entry, True, quiet=False, done=lines)
            freed += sum(sizes.get(line.Deleted, 0) for line in lines)
            done += lines
        # Layers outlive their image while a container stands on them: what such containers left goes now.
        freed += await asyncio.to_thread(self.names.collect)
        self.events.publish("image", "prune", "", {"reclaimed": str(freed)})
        return done, freed


def is_single(entry: Entry) -> bool:
    """Whether the image has one name, or one tag with digests of the same repository only."""
    if len(entry.tags) + len(entry.digests) <= 1:
        return len(entry.tags) + len(entry.digests) == 1
    repositories = {name.name for name in entry.digests}
    if len(entry.tags) > 1 or len(repositories) != 1:
        return False
    first = entry.tags[0] if entry.tags else entry.digests[0]
    return first.name in repositories


def short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]


def _conflict(entry: Entry, forcing: str, reason: str) -> Conflict:
    return Conflict(f"conflict: unable to delete {short(entry.id)} ({forcing}) - {reason}")
