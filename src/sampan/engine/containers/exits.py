"""What follows an exit: commit the code, answer who waits, tell the world; only then tear down.

The callback runs on the loop for every `TaskExit`. Nothing before the answers waits for anything.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress

import msgspec

from sampan.containerd.services import TaskExit
from sampan.engine.containers import health, restarts, volume_use
from sampan.engine.containers.live import Live
from sampan.engine.containers.model import Container
from sampan.engine.containers.room import Room
from sampan.engine.volumes import shm
from sampan.errors import Error


def on_exit(room: Room, exit: TaskExit) -> None:
    """The callback for `tasks.on_exit`."""
    if is_api_clients(exit.container_id):
        return
    if exit.exec_id:
        exec_exited(room, exit)
        return
    live = room.live.of(exit.container_id)
    if live.starting:
        # The start has yet to commit "running"; it takes this up right after.
        live.early_exit = exit
        live.exited.set()
        return
    container_exited(room, exit)


def is_api_clients(task_id: str) -> bool:
    """Whether a task was made through containerd's API: those are named NAMESPACE--ID, and are not the engine's."""
    return "--" in task_id


def exec_exited(room: Room, exit: TaskExit) -> None:
    entry = room.execs.find(exit.exec_id)
    if entry is None or entry.exit_code is not None:
        return
    entry.end(exit.status)
    record = room.store.find(exit.container_id)
    if record is not None:
        room.live.of(record.id).execs.discard(entry.id)
        room.publish(record, "exec_die", execID=entry.id, exitCode=str(exit.status))


def container_exited(room: Room, exit: TaskExit) -> None:
    """Commit, answer, publish, and leave the rest to a background task."""
    record = room.store.find(exit.container_id)
    live = room.live.of(exit.container_id)
    if record is None or not record.has_task:
        # An exit that is known already, or of a container that is gone: only its remains matter.
        if record is None:
            live.teardown = room.live.keep(asyncio.ensure_future(_tear_down(room, exit.container_id, live)))
        return
    health.end(room, record.id)
    stopped = live.stopping
    record = msgspec.structs.replace(
        record,
        status="exited",
        pid=0,
        exit_code=exit.status,
        finished_at=exit.exited_at,
        oom_killed=exit.oom_killed,
        manually_stopped=record.manually_stopped or stopped,
        health=health.stopped(record),
    )
    delay = restarts.delay(record, live, stopped)
    removes = delay is None and record.host_config.auto_remove and not live.removing
    if removes:
        room.store.delete(record.id)
    else:
        record = room.store.put(msgspec.structs.replace(record, status="restarting") if delay is not None else record)
    live.exited.set()
    live.move()
    # Who waits for the removal is told at once that the record is gone, and of the rest only when it shows: a volume
    # that went with the container must not be listed any more. (Networks and files are nobody's but ours.)
    live.answer(exit.status, removed=removes and not _has_own_volumes(record))
    if exit.oom_killed:
        room.publish(record, "oom")
    room.publish(record, "die", exitCode=str(exit.status), execDuration=str(_seconds(record)))
    volume_use.ends(room, record)
    if removes:
        work = _remove(room, record, live)
    else:
        work = _tear_down(room, record.id, live)
    live.teardown = room.live.keep(asyncio.ensure_future(work))
    if delay is not None:
        restarts.schedule(room, record, live, delay)


def _has_own_volumes(record: Container) -> bool:
    return any(mount.type == "volume" and mount.anonymous for mount in record.mounts)


def _seconds(record: Container) -> int:
    return max(0, (record.finished_at - record.started_at) // 10**9)


async def _tear_down(room: Room, container_id: str, live: Live) -> None:
    """The janitor: what the task held. Idempotent."""
    await delete_task(room, container_id)
    room.networks.release(container_id)
    shm.release(room.shm(container_id))
    shutil.rmtree(room.bundle(container_id), ignore_errors=True)
    for entry in room.execs.of(container_id):
        entry.end()
    if live.teardown is asyncio.current_task():
        live.teardown = None


async def _remove(room: Room, record: Container, live: Live) -> None:
    from sampan.engine.containers import rm

    await _tear_down(room, record.id, live)
    await rm.remove_remains(room, record, volumes=True)
    live.answer(record.exit_code, removed=True)
    room.live.drop(record.id)


async def delete_task(room: Room, container_id: str) -> None:
    """Forget the task if there is one: it may never have been, or be gone."""
    with suppress(Error):
        await room.core.tasks.delete(container_id)
