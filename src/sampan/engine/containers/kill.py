"""POST /containers/{id}/kill, and the ending of a task that stop, restart and remove share."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from sampan.engine.containers import restarts
from sampan.engine.containers.live import Live
from sampan.engine.containers.model import Container
from sampan.engine.containers.room import Room
from sampan.engine.containers.signals import parse_signal
from sampan.errors import Conflict, Error, InvalidArgument, NotFound

SIGKILL, SIGTERM = 9, 15
_PATIENCE = 10.0
"""Seconds that a task is given to end after SIGKILL: longer means that the kernel is stuck (uninterruptible sleep)."""


async def kill(room: Room, reference: str, signal: str = "") -> None:
    """Send a signal (SIGKILL when empty); after SIGKILL, wait for the end.

    NotFound, Conflict `cannot kill container: x: container ID is not running`, InvalidArgument."""
    try:
        record = room.store.get(reference)
    except NotFound as error:
        raise NotFound(f"cannot kill container: {reference}: {error}") from None
    try:
        number = parse_signal(signal) if signal else SIGKILL
    except InvalidArgument as error:
        raise InvalidArgument(f"cannot kill container: {reference}: {error}") from None
    live = room.live.of(record.id)
    if record.status == "restarting":
        restarts.cancel(room, record, live)
        return
    if not record.has_task:
        raise Conflict(f"cannot kill container: {reference}: container {record.id} is not running")
    if number == SIGKILL:
        await end(room, record, live)
        return
    if number == stop_signal(record):
        live.stopping = True
    await send(room, record, number)


def stop_signal(record: Container) -> int:
    """Of the container's configuration; SIGTERM when it names none."""
    return parse_signal(record.config.stop_signal) if record.config.stop_signal else SIGTERM


async def send(room: Room, record: Container, number: int) -> None:
    """The signal and its event. Conflict when it has ended meanwhile."""
    # Before the signal: the exit that follows may be heard before the answer to the call.
    room.publish(record, "kill", signal=str(number))
    try:
        await room.core.tasks.kill(record.id, number)
    except NotFound:
        raise Conflict(f"cannot kill container: {record.id}: container {record.id} is not running") from None
    if record.status == "paused":
        # A frozen process takes no signal.
        with suppress(Error):
            await room.core.tasks.resume(record.id)


async def end(room: Room, record: Container, live: Live) -> None:
    """SIGKILL, and wait until the exit is known. Error when it does not come."""
    live.stopping = True
    with suppress(Conflict):
        await send(room, record, SIGKILL)
    if not await ended_within(live, _PATIENCE):
        raise Error(f"could not kill container {record.id}: tried to kill container, but did not receive an exit event")


async def ended_within(live: Live, seconds: float | None) -> bool:
    """Whether the exit comes within the time (None: however long it takes)."""
    try:
        async with asyncio.timeout(seconds):
            await live.exited.wait()
    except TimeoutError:
        return False
    return True
