"""Exec: create, start, inspect, resize. The instance is made first and run later, as in Docker."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

from sampan.api.docker.containers import ExecCreateRequest, ExecInspect, ProcessConfig
from sampan.containerd.services import TaskIO
from sampan.engine.containers import capabilities, failures, links, resources, spec
from sampan.engine.containers.attach import Streams, open_pipe
from sampan.engine.containers.execs import Exec
from sampan.engine.containers.live import Attachment
from sampan.engine.containers.model import Container, require_running
from sampan.engine.containers.room import Room
from sampan.engine.containers.security import security_options
from sampan.engine.containers.start import resolve_user
from sampan.errors import Conflict, Error, InvalidArgument


def create(room: Room, reference: str, request: ExecCreateRequest) -> str:
    """The exec's id. NotFound; Conflict (not running, paused); InvalidArgument `No exec command specified`."""
    command = list(request.cmd)
    if not command:
        raise InvalidArgument("No exec command specified")
    record = room.store.get(reference)
    require_running(record, reference, "exec")
    entry = Exec(
        id=secrets.token_hex(32),
        container_id=record.id,
        request=request,
        command=command,
        detach_keys=request.detach_keys,
    )
    room.execs.add(entry)
    room.live.of(record.id).execs.add(entry.id)
    room.publish(record, action_text("exec_create", command), execID=entry.id)
    return entry.id


def action_text(action: str, command: Sequence[str]) -> str:
    """The action's name with the command, whose program a space always follows, as in Docker."""
    return f"{action}: {command[0]} {' '.join(command[1:])}"


def check_startable(room: Room, exec_id: str) -> tuple[Exec, Container]:
    """The instance and its container. NotFound; Conflict when it ran before or the container does not run."""
    entry = room.execs.get(exec_id)
    if entry.started:
        if entry.exit_code is not None:
            raise Conflict(f"exec command has already run: {entry.id}")
        raise Conflict(f"exec command {entry.id} is already running")
    record = room.store.get(entry.container_id)
    require_running(record, record.id, "exec")
    return entry, record


async def start(
    room: Room, exec_id: str, *, attach: bool, console_size: Sequence[int] = ()
) -> tuple[Streams | None, asyncio.Task[None]]:
    """Begin to run it; the client's streams when `attach`, and a task that ends when it runs.

    The task fails with InvalidArgument, in the runtime's words, when it cannot be run; the exec's exit code is then
    126 or 127. NotFound, Conflict as `check_startable`."""
    entry, record = check_startable(room, exec_id)
    entry.started = True
    request = entry.request
    streams = None
    try:
        if attach:
            streams = await _attach(room, record, entry)
    except BaseException:
        entry.end(126)
        raise
    size = tuple(console_size) or tuple(request.console_size)
    io = TaskIO(
        terminal=request.tty,
        stdin=attach and request.attach_stdin,
        stdin_once=True,
        console_size=(size[0], size[1]) if len(size) == 2 and any(size) else None,
    )
    return streams, asyncio.ensure_future(_run(room, record, entry, console_size, io))


async def _run(room: Room, record: Container, entry: Exec, console_size: Sequence[int], io: TaskIO) -> None:
    try:
        process = process_object(room, record, entry, console_size)
    except BaseException:
        entry.end(126)
        room.live.of(record.id).execs.discard(entry.id)
        raise
    entry.running = True
    room.publish(record, action_text("exec_start", entry.command), execID=entry.id)
    try:
        pid = await room.core.tasks.exec(record.id, entry.id, process=process, io=io)
    except Error as error:
        text = failures.exec_text(str(error))
        code = failures.exit_code(text)
        entry.end(code if code != 128 else 126)
        room.live.of(record.id).execs.discard(entry.id)
        kind = InvalidArgument if code != 128 else Error
        raise kind(text) from error
    if entry.exit_code is None:
        entry.pid = pid


async def _attach(room: Room, record: Container, entry: Exec) -> Streams:
    """Pipes that the keeper holds for the coming process: none of its output is lost."""
    request = entry.request
    read_out, write_out = open_pipe(request.attach_stdout or (request.tty and request.attach_stderr))
    read_err, write_err = open_pipe(request.attach_stderr and not request.tty)
    future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    streams = Streams(request.tty, read_out, read_err, future if request.attach_stdin else None, True)
    attachment = Attachment(write_out, write_err, request.attach_stdin, future)
    try:
        stdin = await room.core.tasks.attach(
            record.id, entry.id, stdout=write_out, stderr=write_err, stdin=request.attach_stdin
        )
    except BaseException as error:
        attachment.fail(error if isinstance(error, Exception) else Error("cancelled"))
        streams.close()
        raise
    attachment.handed_over(stdin)
    return streams


def process_object(room: Room, record: Container, entry: Exec, console_size: Sequence[int]) -> dict[str, Any]:
    """Runtime-spec `process`: the container's own, but for what the exec says. InvalidArgument (user)."""
    request, config, host_config = entry.request, record.config, record.host_config
    user = resolve_user(room, record, request.user or config.user)
    security = security_options(host_config.security_opt)
    caps = capabilities.resolve(
        host_config.cap_add,
        host_config.cap_drop,
        host_config.privileged or request.privileged,
        room.facts.capabilities,
    )
    hostname = config.hostname
    env = spec.environment(
        [*links.variables(record.name, links.now(room, record)), *config.env, *request.env],
        hostname,
        request.tty,
        user.home,
    )
    process: dict[str, Any] = {
        "terminal": request.tty,
        "user": spec.user(user),
        "args": entry.command,
        "env": env,
        "cwd": request.working_dir or config.working_dir or "/",
        "capabilities": spec.capability_sets(caps, user.uid),
        "noNewPrivileges": security.no_new_privileges,
        "oomScoreAdj": host_config.oom_score_adj,
    }
    limits = resources.rlimits(host_config.ulimits, room.settings.default_ulimits)
    if limits:
        process["rlimits"] = limits
    size = list(console_size) or request.console_size
    if len(size) == 2 and any(size):
        process["consoleSize"] = {"height": size[0], "width": size[1]}
    if security.apparmor and room.facts.apparmor:
        process["apparmorProfile"] = security.apparmor
    return process


def inspect(room: Room, exec_id: str) -> ExecInspect:
    """NotFound."""
    entry = room.execs.get(exec_id)
    request = entry.request
    return ExecInspect(
        exec_id=entry.id,
        running=entry.running,
        exit_code=entry.exit_code,
        process_config=ProcessConfig(
            tty=request.tty,
            entrypoint=entry.command[0],
            arguments=entry.command[1:],
            privileged=request.privileged,
            user=request.user or room.store.get(entry.container_id).config.user,
        ),
        open_stdin=request.attach_stdin,
        open_stderr=request.attach_stderr,
        open_stdout=request.attach_stdout,
        can_remove=entry.exit_code is not None,
        container_id=entry.container_id,
        detach_keys=entry.detach_keys,
        pid=entry.pid,
    )


async def resize(room: Room, exec_id: str, height: int, width: int) -> None:
    """NotFound; Conflict until it runs."""
    entry = room.execs.get(exec_id)
    if not entry.running:
        raise Conflict("exec process is not started")
    await room.core.tasks.resize(entry.container_id, entry.id, height, width)
