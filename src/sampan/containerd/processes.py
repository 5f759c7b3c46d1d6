"""Tasks and execs as containerd's clients see them, over `services.Tasks`.

A task is made from a container record; its bundle is `<state>/bundles/<namespace>--<id>/`, and that name is its id at
the keeper: two hyphens stand in no identifier, so neither the engine's containers nor another namespace's have it. What
the client said of its streams is in the bundle too (`io.json`), so that the next core finds it.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from sampan import errors
from sampan.api.containerd import runtime_objects
from sampan.containerd import checkpoints, identifiers
from sampan.containerd.client_tasks import Process, Stdio, Task, WrongState
from sampan.containerd.containers import Payload
from sampan.containerd.fifos import Outputs, StdinFeed, drained, is_fifo, open_output
from sampan.containerd.metadata import now
from sampan.containerd.services import Mount, RuntimeOptions, TaskExit, TaskIO, Tasks

SEPARATOR = "--"
# No namespace begins like this, so no bundle does.
_DISCARDED = ".discarded-"
_STARTED = ("running", "paused")
_LAST_SIGNAL = 64
_LOGGER = "binary://"


class Processes:
    """Every namespace's tasks behind the keeper (a `runners.Runner`).

    `exited` and `out_of_memory` are told what happened, after it is on record here."""

    publishes = False

    def __init__(
        self,
        tasks: Tasks,
        state: str,
        *,
        exited: Callable[[Task, Process], None],
        out_of_memory: Callable[[Task], None],
    ) -> None:
        self._tasks = tasks
        self._bundles = f"{state}/bundles"
        self._runtime_root = f"{state}/runc"
        self._known: dict[tuple[str, str], Task] = {}
        self._exited = exited
        self._out_of_memory = out_of_memory
        self._outputs = Outputs()
        self._endings: set[asyncio.Task[None]] = set()
        tasks.on_exit(self._heard)
        tasks.on_oom(self._heard_oom)

    async def recover(self) -> None:
        """Find the tasks that an earlier core's clients made; finish what it was removing."""
        if os.path.isdir(self._bundles):
            for name in os.listdir(self._bundles):
                if name.startswith(_DISCARDED):
                    shutil.rmtree(f"{self._bundles}/{name}", ignore_errors=True)
        for state in await self._tasks.list():
            namespace, separator, container_id = state.container_id.partition(SEPARATOR)
            bundle = f"{self._bundles}/{state.container_id}"
            if not separator or not os.path.exists(f"{bundle}/io.json"):
                continue
            with open(f"{bundle}/io.json", encoding="utf-8") as file:
                init = Process("", Stdio(**json.load(file)), state.pid, state.status, state.exit)
            task = Task(namespace, container_id, state.container_id, bundle, init)
            if state.exit is not None:
                init.status = "stopped"
                init.exited.set()
            elif init.status != "created":
                await self._feed(task, init)
            self._known[namespace, container_id] = task

    def find(self, namespace: str, container_id: str) -> Task | None:
        return self._known.get((namespace, container_id))

    async def list(self, namespace: str) -> Sequence[Task]:
        return [task for (owner, _), task in self._known.items() if owner == namespace]

    async def create(
        self,
        namespace: str,
        container_id: str,
        *,
        spec: Mapping[str, Any],
        rootfs: Sequence[Mount],
        stdio: Stdio,
        runtime: str,
        options: RuntimeOptions,
        checkpoint: Callable[[str], None] | None = None,
    ) -> Task:
        """Stop right before execve, with the streams attached. AlreadyExists; the runtime's errors.

        `checkpoint` fills a directory, in a thread, with the images that `start` is to restore. `runtime` and `options`
        as in `services.Tasks.create`; the runtime knows the container by its own id."""
        if (namespace, container_id) in self._known:
            raise errors.AlreadyExists(f"task {container_id}: already exists")
        key = f"{namespace}{SEPARATOR}{container_id}"
        bundle = f"{self._bundles}/{key}"
        root = options.root or f"{self._runtime_root}/{namespace}"
        options = replace(options, name=container_id, root=root)
        task = Task(
            namespace, container_id, key, bundle, Process("", stdio, spec=spec.get("process") or {}), announced=False
        )
        # Before the first await, so that a second client is told that it is there.
        self._known[namespace, container_id] = task
        try:
            _write_bundle(bundle, spec, stdio)
            images = f"{bundle}/checkpoint" if checkpoint else ""
            if checkpoint:
                await asyncio.to_thread(checkpoint, images)
            task.init.pid = await self._tasks.create(
                key,
                bundle=bundle,
                rootfs=rootfs,
                io=_task_io(stdio, task.init.spec),
                runtime=runtime,
                options=options,
                checkpoint=images,
            )
            try:
                await self._attach(task, task.init)
            except BaseException:
                await self._discard(task)
                raise
        except BaseException:
            self._forget(task)
            raise
        task.announced = True
        return task

    async def start(self, task: Task, process: Process) -> None:
        """execve. WrongState unless it is created; the runtime's errors."""
        if process.status != "created" or process.starting:
            raise WrongState("start", process.status)
        process.starting = True
        try:
            if process is not task.init:
                await self._attach(task, process)
            # Not at create: ctr notices the end of its input only after the create was answered (and then says
            # CloseIO), and its input begins to flow when the FIFO is opened.
            await self._feed(task, process)
            if process is task.init:
                process.pid = await self._tasks.start(task.key)
            else:
                io = _task_io(process.stdio, process.spec)
                process.pid = await self._tasks.exec(task.key, process.exec_id, process=process.spec, io=io)
            process.status = "running"
        except BaseException:
            process.status = "stopped"
            process.exited.set()
            if process.feed is not None:
                process.feed.close()
            raise
        finally:
            process.starting = False

    def settle(self, task: Task, process: Process) -> None:
        """To be called once the start has been told: an exit that came meanwhile follows."""
        if process.exit is not None and process.status != "stopped":
            self._end_when_read(task, process)

    async def add_exec(self, task: Task, exec_id: str, spec: Payload, stdio: Stdio) -> None:
        """Note what to run; `start` runs it. AlreadyExists, InvalidArgument; Error (the task does not run)."""
        wanted = runtime_objects.decoded(spec.value, "process spec")
        try:
            identifiers.validate(exec_id)
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument(f"invalid exec id {exec_id}: {error}") from error
        if exec_id in task.execs:
            raise errors.AlreadyExists(f"id {exec_id}: already exists")
        if task.init.status not in ("created", "running"):
            raise errors.Error(f"cannot exec in a {task.init.status} state: unknown")
        task.execs[exec_id] = Process(exec_id, stdio, spec=wanted)

    async def delete(self, task: Task) -> TaskExit:
        """Forget a stopped task, or one that was never started. Error while it runs."""
        if task.init.status in _STARTED:
            raise errors.Error(f"failed to delete task: cannot delete a {task.init.status} process: unknown")
        if task.init.status == "created":
            await self._discard(task)
            # How it was ended is no exit status of its own.
            ended = TaskExit(task.container_id, "", task.init.pid, 0, now())
        else:
            ended = await self._tasks.delete(task.key)
        self._forget(task)
        return ended

    async def delete_exec(self, task: Task, process: Process) -> TaskExit | None:
        """Forget a stopped exec, or one that was never started. WrongState while it runs."""
        if process.status in _STARTED or process.starting:
            raise WrongState("delete", "running")
        del task.execs[process.exec_id]
        process.exited.set()
        return process.exit

    async def kill(self, task: Task, process: Process, signal: int, every: bool) -> None:
        """Send `signal`, with `every` to all that the task is. NotFound once it has ended, but nothing for `every`;
        Conflict for an exec before it is started; Error for what is no signal."""
        if every and task.init.status == "stopped":
            return  # nothing is left of it
        if signal > _LAST_SIGNAL:
            raise errors.Error("unknown error after kill: unable to signal init: invalid argument: unknown")
        if process is not task.init and process.status == "created":
            raise errors.Conflict("process not created: failed precondition")
        if process.status == "stopped" or process.exit is not None:
            raise errors.NotFound("process already finished: not found")
        try:
            await self._tasks.kill(task.key, signal, process.exec_id, all=every)
        except errors.Conflict as error:
            raise errors.NotFound("process already finished: not found") from error

    async def pause(self, task: Task) -> None:
        if task.init.status == "created":
            raise errors.Error("cannot pause task in created state: unknown")
        if task.init.status != "running":
            raise WrongState("pause", task.init.status, "container")
        await self._tasks.pause(task.key)
        task.init.status = "paused"

    async def checkpoint(self, task: Task, path: str, options: Payload | None) -> None:
        if task.init.status not in _STARTED:
            raise WrongState("checkpoint", task.init.status, "container")
        flags = checkpoints.flags(checkpoints.options_of(options), f"{task.bundle}/criu-work")
        await self._tasks.checkpoint(task.key, path, flags=flags)

    async def resume(self, task: Task) -> None:
        if task.init.status == "created":
            raise errors.Error("cannot resume task in created state: unknown")
        if task.init.status != "paused":
            raise WrongState("resume", task.init.status, "container" if task.init.status == "stopped" else "process")
        await self._tasks.resume(task.key)
        task.init.status = "running"

    async def resize(self, task: Task, process: Process, height: int, width: int) -> None:
        """Nothing is done for a process without a terminal, or one that does not run."""
        is_there = process.status in _STARTED or (process is task.init and process.status == "created")
        if not process.stdio.terminal or not is_there:
            return
        await self._tasks.resize(task.key, process.exec_id, height, width)

    async def close_stdin(self, task: Task, process: Process) -> None:
        if process.feed is not None:
            process.feed.close_io()

    async def pids(self, task: Task) -> Sequence[tuple[int, str]]:
        if task.init.status == "stopped":
            return []
        execs = {process.pid: process.exec_id for process in task.execs.values()}
        return [(pid, execs.get(pid, "")) for pid in await self._tasks.pids(task.key)]

    async def update(self, task: Task, resources: Payload, annotations: Mapping[str, str]) -> None:
        if task.init.status == "stopped":
            raise WrongState("update", "stopped", "container")
        await self._tasks.update(task.key, runtime_objects.decoded(resources.value, "resources"))

    async def stats(self, task: Task) -> Mapping[str, Any]:
        return await self._tasks.stats(task.key)

    async def look(self, task: Task, process: Process) -> None:
        """The records are what was heard, hence up to date."""

    def close(self) -> None:
        """Let go of the streams; tasks go on."""
        for ending in self._endings:
            ending.cancel()
        self._outputs.close()
        for task in self._known.values():
            for process in (task.init, *task.execs.values()):
                if process.feed is not None:
                    process.feed.close()

    async def _attach(self, task: Task, process: Process) -> None:
        stdio = process.stdio
        if stdio.stdout.startswith(_LOGGER):
            await self._tasks.attach_logger(
                task.key, process.exec_id, stdio.stdout, name=task.container_id, namespace=task.namespace
            )
            return
        stdout: int | None = None
        stderr: int | None = None
        try:
            stdout = await open_output(stdio.stdout)
            stderr = None if stdio.terminal else await open_output(stdio.stderr)
            if stdout is not None or stderr is not None:
                await self._tasks.attach(task.key, process.exec_id, stdout=stdout, stderr=stderr, stdin=False)
        finally:
            for fd in (stdout, stderr):
                if fd is not None:
                    os.close(fd)
        for path in {stdio.stdout, "" if stdio.terminal else stdio.stderr} - {""}:
            if is_fifo(path):
                process.outputs[path] = self._outputs.watch(path)

    async def _feed(self, task: Task, process: Process) -> None:
        if not process.stdio.stdin:
            return
        target = await self._tasks.attach(task.key, process.exec_id, stdout=None, stderr=None, stdin=True)
        if target is None:
            return
        try:
            process.feed = StdinFeed(process.stdio.stdin, target, lambda: None)
        except OSError:
            os.close(target)
            raise

    async def _discard(self, task: Task) -> None:
        """Of a task that was created and never started."""
        try:
            await self._tasks.kill(task.key, 9)  # a Conflict when there is no process before it is restored
            await task.init.exited.wait()
        except (errors.NotFound, errors.Conflict):
            pass  # it has ended by itself
        try:
            await self._tasks.delete(task.key)
        except errors.NotFound:
            pass

    def _forget(self, task: Task) -> None:
        self._known.pop((task.namespace, task.container_id), None)
        for process in (task.init, *task.execs.values()):
            if process.feed is not None:
                process.feed.close()
        self._discard_bundle(task.bundle)

    def _discard_bundle(self, bundle: str) -> None:
        """Out of the way at once; taken apart in a thread: what was a mount point takes milliseconds to remove."""
        unwanted = f"{self._bundles}/{_DISCARDED}{secrets.token_hex(8)}"
        try:
            os.rename(bundle, unwanted)
        except FileNotFoundError:
            return
        asyncio.get_running_loop().run_in_executor(None, lambda: shutil.rmtree(unwanted, ignore_errors=True))

    def _heard(self, exit: TaskExit) -> None:
        namespace, separator, container_id = exit.container_id.partition(SEPARATOR)
        task = self._known.get((namespace, container_id)) if separator else None
        if task is None:
            return
        process = task.init if not exit.exec_id else task.execs.get(exit.exec_id)
        if process is None:
            return
        process.exit = exit
        if not process.starting:
            self._end_when_read(task, process)

    def _end_when_read(self, task: Task, process: Process) -> None:
        """ctr stops reading as soon as it hears of the exit: it is told when the keeper has got rid of everything."""
        if all(closed.is_set() for closed in process.outputs.values()):
            self._end(task, process)
            return

        async def wait() -> None:
            await asyncio.gather(*(drained(path, closed) for path, closed in process.outputs.items()))
            self._end(task, process)

        ending = asyncio.get_running_loop().create_task(wait())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    def _end(self, task: Task, process: Process) -> None:
        process.status = "stopped"
        if process.feed is not None:
            process.feed.close()
        process.exited.set()
        if task.announced:
            self._exited(task, process)

    def _heard_oom(self, key: str) -> None:
        namespace, _, container_id = key.partition(SEPARATOR)
        task = self._known.get((namespace, container_id))
        if task is not None:
            self._out_of_memory(task)


def _task_io(stdio: Stdio, process: Mapping[str, Any]) -> TaskIO:
    size = process.get("consoleSize") or {}
    console = (int(size.get("height", 0)), int(size.get("width", 0))) if size else None
    return TaskIO(terminal=stdio.terminal, stdin=bool(stdio.stdin), stdin_once=True, console_size=console)


def _write_bundle(bundle: str, spec: Mapping[str, Any], stdio: Stdio) -> None:
    os.makedirs(f"{bundle}/rootfs", mode=0o711, exist_ok=True)
    for name, document in (("config.json", spec), ("io.json", asdict(stdio))):
        with open(f"{bundle}/{name}", "w", encoding="utf-8") as file:
            file.write(json.dumps(document))  # five times faster than json.dump, which writes piece by piece
