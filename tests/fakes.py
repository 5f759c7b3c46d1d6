"""In-memory implementations of the Protocols, for unit tests: they obey the contract's words and record what happened.

Processes are played by the test: `FakeTasks.write` and `FakeTasks.finish` are what a container would do.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sampan.api.docker.networks import EndpointSettings, NetworkSettings
from sampan.containerd.services import (
    DEFAULT_OPTIONS,
    Mount,
    RuntimeOptions,
    SnapshotInfo,
    TaskExit,
    TaskIO,
    TaskState,
    Usage,
)
from sampan.engine.networks.records import ContainerNetworking, Plan
from sampan.engine.services import ImageRecord, Volume
from sampan.engine.volumes import subpaths
from sampan.errors import AlreadyExists, Conflict, Error, NotFound


@dataclass
class FakeProcess:
    pid: int
    io: TaskIO
    status: str = "created"
    stdout: list[int] = field(default_factory=list)
    stderr: list[int] = field(default_factory=list)
    stdin: tuple[int, int] | None = None
    stdin_closed: bool = False
    process: Mapping[str, Any] | None = None

    def close_output(self) -> None:
        for fd in (*self.stdout, *self.stderr):
            os.close(fd)
        self.stdout, self.stderr = [], []


class FakeTasks:
    """`services.Tasks`. `fail_create`, `fail_start` and the like are raised once by the next call.

    `restored` has the checkpoint's directory of each container that was made of one."""

    def __init__(self) -> None:
        self.processes: dict[tuple[str, str], FakeProcess] = {}
        self.exits: dict[str, TaskExit] = {}
        self.loggers: list[tuple[str, str, str, str, str]] = []
        self.signals: list[tuple[str, str, int]] = []
        self.bundles: dict[str, str] = {}
        self.resources: dict[str, Mapping[str, Any]] = {}
        self.fail_create: Exception | None = None
        self.fail_start: Exception | None = None
        self.fail_exec: Exception | None = None
        self.fail_checkpoint: Exception | None = None
        self.restored: dict[str, str] = {}
        self.on_signal: Callable[[str, int], None] = lambda container_id, signal: None
        self.on_start: Callable[[str], None] = lambda container_id: None
        self._waiting: dict[tuple[str, str], FakeProcess] = {}
        self._callbacks: list[Callable[[TaskExit], None]] = []
        self._oom: list[Callable[[str], None]] = []
        self._pid = os.getpid()

    async def create(
        self,
        container_id: str,
        *,
        bundle: str,
        rootfs: Sequence[Mount],
        io: TaskIO,
        runtime: str = "",
        options: RuntimeOptions = DEFAULT_OPTIONS,
        remove_volatile: bool = False,
        checkpoint: str = "",
    ) -> int:
        if self.fail_create is not None:
            error, self.fail_create = self.fail_create, None
            raise error
        if (container_id, "") in self.processes:
            raise AlreadyExists(f'task "{container_id}" already exists')
        self.bundles[container_id] = bundle
        if checkpoint:
            self.restored[container_id] = checkpoint
        # A pid that exists, because the engine opens its /proc/PID/ns/net.
        self.processes[container_id, ""] = FakeProcess(self._pid, io)
        return 0 if checkpoint else self._pid

    async def start(self, container_id: str) -> int:
        process = self._process(container_id)
        if self.fail_start is not None:
            error, self.fail_start = self.fail_start, None
            process.status = "stopped"
            process.close_output()
            raise error
        process.status = "running"
        self.on_start(container_id)
        return process.pid

    async def exec(self, container_id: str, exec_id: str, *, process: Mapping[str, Any], io: TaskIO) -> int:
        self._process(container_id)
        waiting = self._waiting.pop((container_id, exec_id), None)
        if self.fail_exec is not None:
            error, self.fail_exec = self.fail_exec, None
            if waiting is not None:
                waiting.close_output()
            raise error
        found = waiting or FakeProcess(0, io)
        found.pid, found.io, found.status, found.process = 4000 + len(self.processes), io, "running", process
        self.processes[container_id, exec_id] = found
        return found.pid

    async def attach(
        self, container_id: str, exec_id: str = "", *, stdout: int | None, stderr: int | None, stdin: bool
    ) -> int | None:
        process = self.processes.get((container_id, exec_id))
        if process is None:
            if not exec_id:
                raise NotFound(f'task "{container_id}" not found')
            process = self._waiting.setdefault((container_id, exec_id), FakeProcess(0, TaskIO(False, stdin)))
        if stdout is not None:
            process.stdout.append(os.dup(stdout))
        if stderr is not None:
            process.stderr.append(os.dup(stderr))
        if not stdin:
            return None
        if process.stdin is None:
            process.stdin = os.pipe()
        return os.dup(process.stdin[1])

    async def attach_logger(self, container_id: str, exec_id: str, uri: str, *, name: str, namespace: str) -> None:
        self.loggers.append((container_id, exec_id, uri, name, namespace))

    async def kill(self, container_id: str, signal: int, exec_id: str = "", *, all: bool = False) -> None:
        process = self._process(container_id, exec_id)
        if process.status == "stopped":
            raise Conflict(f"process {container_id} already finished")
        self.signals.append((container_id, exec_id, signal))
        self.on_signal(container_id, signal)
        if signal == 9:
            self.finish(container_id, 137, exec_id=exec_id)

    async def resize(self, container_id: str, exec_id: str, height: int, width: int) -> None:
        self._process(container_id, exec_id)

    async def close_stdin(self, container_id: str, exec_id: str = "") -> None:
        process = self._process(container_id, exec_id)
        process.stdin_closed = True
        if process.stdin is not None:
            os.close(process.stdin[1])
            process.stdin = (process.stdin[0], os.open("/dev/null", os.O_WRONLY))

    async def checkpoint(self, container_id: str, images: str, *, flags: Sequence[str] = ()) -> None:
        if self.fail_checkpoint is not None:
            error, self.fail_checkpoint = self.fail_checkpoint, None
            raise error
        os.makedirs(images, exist_ok=True)
        if "--leave-running" not in flags:
            await self.kill(container_id, 9)

    async def pause(self, container_id: str) -> None:
        self._process(container_id).status = "paused"

    async def resume(self, container_id: str) -> None:
        self._process(container_id).status = "running"

    async def update(self, container_id: str, resources: Mapping[str, Any]) -> None:
        self.resources[container_id] = resources

    async def stats(self, container_id: str) -> Mapping[str, Any]:
        self._process(container_id)
        return {"cpu": {"usage": {"total": 7}}, "memory": {"usage": {"usage": 5, "limit": 9}}, "pids": {"current": 1}}

    async def pids(self, container_id: str) -> Sequence[int]:
        return [self._process(container_id).pid]

    async def delete(self, container_id: str) -> TaskExit:
        process = self._process(container_id)
        if process.status in ("running", "paused"):
            raise Conflict(f"task {container_id} is running")
        process.close_output()
        if process.stdin is not None:
            for fd in process.stdin:
                os.close(fd)
        for key in [key for key in self.processes if key[0] == container_id]:
            del self.processes[key]
        return self.exits.pop(container_id, TaskExit(container_id, "", process.pid, 0, 0))

    async def list(self) -> Sequence[TaskState]:
        return [
            TaskState(container_id, process.pid, process.status, self.exits.get(container_id))
            for (container_id, exec_id), process in self.processes.items()
            if not exec_id
        ]

    def on_exit(self, callback: Callable[[TaskExit], None]) -> None:
        self._callbacks.append(callback)

    def on_oom(self, callback: Callable[[str], None]) -> None:
        self._oom.append(callback)

    # The container's side, played by the test.
    def write(self, container_id: str, data: bytes, *, stderr: bool = False, exec_id: str = "") -> None:
        process = self._process(container_id, exec_id)
        for fd in process.stderr if stderr else process.stdout:
            os.write(fd, data)

    def finish(self, container_id: str, status: int = 0, *, exec_id: str = "", oom: bool = False) -> None:
        process = self._process(container_id, exec_id)
        process.status = "stopped"
        process.close_output()
        exit = TaskExit(container_id, exec_id, process.pid, status, time.time_ns(), oom)
        if not exec_id:
            self.exits[container_id] = exit
        for callback in self._callbacks:
            callback(exit)

    def _process(self, container_id: str, exec_id: str = "") -> FakeProcess:
        found = self.processes.get((container_id, exec_id))
        if found is None:
            raise NotFound(f'task "{container_id}" not found')
        return found


class FakeSnapshots:
    """`services.Snapshotter` over plain directories: a snapshot's mounts are an overlay of two of them."""

    name = "overlayfs"

    def __init__(self, root: str) -> None:
        self._root = root
        self.entries: dict[str, SnapshotInfo] = {}

    def layer(self, name: str, files: Mapping[str, str]) -> str:
        """A committed snapshot with these files; its directory."""
        self.entries[name] = SnapshotInfo("committed", name, "", 0)
        directory = self._directory(name)
        for path, content in files.items():
            os.makedirs(os.path.dirname(f"{directory}/{path}"), exist_ok=True)
            with open(f"{directory}/{path}", "w", encoding="utf-8") as file:
                file.write(content)
        os.makedirs(directory, exist_ok=True)
        return directory

    def _directory(self, key: str) -> str:
        return f"{self._root}/{key.replace(':', '_')}"

    def stat(self, key: str) -> SnapshotInfo:
        if key not in self.entries:
            raise NotFound(f"snapshot {key} does not exist")
        return self.entries[key]

    def walk(self) -> Iterator[SnapshotInfo]:
        return iter(list(self.entries.values()))

    def usage(self, key: str) -> Usage:
        self.stat(key)
        return Usage(size=100, inodes=1)

    def mounts(self, key: str) -> Sequence[Mount]:
        parent = self.stat(key).parent
        lower = f"lowerdir={self._directory(parent)}"
        return [Mount("overlay", "overlay", [lower, f"upperdir={self._directory(key)}", "workdir=/nonexistent"])]

    def prepare(self, key: str, parent: str, labels: Mapping[str, str] | None = None) -> Sequence[Mount]:
        if key in self.entries:
            raise AlreadyExists(f"snapshot {key}: already exists")
        self.stat(parent)
        self.entries[key] = SnapshotInfo("active", key, parent, 0)
        os.makedirs(self._directory(key))
        return self.mounts(key)

    view = prepare

    def commit(self, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        self.entries[name] = SnapshotInfo("committed", name, self.entries.pop(key).parent, 0)

    def remove(self, key: str) -> None:
        self.stat(key)
        del self.entries[key]

    def upper(self, key: str) -> str:
        self.stat(key)
        return self._directory(key)


class FakeImages:
    """`engine.services.Images`: whatever `add` put there."""

    def __init__(self) -> None:
        self._images: dict[str, ImageRecord] = {}

    def add(self, reference: str, parent: str, **config: Any) -> ImageRecord:
        found = ImageRecord(f"sha256:{len(self._images):064x}", reference, {"config": config}, parent)
        self._images[reference] = found
        return found

    def resolve(self, reference: str, platform: str = "") -> ImageRecord:
        for found in self._images.values():
            if reference in (found.reference, found.id):
                return found
        name = reference if ":" in reference else f"{reference}:latest"
        raise NotFound(f"No such image: {name}")


class FakeVolumes:
    """`engine.services.Volumes` on a directory."""

    def __init__(self, root: str) -> None:
        self._root = root
        self.volumes: dict[str, Volume] = {}

    def get(self, name: str) -> Volume:
        if name not in self.volumes:
            raise NotFound(f"get {name}: no such volume")
        return self.volumes[name]

    def create(
        self,
        name: str = "",
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        anonymous = not name
        name = name or f"{len(self.volumes):064x}"
        if name not in self.volumes:
            directory = f"{self._root}/{name}/_data"
            os.makedirs(directory)
            self.volumes[name] = Volume(name, driver, directory, "", labels or {}, options or {}, anonymous)
        return self.volumes[name]

    def remove(self, name: str, force: bool = False) -> None:
        if name not in self.volumes and force:
            return
        self.get(name)
        del self.volumes[name]

    def mount(self, name: str) -> str:
        return self.get(name).mountpoint

    def bind_below(self, name: str, subpath: str, target: str) -> None:
        subpaths.bind(self.get(name).mountpoint, subpath, target)

    def release(self, directory: str) -> None:
        subpaths.release(directory)

    def unmount(self, name: str) -> None:
        """Nothing of it was mounted."""

    def populate(self, name: str, source_fd: int) -> None:
        self.get(name)


class FakeNetworks:
    """The networks room for containers without a network of their own: `kind` decides what plans say."""

    def __init__(self) -> None:
        self.kind: Any = "none"
        self.known: dict[str, ContainerNetworking] = {}
        self.reserved: set[str] = set()
        self.fail_reserve: Error | None = None

    def configure(self, wanted: ContainerNetworking) -> None:
        self.known[wanted.container_id] = wanted

    def rename(self, container_id: str, name: str) -> None: ...

    def forget(self, container_id: str) -> None:
        self.known.pop(container_id, None)

    def reserve(self, container_id: str) -> Plan:
        if self.fail_reserve is not None:
            raise self.fail_reserve
        mode = self.known[container_id].network_mode
        self.reserved.add(container_id)
        kind = mode if mode in ("host", "none") else "container" if mode.startswith("container:") else self.kind
        return Plan(container_id=container_id, kind=kind, sandbox_id="s", joined=mode.partition(":")[2])

    def attach(self, plan: Plan, netns_fd: int, netns_path: str = "") -> NetworkSettings:
        return self.settings(plan.container_id)

    def release(self, container_id: str) -> None:
        self.reserved.discard(container_id)

    def settings(self, container_id: str) -> NetworkSettings:
        wanted = self.known.get(container_id)
        name = wanted.network_mode if wanted else "bridge"
        return NetworkSettings(networks={name: EndpointSettings(network_id="f" * 64)})

    def reconcile(self, live: Sequence[str]) -> None:
        self.reserved &= set(live)

    def plan(self, container_id: str) -> Plan | None:
        return self.reserve(container_id) if container_id in self.reserved else None


class FakeEvents:
    def __init__(self) -> None:
        self.published: list[tuple[str, str, str, Mapping[str, str]]] = []

    def publish(self, kind: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
        self.published.append((kind, action, actor_id, attributes))

    def actions(self) -> list[str]:
        return [action for _, action, _, _ in self.published]


class FakeCore:
    """`services.Core` without content and registries."""

    def __init__(self, root: str) -> None:
        self.tasks = FakeTasks()
        self.snapshots = FakeSnapshots(root)
        self.content: Any = None
        self.images: Any = None
        self.transfer: Any = None
        self.commits: Any = None

    async def close(self) -> None: ...
