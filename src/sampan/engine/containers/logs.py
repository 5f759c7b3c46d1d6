"""GET /containers/{id}/logs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, closing
from urllib.parse import quote

from sampan.engine.containers.room import Room
from sampan.engine.logging import drivers
from sampan.engine.logging.following import changes
from sampan.engine.logging.jsonfile import Entry, Selection, Tailer, files, read
from sampan.errors import InvalidArgument, Unimplemented

_STAMP_WIDTH = 9


def check(room: Room, reference: str, selection: Selection) -> None:
    """NotFound; InvalidArgument for no stream at all; Unimplemented (501) for a driver that keeps nothing."""
    record = room.store.get(reference)
    if not (selection.stdout or selection.stderr):
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    if not drivers.can_read(record.host_config.log_config):
        raise Unimplemented("configured logging driver does not support reading")


async def logs(room: Room, reference: str, selection: Selection, follow: bool = False) -> AsyncGenerator[list[Entry]]:
    """Entries in batches, oldest first; with `follow` until the container ends (or `until` has passed)."""
    check(room, reference, selection)
    record = room.store.get(reference)
    path = room.log_path(record.id)
    target = drivers.target(record.host_config.log_config, path)
    max_file = target.max_file if target is not None else 1
    if not follow:
        for batch in _batches(files(path, max_file), selection):
            yield batch
        return
    async with aclosing(_follow(room, record.id, path, max_file, selection)) as batches:
        async for batch in batches:
            yield batch


def _batches(paths: list[str], selection: Selection, size: int | None = None) -> list[list[Entry]]:
    found: list[list[Entry]] = []
    batch: list[Entry] = []
    for entry in read(paths, selection, size):
        batch.append(entry)
        if len(batch) >= 512:
            found.append(batch)
            batch = []
    return [*found, batch] if batch else found


async def _follow(
    room: Room, container_id: str, path: str, max_file: int, selection: Selection
) -> AsyncGenerator[list[Entry]]:
    with changes(room.directory(container_id)) as changed, closing(Tailer(path)) as tailer:
        # Watched and positioned first, then the past up to that position: nothing is missed, nothing comes twice.
        for batch in _batches(files(path, max_file), selection, tailer.size):
            yield batch
        live = room.live.of(container_id)
        while True:
            changed.clear()
            moved = live.moved
            record = room.store.find(container_id)
            running = record is not None and record.is_running
            batch = [entry for entry in tailer.poll() if selection.wants(entry)]
            if batch:
                yield batch
            if not running:
                return
            if selection.until is not None and time.time_ns() > selection.until:
                return
            await _either(changed, moved, selection.until)


async def _either(changed: asyncio.Event, moved: asyncio.Event, until: int | None) -> None:
    """Until something was written, the container has changed its state, or the time is up."""
    rest = None if until is None else max(0.0, until / 1e9 - time.time()) + 0.001
    waits = [asyncio.ensure_future(event.wait()) for event in (changed, moved)]
    try:
        await asyncio.wait(waits, timeout=rest, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def render(entry: Entry, timestamps: bool, details: bool, attributes: Mapping[str, str] | None = None) -> bytes:
    """The entry's bytes as a client sees them: [time ][details ]text."""
    text = entry.text
    if details:
        extra = {**entry.attrs, **(attributes or {})}
        text = ",".join(f"{quote(key)}={quote(value)}" for key, value in sorted(extra.items())) + " " + text
    if timestamps:
        text = f"{stamp(entry.stamp)} {text}"
    return text.encode("utf-8", "surrogatepass")


def stamp(written: str) -> str:
    """With all nine digits of the fraction, as Docker prints it."""
    head, _, rest = written.removesuffix("Z").partition(".")
    return f"{head}.{rest.ljust(_STAMP_WIDTH, '0')}Z"
