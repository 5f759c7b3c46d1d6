"""Restart policies: whether and when a container that ended starts again. Docker's rules: 100 ms, doubling, at most a
minute; a run of ten seconds resets it."""

from __future__ import annotations

import asyncio
import logging

import msgspec

from sampan.engine.containers.live import Live
from sampan.engine.containers.model import Container
from sampan.engine.containers.room import Room
from sampan.errors import Error

log = logging.getLogger("sampan.containers")

_FIRST, _LONGEST, _STABLE = 0.1, 60.0, 10 * 10**9


def wanted(record: Container, stopped: bool) -> bool:
    """Whether the policy asks for another run. `stopped`: by the user, which every policy respects."""
    policy = record.host_config.restart_policy
    if stopped or policy.name in ("", "no"):
        return False
    if policy.name == "on-failure":
        limit = policy.maximum_retry_count
        return record.exit_code != 0 and (not limit or record.restart_count < limit)
    return True


def wanted_at_boot(record: Container) -> bool:
    """Whether the policy wants a container that does not run to run when the engine begins: "always" even after the
    user stopped it."""
    if not record.started_at:
        return False
    if record.host_config.restart_policy.name == "always":
        return True
    return wanted(record, record.manually_stopped)


def delay(record: Container, live: Live, stopped: bool) -> float | None:
    """Seconds until the next run, None for never. Remembers the back-off in `live`."""
    if not wanted(record, stopped):
        live.restart_delay = 0.0
        return None
    ran = record.finished_at - record.started_at
    if live.restart_delay == 0.0 or ran >= _STABLE:
        live.restart_delay = _FIRST
    else:
        live.restart_delay = min(live.restart_delay * 2, _LONGEST)
    return live.restart_delay


def schedule(room: Room, record: Container, live: Live, seconds: float) -> None:
    loop = asyncio.get_running_loop()

    def due() -> None:
        live.restart_timer = None
        room.live.keep(asyncio.ensure_future(_restart(room, record.id, live)))

    live.restart_timer = loop.call_later(seconds, due)


async def _restart(room: Room, container_id: str, live: Live) -> None:
    from sampan.engine.containers import start

    async with live.lock:
        record = room.store.find(container_id)
        if record is None or record.status != "restarting":
            return
        record = msgspec.structs.replace(record, restart_count=record.restart_count + 1)
        try:
            await start.run(room, record, live)
        except (Error, OSError) as error:
            log.error("restart of container %s failed: %s", container_id, error)


def cancel(room: Room, record: Container, live: Live) -> Container:
    """Give up a pending restart: the container is exited."""
    if live.restart_timer is not None:
        live.restart_timer.cancel()
        live.restart_timer = None
    live.move()
    return room.store.put(msgspec.structs.replace(record, status="exited", manually_stopped=True))
