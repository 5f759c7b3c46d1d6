"""The keeper's live values: a task (what a container's record runs as) and the processes in it."""

from __future__ import annotations

import os
import time

from sampan.keeper.status import PUBLIC, after

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from sampan.keeper.oom import OomWatch
    from sampan.keeper.stdio import Streams

    Done = Callable[[Exception | None, dict[str, Any]], None]
    """Called once with (error, {}) or (None, result)."""

    class Driver(Protocol):
        """How an OCI runtime is made to do its verbs: ours in this process, another by its command line.

        `create` and `exec` set the process's pid and pidfd; a process that was made and failed is reported by
        `done` only when it has been reaped and nothing of it is left; when a created one ends, the forker's `exited`
        is called first, then a `done` that still waits. Errors come through `done` or are raised before anything
        was done."""

        def create(self, task: Task, spec: dict[str, Any], console_size: Sequence[int] | None, done: Done) -> None: ...
        def start(self, task: Task, done: Done) -> None: ...
        def exec(
            self, child: Process, process: dict[str, Any], console_size: Sequence[int] | None, done: Done
        ) -> None: ...
        def kill(self, task: Task, number: int, everything: bool, done: Done) -> None: ...
        def pause(self, task: Task, done: Done) -> None: ...
        def resume(self, task: Task, done: Done) -> None: ...
        def update(self, task: Task, resources: dict[str, Any], done: Done) -> None: ...
        def checkpoint(self, task: Task, flags: list[str], done: Done) -> None: ...
        def stats(self, task: Task, done: Done) -> None: ...
        def pids(self, task: Task, done: Done) -> None: ...
        def delete(self, task: Task, done: Done) -> None: ...
        def adopt(self, task: Task) -> None:
            """A dead keeper's task: end what is left of it and prepare for `delete`."""


class Process:
    """A task's init (`exec_id` is "") or an exec."""

    def __init__(self, task: Task, exec_id: str, streams: Streams) -> None:
        self.task = task
        self.exec_id = exec_id
        self.streams = streams
        self.pid = 0
        self.pidfd = -1
        self.running = False

    def exit_object(self, status: int) -> dict[str, Any]:
        """The protocol's exit object, as of now."""
        return {
            "container": self.task.id,
            "exec": self.exec_id,
            "pid": self.pid,
            "status": status,
            "at": time.time_ns(),
            "oom": self.task.out_of_memory,
        }

    def close(self) -> None:
        """Give up the pidfd."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


class Task:
    """A container's running thing."""

    def __init__(
        self,
        container_id: str,
        bundle: str,
        root: str,
        runtime: str,
        driver: Driver,
        init: Streams,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.id = container_id
        self.options = options or {}
        """What the client asked of the runtime: `messages.OPTIONS`."""
        self.name: str = self.options.get("name") or container_id
        """Its id at the runtime."""
        self.bundle = bundle
        self.root = root
        self.runtime = runtime
        self.driver = driver
        self.rootfs: list[dict[str, Any]] = []
        self.checkpoint = ""
        """The images that `start` restores, "" for a task whose program it executes."""
        self.status = "creating"
        self.created = time.time_ns()
        self.init = Process(self, "", init)
        self.execs: dict[str, Process] = {}
        self.exit: dict[str, Any] | None = None
        self.state: Any = None
        """What the driver knows of the container (our runtime: the content of state.json)."""
        self.mntns = -1
        self.oom_watch: OomWatch | None = None
        self.out_of_memory = False
        self.when_stopped: list[Callable[[], None]] = []

    def move(self, verb: str) -> None:
        """Change the status as the table says. Conflict."""
        self.status = after(self.id, self.status, verb)

    def check(self, verb: str) -> None:
        """Conflict unless `verb` is allowed now."""
        after(self.id, self.status, verb)

    def listed(self) -> dict[str, Any]:
        """The task as `list` shows it."""
        return {
            "container": self.id,
            "pid": self.init.pid,
            "status": PUBLIC.get(self.status, self.status),
            "exit": self.exit,
            "execs": [child.exec_id for child in self.execs.values() if child.running],
        }

    def record(self, start_time: int) -> dict[str, Any]:
        """The task as a next keeper must know it."""
        return {
            "container": self.id,
            "bundle": self.bundle,
            "root": self.root,
            "runtime": self.runtime,
            "rootfs": self.rootfs,
            "options": self.options,
            "pid": self.init.pid,
            "start_time": start_time,
            "created": self.created,
            "exit": self.exit,
        }
