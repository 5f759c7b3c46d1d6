"""After a start of the engine: what the records say against what the keepers have.

A task may have ended, or a step may have been cut in half, while no engine was there. Running tasks go on untouched.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Mapping

import msgspec

from sampan.containerd.services import TaskExit, TaskState
from sampan.engine.containers import exits, health, restarts, rm
from sampan.engine.containers.model import Container
from sampan.engine.containers.room import Room
from sampan.engine.volumes import shm
from sampan.errors import Error, NotFound

log = logging.getLogger("sampan.containers")

_ID = re.compile(r"[0-9a-f]{64}")
LOST = 137
"""The exit code of a task that nobody saw end: the machine, or the keeper, was gone."""


async def reconcile(room: Room) -> None:
    """Listen for exits, then bring records, tasks and networks in line. Call once, before serving."""
    room.core.tasks.on_exit(lambda exit: exits.on_exit(room, exit))
    room.core.tasks.on_oom(lambda container_id: _out_of_memory(room, container_id))
    tasks = {task.container_id: task for task in await room.core.tasks.list()}
    live = [found.id for found in room.store.all() if _is_live(tasks.get(found.id))]
    room.networks.reconcile(live)
    await _remove_orphans(room, tasks)
    for record in room.store.all():
        await _reconcile(room, record, tasks.get(record.id))


def _is_live(task: TaskState | None) -> bool:
    return task is not None and task.status in ("running", "paused")


async def _reconcile(room: Room, record: Container, task: TaskState | None) -> None:
    if record.has_task and task is not None and _is_live(task):
        room.store.put(msgspec.structs.replace(record, status=task.status, pid=task.pid))
        health.begin(room, record)
        return
    if task is not None and _is_live(task):
        # "running" was never committed: to the client that start failed, so it must not run.
        log.warning("container %s runs without having been started: killing it", record.id)
        await _kill(room, record.id)
    if record.has_task:
        exited = task.exit if task is not None and task.exit is not None else _lost(record)
        exits.container_exited(room, exited)
        return
    if task is not None:
        await exits.delete_task(room, record.id)
    if record.status == "removing":
        await rm.remove_record(room, record, room.live.of(record.id), volumes=False, exit_code=record.exit_code)
        return
    _resume(room, record)


def _resume(room: Room, record: Container) -> None:
    """A container that was waiting for its next run, or whose policy wants it to run from the engine's beginning."""
    if record.status not in ("restarting", "exited"):
        return
    live = room.live.of(record.id)
    if record.status == "exited" and not restarts.wanted_at_boot(record):
        return
    delay = restarts.delay(record, live, stopped=False)
    if delay is not None:
        record = room.store.put(msgspec.structs.replace(record, status="restarting"))
        restarts.schedule(room, record, live, delay)
    elif record.status == "restarting":
        restarts.cancel(room, record, live)


def _lost(record: Container) -> TaskExit:
    return TaskExit(record.id, "", record.pid, LOST, time.time_ns())


def _out_of_memory(room: Room, container_id: str) -> None:
    record = room.store.find(container_id)
    if record is not None:
        room.publish(record, "oom")


async def _kill(room: Room, container_id: str) -> None:
    try:
        await room.core.tasks.kill(container_id, 9)
    except Error as error:
        log.warning("cannot kill container %s: %s", container_id, error)


async def _remove_orphans(room: Room, tasks: Mapping[str, TaskState]) -> None:
    """Remains of a create or a removal that was cut in half: everything named by an id that has no record."""
    for container_id, task in tasks.items():
        if room.store.find(container_id) is not None or exits.is_api_clients(container_id):
            continue
        if _is_live(task) or task.status == "created":
            await _kill(room, container_id)
        else:
            await exits.delete_task(room, container_id)
    for snapshot in list(room.core.snapshots.walk()):
        if snapshot.kind == "active" and _ID.fullmatch(snapshot.name) and room.store.find(snapshot.name) is None:
            try:
                room.core.snapshots.remove(snapshot.name)
            except NotFound:
                pass  # its own janitor was first
    for directory in (f"{room.settings.root}/containers", f"{room.settings.state}/bundles"):
        for name in _entries(directory):
            if _ID.fullmatch(name) and room.store.find(name) is None:
                room.networks.forget(name)
                shutil.rmtree(f"{directory}/{name}", ignore_errors=True)
    for name in _entries(f"{room.settings.state}/shm"):
        if room.store.find(name) is None:
            shm.release(room.shm(name))
    for name in _entries(f"{room.settings.state}/subpaths"):
        room.volumes.release(room.subpaths(name))


def _entries(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
