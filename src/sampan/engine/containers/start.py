"""Starting a container: the one place that knows the order (docs/spine.md, "A start, in order").

Everything acquired is put on one exit stack; a failure undoes exactly what was done, in reverse.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from contextlib import AsyncExitStack, suppress

import msgspec

from sampan.containerd.services import DEFAULT_OPTIONS, RuntimeOptions, TaskIO
from sampan.engine.containers import (
    checkpoints,
    docker_init,
    failures,
    files,
    health,
    layers,
    links,
    spec,
    users,
    volume_use,
)
from sampan.engine.containers.live import Live
from sampan.engine.containers.model import Container, after
from sampan.engine.containers.room import Room
from sampan.engine.logging import drivers
from sampan.engine.networks.records import Plan
from sampan.engine.volumes import propagation, shm
from sampan.errors import AlreadyExists, Conflict, Error, InvalidArgument, NotFound

_PASSWD, _GROUP = "/etc/passwd", "/etc/group"


async def start(room: Room, reference: str, checkpoint: str = "", checkpoint_directory: str = "") -> bool:
    """Start it, or let it go on from a checkpoint; False when it runs already (HTTP 304).

    InvalidArgument for a checkpoint unless sampand is experimental; NotFound; Conflict (paused, being removed); Error
    and InvalidArgument with the runtime's text, after which the record carries Docker's exit code (125 to 128) and the
    text."""
    if checkpoint and not room.settings.experimental:
        raise InvalidArgument("checkpoint is only supported in experimental mode")
    record = room.store.get(reference)
    live = room.live.of(record.id)
    async with live.lock:
        record = room.store.get(record.id)
        if record.status == "running":
            return False
        after(record.status, "start", record.id)
        images = ""
        if checkpoint:
            images = checkpoints.existing(room, record, f"/{record.name}", checkpoint, checkpoint_directory)
        if live.restart_timer is not None:
            live.restart_timer.cancel()
            live.restart_timer = None
        live.restart_delay = 0.0
        record = msgspec.structs.replace(record, restart_count=0, manually_stopped=False)
        await run(room, record, live, images)
    return True


async def run(room: Room, record: Container, live: Live, images: str = "") -> None:
    """The start itself, by the restore of a checkpoint's `images` if given; the caller holds the container's lock.

    Failures as `start`."""
    from sampan.engine.containers import exits

    if live.teardown is not None:
        await live.teardown
    live.exited.clear()
    live.stopping = False
    live.early_exit = None
    live.starting = True
    try:
        record = await _run(room, record, live, images)
    except Exception as error:
        live.starting = False
        await failures.start_failed(room, record, live, error)
        raise
    live.starting = False
    live.move()
    volume_use.begins(room, record)
    with suppress(OSError):  # a neighbour's file that it took away itself
        links.started(room, record)
    room.publish(record, "start")
    health.begin(room, record)
    if live.early_exit is not None:
        exits.container_exited(room, live.early_exit)


async def _run(room: Room, record: Container, live: Live, images: str) -> Container:
    tasks = room.core.tasks
    async with AsyncExitStack() as undo:
        undo.callback(failures.drop_attachments, live)
        plan = await _reserve(room, record.id)
        undo.callback(room.networks.release, record.id)
        bundle = room.bundle(record.id)
        undo.callback(room.volumes.release, room.subpaths(record.id))
        resolved = resolve(room, record, plan)
        document = spec.runtime_spec(record, resolved, room.facts)
        os.makedirs(f"{bundle}/rootfs", mode=0o711, exist_ok=True)
        undo.callback(shutil.rmtree, bundle, ignore_errors=True)
        write_config(bundle, document)
        rootfs = room.core.snapshots.mounts(record.id)
        try:
            pid = await tasks.create(
                record.id,
                bundle=bundle,
                rootfs=rootfs,
                io=task_io(room, record),
                runtime=runtime_path(room, record),
                options=RuntimeOptions(systemd_cgroup=True) if room.settings.systemd_cgroup else DEFAULT_OPTIONS,
                remove_volatile=record.host_config.auto_remove,
                checkpoint=images,
            )
            undo.push_async_callback(_discard_task, room, record.id)
            room.volumes.release(room.subpaths(record.id))  # the container has its own mounts of them by now
            await _hand_over_streams(room, record, live)
            if images:
                pid = await _restore(room, record.id, plan)
            else:
                _join_network(room, plan, pid)
                await tasks.start(record.id)
        except (Error, OSError) as error:
            raise failures.from_runtime(record, error, restoring=bool(images)) from error
        record = msgspec.structs.replace(
            record,
            status="running",
            pid=pid,
            exit_code=0,
            error="",
            oom_killed=False,
            started_at=time.time_ns(),
            finished_at=0,
            health=health.starting(record),
        )
        record = room.store.put(record)
        undo.pop_all()
    # A client that came while `tasks.start` was under way: it missed nothing that a later one would not have.
    await _hand_over_streams(room, record, live)
    return record


async def _reserve(room: Room, container_id: str) -> Plan:
    try:
        return room.networks.reserve(container_id)
    except (Conflict, AlreadyExists, Error):
        # A container that has just ended may still hold the port or address: its teardown is under way.
        await room.live.settle()
        return room.networks.reserve(container_id)


def resolve(room: Room, record: Container, plan: Plan) -> spec.Resolved:
    """Everything the spec planner needs to know of this start. NotFound, Conflict (a joined container that does not
    run), InvalidArgument (user, missing bind source)."""
    host_config = record.host_config
    linked = links.linked(room, record, plan)
    plan = links.with_hosts(plan, linked)
    joined: dict[str, int] = {}
    hostname, domainname = record.config.hostname, record.config.domainname
    if plan.kind == "container":
        other = _joined(room, plan.joined, "network")
        joined["network"] = other.pid
        hostname = hostname or other.config.hostname
        domainname = domainname or other.config.domainname
        paths = {path: f"{room.directory(other.id)}/{name}" for path, name in files.PATHS.items()}
    else:
        paths = dict(
            files.write(
                room.directory(record.id),
                hostname,
                plan,
                host_config,
                room.settings.dns,
                room.settings.dns_search,
            )
        )
    for kind, mode in (("pid", host_config.pid_mode), ("ipc", host_config.ipc_mode)):
        if mode.startswith("container:"):
            joined[kind] = _joined(room, mode.partition(":")[2], kind.upper()).pid
    return spec.Resolved(
        hostname=hostname,
        domainname=domainname,
        user=resolve_user(room, record, record.config.user),
        network=plan.kind,
        joined=joined,
        files=paths,
        sources=_sources(room, record),
        shm=_shm(room, record),
        init=docker_init.path(room.settings.state, room.facts.machine) if host_config.init else "",
        cgroup_parent=room.settings.cgroup_parent,
        systemd_cgroup=room.settings.systemd_cgroup,
        ulimits=room.settings.default_ulimits,
        linked=links.variables(record.name, linked),
    )


def resolve_user(room: Room, record: Container, text: str) -> users.User:
    """`text` against the container's own files, as they are now. InvalidArgument."""
    stack = layers.directories(room.core.snapshots.mounts(record.id)) or []
    passwd = layers.read_file(stack, _PASSWD, users.MAX_FILE) if stack else b""
    group = layers.read_file(stack, _GROUP, users.MAX_FILE) if stack else b""
    return users.resolve(text, passwd, group, tuple(record.host_config.group_add))


def _joined(room: Room, reference: str, kind: str) -> Container:
    other = room.store.get(reference)
    if not other.has_task:
        if kind == "network":
            raise Conflict(f"cannot join network namespace of a non running container: {other.id}")
        raise Conflict(f"cannot join {kind} of a non running container: {other.id}")
    return other


def _sources(room: Room, record: Container) -> dict[str, str]:
    """The directory behind each volume and bind, which must exist now."""
    found: dict[str, str] = {}
    for mount in record.mounts:
        if mount.type == "volume":
            directory = room.volumes.mount(mount.name)
            if mount.subpath:
                directory = f"{room.subpaths(record.id)}/{len(found)}"
                room.volumes.bind_below(mount.name, mount.subpath, directory)
            found[mount.destination] = directory
        elif mount.type == "bind":
            if mount.create_source:
                _make_source(mount.source)
            elif not os.path.exists(mount.source):
                raise InvalidArgument(
                    f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
                )
            propagation.check(mount.source, mount.propagation)
    return found


def _make_source(path: str) -> None:
    try:
        os.makedirs(path, mode=0o755, exist_ok=True)
    except FileExistsError:
        pass  # a file, a device or a socket is as good a source as a directory
    except OSError as error:
        raise Error(f"error while creating mount source path '{path}': mkdir {path}: {_words(error)}") from error


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _shm(room: Room, record: Container) -> str:
    """What /dev/shm is bound from: the host's, another container's, or one of its own that others may join."""
    mode = record.host_config.ipc_mode
    if mode == "host":
        return "/dev/shm"
    if mode.startswith("container:"):
        owner = room.store.get(mode.partition(":")[2])
        if owner.host_config.ipc_mode == "host":
            return "/dev/shm"
        if owner.host_config.ipc_mode != "shareable":
            raise Conflict(
                f"cannot join IPC of container {owner.id}: non-shareable IPC (hint: use IpcMode:shareable for the "
                "donor container)"
            )
        return room.shm(owner.id)
    if mode != "shareable":
        return ""
    path = room.shm(record.id)
    shm.mount(path, record.host_config.shm_size or room.settings.shm_size)
    return path


def write_config(bundle: str, document: dict[str, object]) -> None:
    fd = os.open(f"{bundle}/config.json", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, msgspec.json.encode(document))
    finally:
        os.close(fd)


def task_io(room: Room, record: Container) -> TaskIO:
    size = record.host_config.console_size
    return TaskIO(
        terminal=record.config.tty,
        stdin=record.config.open_stdin,
        stdin_once=record.config.stdin_once,
        log=drivers.target(record.host_config.log_config, room.log_path(record.id)),
        console_size=(size[0], size[1]) if len(size) == 2 and any(size) else None,
    )


def runtime_path(room: Room, record: Container) -> str:
    """ "" for ours, or the binary of another runtime. NotFound when it is not on this machine."""
    name = record.runtime
    if name in ("", "sampan"):
        return ""
    path = room.settings.runtimes.get(name) or name
    found = path if path.startswith("/") else shutil.which(path)
    if not found:
        raise NotFound(f'exec: "{name}": executable file not found in $PATH')
    return found


async def _hand_over_streams(room: Room, record: Container, live: Live) -> None:
    """Streams that clients opened before the start: from here on nothing of the output passes them by."""
    waiting, live.attachments = live.attachments, []
    for attachment in waiting:
        try:
            stdin = await room.core.tasks.attach(
                record.id, stdout=attachment.stdout, stderr=attachment.stderr, stdin=attachment.wants_stdin
            )
        except Exception as error:
            attachment.fail(error)
            continue
        attachment.handed_over(stdin)


def _join_network(room: Room, plan: Plan, pid: int) -> None:
    if plan.kind != "bridge" or not plan.endpoints:
        return
    path = f"/proc/{pid}/ns/net"
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        room.networks.attach(plan, fd, path)
    finally:
        os.close(fd)


async def _restore(room: Room, container_id: str, plan: Plan) -> int:
    """Its processes go on, and there is a network namespace only then; the first one's pid."""
    pid = await room.core.tasks.start(container_id)
    with suppress(FileNotFoundError):  # it has come to its end meanwhile
        _join_network(room, plan, pid)
    return pid


async def _discard_task(room: Room, container_id: str) -> None:
    """Undo `tasks.create`, whether or not the process got as far as running."""
    with suppress(Error):
        await room.core.tasks.kill(container_id, 9)
    for _ in range(2):
        try:
            await room.core.tasks.delete(container_id)
            return
        except Conflict:
            with suppress(TimeoutError):
                async with asyncio.timeout(10):
                    await room.live.of(container_id).exited.wait()
        except Error:
            return
