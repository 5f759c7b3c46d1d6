"""POST /containers/{id}/wait."""

from __future__ import annotations

import asyncio
from typing import get_args

from sampan.engine.containers.live import Condition
from sampan.engine.containers.room import Room
from sampan.errors import InvalidArgument


def wait(room: Room, reference: str, condition: str = "") -> asyncio.Future[tuple[int, str]]:
    """A future of (exit code, error text), registered now: what happens from here on is not missed.

    `condition`: "" and "not-running", "next-exit" or "removed". NotFound; InvalidArgument `invalid condition: "x"`."""
    record = room.store.get(reference)
    future: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
    wanted: Condition = "not-running"
    for known in get_args(Condition):
        if condition == known:
            wanted = known
            break
    else:
        if condition:
            raise InvalidArgument(f'invalid condition: "{condition}"')
    if wanted == "not-running" and not record.is_running:
        future.set_result((record.exit_code, record.error))
    else:
        live = room.live.of(record.id)
        live.waiters.append((wanted, future))
        # A client that gives up cancels the future: a container that runs for long must not remember it.
        future.add_done_callback(live.forget)
    return future
