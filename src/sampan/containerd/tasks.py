"""`services.Tasks` on keepers: which keeper has which task, and what to do when a keeper or this process was gone.

tasks = KeeperTasks("/run/sampan")
await tasks.open()          # finds living keepers and buries dead ones
...
await tasks.close()         # the containers go on
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sampan import errors
from sampan.containerd import keepers
from sampan.containerd.keepers import Keeper
from sampan.containerd.services import DEFAULT_OPTIONS, Mount, RuntimeOptions, TaskExit, TaskIO, TaskState
from sampan.containerd.task_objects import mount_object, task_exit, task_state
from sampan.keeper.client import Event

KILLED = 128 + signal.SIGKILL
DEFAULTS = asdict(DEFAULT_OPTIONS)


class KeeperTasks:
    """`services.Tasks`.

    `state` is sampand's state directory; `runtime_root` the runtimes' `--root` (default `<state>/runtime`);
    `per_keeper` how many containers one keeper may have: 0 any number, 1 one process for each; `command` what starts
    a keeper."""

    def __init__(
        self, state: str, *, runtime_root: str = "", per_keeper: int = 0, command: Sequence[str] | None = None
    ) -> None:
        self._directory = f"{state}/keeper"
        self._runtime_root = runtime_root or f"{state}/runtime"
        self._per_keeper = per_keeper
        self._command = list(command) if command is not None else keepers.main_command()
        self._keepers: dict[int, Keeper] = {}
        self._owner: dict[str, Keeper] = {}
        self._execs: dict[tuple[str, str], int] = {}
        self._running: dict[str, int] = {}
        self._exit_callbacks: list[Callable[[TaskExit], None]] = []
        self._oom_callbacks: list[Callable[[str], None]] = []
        self._starting = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()
        self._closing = False

    async def open(self) -> None:
        """Find the keepers of an earlier sampand; where one has died, a new one takes its place and its tasks.

        What ended meanwhile is in `list`; no callback is made for it."""
        os.makedirs(self._directory, 0o700, exist_ok=True)
        for name in sorted(os.listdir(self._directory)):
            if not name.isdigit():
                continue
            try:
                keeper = await self._connect(int(name))
                if keeper is None:
                    if not _has_tasks(f"{self._directory}/{name}"):
                        continue
                    keeper = await self._start(int(name))
                await self._adopt(keeper)
            except errors.Error as error:
                # One keeper that cannot be talked to (of another version, perhaps) must not keep all others away.
                print(f"sampand: the tasks of keeper {name} are out of reach: {error}", file=sys.stderr)

    async def close(self) -> None:
        """Let go of the keepers; tasks go on. A keeper without tasks is ended."""
        self._closing = True
        for work in list(self._background):
            work.cancel()
        for keeper in list(self._keepers.values()):
            if not keeper.tasks:
                await self._shut_down(keeper)
            keeper.close()

    def on_exit(self, callback: Callable[[TaskExit], None]) -> None:
        self._exit_callbacks.append(callback)

    def on_oom(self, callback: Callable[[str], None]) -> None:
        self._oom_callbacks.append(callback)

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
        if container_id in self._owner:
            raise errors.AlreadyExists(f'task "{container_id}" already exists')
        mounts = [mount_object(mount, remove_volatile) for mount in rootfs]
        keeper = await self._choose(container_id)
        # Noted before the call, because the exit may be heard before this coroutine goes on.
        self._running[container_id] = 0
        making = asyncio.ensure_future(
            keeper.call(
                "create",
                container=container_id,
                bundle=bundle,
                root=self._runtime_root,
                runtime=runtime,
                rootfs=mounts,
                terminal=io.terminal,
                stdin=io.stdin,
                stdin_once=io.stdin_once,
                log=None if io.log is None else asdict(io.log),
                console_size=None if io.console_size is None else list(io.console_size),
                options={
                    key: value for key, value in asdict(options).items() if value is not None and value != DEFAULTS[key]
                },
                checkpoint=checkpoint,
            )
        )
        try:
            result = await asyncio.shield(making)
        except asyncio.CancelledError:
            # The keeper goes on making it, and nobody would ever ask for it again.
            self._later(self._unmake(container_id, keeper, making))
            raise
        except BaseException:
            await self._drop(container_id)
            raise
        pid = int(result["pid"])
        if container_id in self._running:
            self._running[container_id] = pid
        return pid

    async def start(self, container_id: str) -> int:
        try:
            result = await self._of(container_id).call("start", container=container_id)
        except errors.Conflict:
            raise
        except errors.Error:
            self._running.pop(container_id, None)  # the error is the notice of its end
            raise
        pid = int(result["pid"])
        if container_id in self._running:
            self._running[container_id] = pid
        return pid

    async def exec(self, container_id: str, exec_id: str, *, process: Mapping[str, Any], io: TaskIO) -> int:
        keeper = self._of(container_id)
        key = (container_id, exec_id)
        if key in self._execs:
            raise errors.AlreadyExists(f'exec "{exec_id}" already exists')
        path = f"{self._directory}/{keeper.number}/exec-{container_id}-{exec_id}.json"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(dict(process), file)
        self._execs[key] = 0
        try:
            result = await keeper.call(
                "exec",
                container=container_id,
                exec=exec_id,
                process=path,
                terminal=io.terminal,
                stdin=io.stdin,
                console_size=None if io.console_size is None else list(io.console_size),
            )
        except BaseException:
            self._execs.pop(key, None)
            raise
        finally:
            os.unlink(path)
        pid = int(result["pid"])
        if key in self._execs:
            self._execs[key] = pid
        return pid

    async def attach(
        self, container_id: str, exec_id: str = "", *, stdout: int | None, stderr: int | None, stdin: bool
    ) -> int | None:
        fds = [fd for fd in (stdout, stderr) if fd is not None]
        result, received = await self._of(container_id).call_with_fds(
            "attach",
            fds=fds,
            container=container_id,
            exec=exec_id,
            stdout=stdout is not None,
            stderr=stderr is not None,
            stdin=stdin,
        )
        return received[0] if result["stdin"] and received else None

    async def attach_logger(self, container_id: str, exec_id: str, uri: str, *, name: str, namespace: str) -> None:
        await self._of(container_id).call(
            "logger", container=container_id, exec=exec_id, uri=uri, known_as=name, namespace=namespace
        )

    async def kill(self, container_id: str, signal: int, exec_id: str = "", *, all: bool = False) -> None:
        await self._of(container_id).call("kill", container=container_id, exec=exec_id, signal=int(signal), all=all)

    async def resize(self, container_id: str, exec_id: str, height: int, width: int) -> None:
        await self._of(container_id).call("resize", container=container_id, exec=exec_id, height=height, width=width)

    async def close_stdin(self, container_id: str, exec_id: str = "") -> None:
        await self._of(container_id).call("close_stdin", container=container_id, exec=exec_id)

    async def pause(self, container_id: str) -> None:
        await self._of(container_id).call("pause", container=container_id)

    async def checkpoint(self, container_id: str, images: str, *, flags: Sequence[str] = ()) -> None:
        await self._of(container_id).call("checkpoint", container=container_id, flags=["--image-path", images, *flags])

    async def resume(self, container_id: str) -> None:
        await self._of(container_id).call("resume", container=container_id)

    async def update(self, container_id: str, resources: Mapping[str, Any]) -> None:
        await self._of(container_id).call("update", container=container_id, resources=dict(resources))

    async def stats(self, container_id: str) -> Mapping[str, Any]:
        result = await self._of(container_id).call("stats", container=container_id)
        data: Mapping[str, Any] = result["data"]
        return data

    async def pids(self, container_id: str) -> Sequence[int]:
        result = await self._of(container_id).call("pids", container=container_id)
        pids: Sequence[int] = result["pids"]
        return pids

    async def delete(self, container_id: str) -> TaskExit:
        result = await self._of(container_id).call("delete", container=container_id)
        await self._drop(container_id)
        if result["exit"] is None:  # it was still to be restored
            return TaskExit(container_id, "", 0, KILLED, time.time_ns())
        return task_exit(result["exit"])

    async def list(self) -> Sequence[TaskState]:
        if self._background:
            await asyncio.wait(self._background)
        states: list[TaskState] = []
        for keeper in list(self._keepers.values()):
            try:
                result = await keeper.call("list")
            except errors.Unavailable:
                # It has died just now: its successor, which is being started, knows its tasks.
                return await self.list()
            for fields in result.get("exec_exits", ()):
                self._tell_exit(task_exit(fields))
            states += [task_state(fields) for fields in result["tasks"]]
        return states

    async def _unmake(self, container_id: str, keeper: Keeper, making: asyncio.Future[dict[str, Any]]) -> None:
        try:
            await making
            await keeper.call("delete", container=container_id)
        except errors.Error as error:
            print(f"sampand: task {container_id}, given up while it was made: {error}", file=sys.stderr)
        finally:
            await self._drop(container_id)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _of(self, container_id: str) -> Keeper:
        keeper = self._owner.get(container_id)
        if keeper is None:
            raise errors.NotFound(f'task "{container_id}" not found')
        return keeper

    async def _choose(self, container_id: str) -> Keeper:
        """The keeper with room for one more, perhaps a new one; the task counts as its from now on."""
        async with self._starting:
            keeper = next(
                (
                    keeper
                    for keeper in self._keepers.values()
                    if keeper.open and (not self._per_keeper or len(keeper.tasks) < self._per_keeper)
                ),
                None,
            )
            if keeper is None:
                number = 0
                while number in self._keepers or _has_tasks(f"{self._directory}/{number}"):
                    number += 1
                keeper = await self._start(number)
            keeper.tasks.add(container_id)
            self._owner[container_id] = keeper
            return keeper

    async def _drop(self, container_id: str) -> None:
        """Forget a task; with a bound on tasks its keeper is not kept for nothing."""
        self._running.pop(container_id, None)
        keeper = self._owner.pop(container_id, None)
        if keeper is None:
            return
        keeper.tasks.discard(container_id)
        if self._per_keeper and not keeper.tasks:
            await self._shut_down(keeper)

    async def _shut_down(self, keeper: Keeper) -> None:
        self._keepers.pop(keeper.number, None)
        try:
            await keeper.call("shutdown")
        except errors.Error:
            return  # it has died, or has a task after all and will be found again
        keeper.close()

    async def _connect(self, number: int) -> Keeper | None:
        keeper = await keepers.connect(f"{self._directory}/{number}", number, self._heard, self._lost)
        if keeper is not None:
            self._keepers[number] = keeper
        return keeper

    async def _start(self, number: int) -> Keeper:
        await keepers.start(f"{self._directory}/{number}", self._command)
        keeper = await self._connect(number)
        if keeper is None:
            raise errors.Unavailable(f"keeper {number} started and does not answer")
        return keeper

    async def _adopt(self, keeper: Keeper) -> Sequence[dict[str, Any]]:
        """Learn what a keeper has; its tasks as `list` gave them."""
        result = await keeper.call("list")
        for fields in result["tasks"]:
            container_id = fields["container"]
            keeper.tasks.add(container_id)
            self._owner[container_id] = keeper
            if fields["exit"] is None:
                self._running[container_id] = fields["pid"]
                for exec_id in fields["execs"]:
                    self._execs[container_id, exec_id] = 0
        for fields in result.get("exec_exits", ()):
            self._tell_exit(task_exit(fields))
        tasks: Sequence[dict[str, Any]] = result["tasks"]
        return tasks

    def _heard(self, keeper: Keeper, event: Event) -> None:
        if event.name == "exit":
            self._tell_exit(task_exit(event.fields))
        elif event.name == "oom":
            for callback in self._oom_callbacks:
                callback(event.fields["container"])

    def _tell_exit(self, exit: TaskExit) -> None:
        if exit.exec_id:
            self._execs.pop((exit.container_id, exit.exec_id), None)
        else:
            self._running.pop(exit.container_id, None)
        for callback in self._exit_callbacks:
            callback(exit)

    def _lost(self, keeper: Keeper) -> None:
        if self._keepers.get(keeper.number) is not keeper:
            return
        del self._keepers[keeper.number]
        if self._closing:
            return
        self._later(self._recover(keeper))

    async def _recover(self, dead: Keeper) -> None:
        """A keeper died: its successor kills what is left of its tasks and reports them; so do we."""
        tasks: Sequence[dict[str, Any]] = ()
        try:
            async with self._starting:
                if dead.tasks:
                    tasks = await self._adopt(await self._start(dead.number))
        except errors.Error as error:
            print(f"sampand: keeper {dead.number} died and cannot be replaced: {error}", file=sys.stderr)
        exits = {fields["container"]: fields["exit"] for fields in tasks}
        for container_id, exec_id in [key for key in self._execs if key[0] in dead.tasks]:
            pid = self._execs[container_id, exec_id]
            self._tell_exit(TaskExit(container_id, exec_id, pid, KILLED, time.time_ns()))
        for container_id in [found for found in dead.tasks if found in self._running]:
            pid = self._running[container_id]
            fields = exits.get(container_id)
            found = task_exit(fields) if fields else TaskExit(container_id, "", pid, KILLED, time.time_ns())
            self._tell_exit(found)
        for container_id in dead.tasks - set(exits):
            self._owner.pop(container_id, None)  # it was not yet, or no longer, on record


def _has_tasks(directory: str) -> bool:
    try:
        return any(name.endswith(".json") for name in os.listdir(f"{directory}/tasks"))
    except FileNotFoundError:
        return False
