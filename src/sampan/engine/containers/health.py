"""Health checks: a probe is an exec in the container, run on Docker's schedule; its outcome is part of the record."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress

import msgspec

from sampan.api.docker.containers import ExecCreateRequest, Health, HealthConfig, HealthResult
from sampan.engine.containers import attach
from sampan.engine.containers.model import Container, time_text
from sampan.engine.containers.room import Room
from sampan.errors import Error

_INTERVAL, _TIMEOUT, _START_INTERVAL, _RETRIES = 30.0, 30.0, 5.0, 3
_LOG_LENGTH, _MAX_OUTPUT = 5, 4096


def config_of(record: Container) -> HealthConfig | None:
    """None without a probe: no health check, or one switched off."""
    health = record.config.healthcheck
    if health is None or not health.test or health.test[0] in ("", "NONE"):
        return None
    return health


def command(record: Container, health: HealthConfig) -> list[str]:
    if health.test[0] == "CMD-SHELL":
        return [*(record.config.shell or ["/bin/sh", "-c"]), *health.test[1:]]
    return health.test[1:] if health.test[0] == "CMD" else list(health.test)


def starting(record: Container) -> Health | None:
    """The state at a start."""
    return Health(status="starting") if config_of(record) is not None else None


def stopped(record: Container) -> Health | None:
    """The state after an exit: what was not yet known will not be."""
    if record.health is None or record.health.status != "starting":
        return record.health
    return msgspec.structs.replace(record.health, status="unhealthy")


def begin(room: Room, record: Container) -> None:
    """Start the schedule of a container that runs now; a second call is harmless."""
    live = room.live.of(record.id)
    health = config_of(record)
    if health is None or live.health is not None:
        return
    live.health = room.live.keep(asyncio.ensure_future(_monitor(room, record.id, health)))


def end(room: Room, container_id: str) -> None:
    live = room.live.of(container_id)
    if live.health is not None:
        live.health.cancel()
        live.health = None


async def _monitor(room: Room, container_id: str, health: HealthConfig) -> None:
    interval = health.interval / 1e9 or _INTERVAL
    first = health.start_interval / 1e9 or _START_INTERVAL
    began = time.time_ns()
    while True:
        record = room.store.find(container_id)
        if record is None or not record.has_task:
            return
        in_start = time.time_ns() - began < health.start_period
        is_starting = record.health is None or record.health.status == "starting"
        await asyncio.sleep(min(first, interval) if in_start and is_starting else interval)
        record = room.store.find(container_id)
        if record is None or not record.has_task:
            return
        if record.status == "paused":
            continue
        result = await _probe(room, record, health)
        current = room.store.find(container_id)
        if current is None or not current.has_task:
            return
        in_start = time.time_ns() - began < health.start_period
        _commit(room, current, result, health.retries or _RETRIES, in_start)


def judge(previous: Health | None, result: HealthResult, retries: int, in_start: bool) -> Health:
    """The state after one more probe. Pure. Failures within the start period do not count until one succeeded."""
    before = previous or Health(status="starting")
    log = [*before.log, result][-_LOG_LENGTH:]
    if result.exit_code == 0:
        return Health(status="healthy", failing_streak=0, log=log)
    if in_start and before.status == "starting":
        return Health(status="starting", failing_streak=0, log=log)
    streak = before.failing_streak + 1
    return Health(status="unhealthy" if streak >= retries else before.status, failing_streak=streak, log=log)


def _commit(room: Room, record: Container, result: HealthResult, retries: int, in_start: bool) -> None:
    after = judge(record.health, result, retries, in_start)
    before = record.health.status if record.health else "none"
    record = room.store.put(msgspec.structs.replace(record, health=after))
    if after.status != before:
        room.publish(record, f"health_status: {after.status}")


async def _probe(room: Room, record: Container, health: HealthConfig) -> HealthResult:
    from sampan.engine.containers import exec as execs

    began = time.time_ns()
    seconds = health.timeout / 1e9 or _TIMEOUT
    request = ExecCreateRequest(cmd=command(record, health), attach_stdout=True, attach_stderr=True)
    try:
        exec_id = execs.create(room, record.id, request)
        streams, run = await execs.start(room, exec_id, attach=True)
        entry = room.execs.get(exec_id)
        assert streams is not None
        try:
            async with asyncio.timeout(seconds):
                await run
                output = await _collect(streams)
                await entry.ended.wait()
            code = entry.exit_code if entry.exit_code is not None else -1
        except TimeoutError:
            with suppress(Error):
                await room.core.tasks.kill(record.id, 9, exec_id)
            code, output = -1, f"Health check exceeded timeout ({seconds:g}s)"
        finally:
            streams.close()
            room.execs.drop(exec_id)
    except Error as error:
        code, output = -1, str(error)
    return HealthResult(start=time_text(began), end=time_text(time.time_ns()), exit_code=code, output=output)


async def _collect(streams: attach.Streams) -> str:
    """What the probe wrote, at most _MAX_OUTPUT bytes of it."""
    loop = asyncio.get_running_loop()
    found = bytearray()
    for fd in (streams.stdout, streams.stderr):
        while fd is not None:
            ready = asyncio.Event()
            loop.add_reader(fd, ready.set)
            try:
                await ready.wait()
            finally:
                loop.remove_reader(fd)
            data = os.read(fd, 65536)
            if not data:
                break
            found += data[: max(0, _MAX_OUTPUT - len(found))]
    return found.decode("utf-8", "replace")
