"""Tasks behind foreign shims: each container's shim is a process of its own, which outlives this one.

    create:  bundle → SHIM start → connect → Task/Create          the shim opens the client's FIFOs itself
    later:   one Task call for each request; one Task/Wait stays open for each process, and is its exit's notice
    delete:  Task/Delete → Task/Shutdown → bundle removed
    the shim dies:  SHIM delete → exit and delete are told → bundle removed

Shims publish the task events themselves (`Forward` on the socket beside the gRPC one); only a dead one's are told here.
Every look at a shim that a list or a start of ours waits for has its time: one that hangs is shown as "unknown" and
holds up nobody but who asks for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from sampan import errors
from sampan.api.containerd.runtime.task.v2 import shim_pb2 as api
from sampan.api.containerd.types import mount_pb2
from sampan.containerd.client_tasks import Process, Stdio, Task
from sampan.containerd.containers import Payload
from sampan.containerd.services import Mount, TaskExit
from sampan.containerd.shims import connection
from sampan.containerd.shims.binary import Home, Programs
from sampan.containerd.shims.bundle import Bundle, Bundles, Endpoint
from sampan.containerd.shims.task import STATUS, ShimTask, any_of, exec_id_of
from sampan.containerd.shims.voice import Voice

log = logging.getLogger("sampan.containerd.shims")

CONNECT_TIMEOUT, LOOK_TIMEOUT, SHUTDOWN_TIMEOUT = 5.0, 2.0, 3.0
"""Seconds; containerd's own (`io.containerd.timeout.shim.load`, `.task.state`, `.shim.shutdown`)."""

KILLED = 137


class ShimTasks:
    """Every namespace's tasks that are behind foreign shims (a `runners.Runner`).

    `exited` and `deleted` are told of a dead shim's task."""

    publishes = True

    def __init__(
        self,
        state: str,
        root: str,
        home: Home,
        *,
        exited: Callable[[Task, Process], None],
        deleted: Callable[[Task, TaskExit], None],
    ) -> None:
        self._bundles = Bundles(state, root)
        self._programs = Programs(home)
        self._known: dict[tuple[str, str], ShimTask] = {}
        self._exited = exited
        self._deleted = deleted
        self._background: set[asyncio.Task[None]] = set()
        self._closing = False

    async def recover(self) -> None:
        """Find the shims that an earlier core started, all at once; what a dead one left is cleaned up behind this."""
        await asyncio.gather(*(self._recover(bundle) for bundle in self._bundles.walk()))

    def find(self, namespace: str, container_id: str) -> ShimTask | None:
        return self._known.get((namespace, container_id))

    async def list(self, namespace: str) -> Sequence[ShimTask]:
        """With their statuses as of now."""
        found = [task for (owner, _), task in self._known.items() if owner == namespace]
        await asyncio.gather(*(self.look(task, task.init) for task in found))
        return found

    async def create(
        self,
        namespace: str,
        container_id: str,
        *,
        binary: str,
        options: Payload | None,
        spec: bytes,
        rootfs: Sequence[Mount],
        stdio: Stdio,
        checkpoint: Callable[[str], None] | None = None,
    ) -> ShimTask:
        """Start a shim and have it make the container. AlreadyExists; the shim's errors, after which nothing is left.

        `binary` and `options` as in `runtimes.ShimRuntime`; `checkpoint` fills a directory, in a thread, with the
        images that `start` is to have restored."""
        if (namespace, container_id) in self._known:
            raise errors.AlreadyExists(f"task {container_id}: already exists")
        bundle = self._bundles.of(namespace, container_id)
        task = ShimTask(namespace, container_id, container_id, bundle.path, Process("", stdio), place=bundle)
        # Before the first await, so that a second client is told that it is there.
        self._known[namespace, container_id] = task
        try:
            try:
                bundle.make(spec, binary, stdio)
            except FileExistsError as error:
                raise errors.AlreadyExists(f"task {container_id}: already exists") from error
            try:
                images = f"{bundle.path}/checkpoint" if checkpoint else ""
                if checkpoint:
                    await asyncio.to_thread(checkpoint, images)
                await self._make(task, bundle, binary, options, rootfs, images)
            except BaseException:
                await asyncio.shield(self._undo(task, bundle))
                raise
        except BaseException:
            self._known.pop((namespace, container_id), None)
            raise
        self._watch(task, task.init)
        return task

    async def start(self, task: ShimTask, process: Process) -> None:
        """execve. Conflict unless it is created; the shim's errors."""
        request = api.StartRequest(id=task.container_id, exec_id=process.exec_id)
        process.pid = (await task.call("Start", request, api.StartResponse)).pid
        if process.status == "created":
            process.status = "running"

    def settle(self, task: ShimTask, process: Process) -> None:
        """The shim tells the start and the exit in their order."""

    async def add_exec(self, task: ShimTask, exec_id: str, spec: Payload, stdio: Stdio) -> None:
        """Note what to run; `start` runs it. The shim's errors."""
        request = api.ExecProcessRequest(
            id=task.container_id,
            exec_id=exec_id,
            terminal=stdio.terminal,
            stdin=stdio.stdin,
            stdout=stdio.stdout,
            stderr=stdio.stderr,
            spec=any_of(spec),
        )
        await task.call("Exec", request)
        process = task.execs[exec_id] = Process(exec_id, stdio)
        self._watch(task, process)

    async def delete(self, task: ShimTask) -> TaskExit:
        """Forget a stopped task and end its shim. Conflict while it runs."""
        ended = await self._delete(task, task.init)
        await self._end_shim(task)
        return ended

    async def delete_exec(self, task: ShimTask, process: Process) -> TaskExit:
        ended = await self._delete(task, process)
        task.execs.pop(process.exec_id, None)
        return ended

    async def kill(self, task: ShimTask, process: Process, signal: int, every: bool) -> None:
        request = api.KillRequest(id=task.container_id, exec_id=process.exec_id, signal=signal, all=every)
        await task.call("Kill", request)

    async def pause(self, task: ShimTask) -> None:
        await task.call("Pause", api.PauseRequest(id=task.container_id))
        task.init.status = "paused"

    async def resume(self, task: ShimTask) -> None:
        await task.call("Resume", api.ResumeRequest(id=task.container_id))
        task.init.status = "running"

    async def resize(self, task: ShimTask, process: Process, height: int, width: int) -> None:
        await task.call(
            "ResizePty",
            api.ResizePtyRequest(id=task.container_id, exec_id=process.exec_id, height=height, width=width),
        )

    async def close_stdin(self, task: ShimTask, process: Process) -> None:
        await task.call("CloseIO", api.CloseIORequest(id=task.container_id, exec_id=process.exec_id, stdin=True))

    async def pids(self, task: ShimTask) -> Sequence[tuple[int, str]]:
        """(pid, exec id or "") of each process."""
        answer = await task.call("Pids", api.PidsRequest(id=task.container_id), api.PidsResponse)
        return [(one.pid, exec_id_of(one.info)) for one in answer.processes]

    async def update(self, task: ShimTask, resources: Payload, annotations: Mapping[str, str]) -> None:
        request = api.UpdateTaskRequest(
            id=task.container_id, resources=any_of(resources), annotations=dict(annotations)
        )
        await task.call("Update", request)

    async def stats(self, task: ShimTask) -> Payload:
        """The shim's own message, of cgroup v1 or v2."""
        request = api.StatsRequest(id=task.container_id)
        answer = await task.call("Stats", request, api.StatsResponse, within=LOOK_TIMEOUT)
        return Payload(answer.stats.type_url, answer.stats.value)

    async def checkpoint(self, task: ShimTask, path: str, options: Payload | None) -> None:
        """Write CRIU's images to the directory `path`."""
        request = api.CheckpointTaskRequest(id=task.container_id, path=path, options=any_of(options))
        await task.call("Checkpoint", request)

    async def look(self, task: ShimTask, process: Process) -> None:
        """Bring status, pid and exit of a process up to date; "unknown" when its shim does not answer in time."""
        request = api.StateRequest(id=task.container_id, exec_id=process.exec_id)
        try:
            found = await task.call("State", request, api.StateResponse, within=LOOK_TIMEOUT)
        except errors.NotFound:
            return  # deleted meanwhile: who holds it shows what it was
        except errors.Unavailable:
            process.status = "unknown"
            return
        process.pid, process.status = found.pid, STATUS.get(found.status, "unknown")
        if process.status == "stopped" and process.exit is None:
            process.exit = task.ended(process, found)

    async def close(self) -> None:
        """Let go of the shims, which go on."""
        self._closing = True
        for work in [*self._background, *(wait for task in self._known.values() for wait in task.waits)]:
            work.cancel()
        for task in self._known.values():
            task.hang_up()

    async def _make(
        self,
        task: ShimTask,
        bundle: Bundle,
        binary: str,
        options: Payload | None,
        rootfs: Sequence[Mount],
        checkpoint: str,
    ) -> None:
        task.voice = Voice(f"{bundle.path}/log", task.container_id)
        endpoint = await self._programs.start(bundle, binary, options)
        bundle.save(endpoint)
        await self._connect(task, endpoint)
        stdio = task.init.stdio
        request = api.CreateTaskRequest(
            id=task.container_id,
            bundle=bundle.path,
            rootfs=[
                mount_pb2.Mount(type=one.type, source=one.source, target=one.target, options=one.options)
                for one in rootfs
            ],
            terminal=stdio.terminal,
            stdin=stdio.stdin,
            stdout=stdio.stdout,
            stderr=stdio.stderr,
            checkpoint=checkpoint,
            options=any_of(options),
        )
        task.init.pid = (await task.call("Create", request, api.CreateTaskResponse)).pid

    async def _undo(self, task: ShimTask, bundle: Bundle) -> None:
        """Of a create that failed: end the shim, have its program clean up, remove the bundle."""
        if task.connection is not None:
            await self._shut_down(task)
        task.hang_up()
        try:
            await self._programs.delete(bundle)
        except errors.Error as error:
            log.debug("shim of %s, which failed to create: %s", task.container_id, error)
        bundle.remove()

    async def _connect(self, task: ShimTask, endpoint: Endpoint) -> None:
        task.endpoint = endpoint
        task.connection = await connection.connect(
            endpoint.address, within=CONNECT_TIMEOUT, lost=lambda: self._lost(task)
        )

    async def _recover(self, bundle: Bundle) -> None:
        stdio, endpoint = bundle.stdio(), bundle.endpoint()
        init = Process("", stdio)
        task = ShimTask(bundle.namespace, bundle.container_id, bundle.container_id, bundle.path, init, place=bundle)
        self._known[bundle.namespace, bundle.container_id] = task
        if endpoint is None:
            # Killed while a shim was being started: its task never was.
            self._later(self._bury(task, told=False))
            return
        try:
            task.voice = Voice(f"{bundle.path}/log", task.container_id)
            await self._connect(task, endpoint)
            request = api.StateRequest(id=task.container_id)
            await task.call("State", request, within=LOOK_TIMEOUT)
        except errors.NotFound:
            self._later(self._abandon(task, bundle))
            return
        except (errors.Error, OSError):
            if task.connection is None:
                self._later(self._bury(task))
                return
            log.warning("shim of %s does not answer", task.container_id)  # it hangs, and may come to itself
        await self.look(task, init)
        self._watch(task, init)

    async def _abandon(self, task: ShimTask, bundle: Bundle) -> None:
        """Of a core that was killed between the start of a shim and its create."""
        await self._undo(task, bundle)
        self._known.pop((task.namespace, task.container_id), None)

    def _watch(self, task: ShimTask, process: Process) -> None:
        waiting = asyncio.get_running_loop().create_task(self._wait(task, process))
        task.waits.add(waiting)
        waiting.add_done_callback(task.waits.discard)

    async def _wait(self, task: ShimTask, process: Process) -> None:
        request = api.WaitRequest(id=task.container_id, exec_id=process.exec_id)
        try:
            found = await task.call("Wait", request, api.WaitResponse)
        except errors.Unavailable:
            if not process.exec_id:
                return  # the shim is gone; how the task ended is `_bury`'s to find out
        except errors.Error as error:
            log.warning("wait for %s of %s: %s", process.exec_id or "the task", task.container_id, error)
        else:
            process.exit = task.ended(process, found)
            process.status = "stopped"
        process.exited.set()

    async def _delete(self, task: ShimTask, process: Process) -> TaskExit:
        request = api.DeleteRequest(id=task.container_id, exec_id=process.exec_id)
        found = await task.call("Delete", request, api.DeleteResponse)
        ended = task.ended(process, found)
        process.exit, process.status = process.exit or ended, "stopped"
        process.exited.set()
        return ended

    async def _end_shim(self, task: ShimTask) -> None:
        await self._shut_down(task)
        self._forget(task)

    async def _shut_down(self, task: ShimTask) -> None:
        try:
            await task.call("Shutdown", api.ShutdownRequest(id=task.container_id), within=SHUTDOWN_TIMEOUT)
        except errors.Error as error:
            # A shim that ends at once does not answer.
            log.debug("shutdown of the shim of %s: %s", task.container_id, error)

    def _lost(self, task: ShimTask) -> None:
        if self._known.get((task.namespace, task.container_id)) is task and task.init.pid and not self._closing:
            log.warning("shim of %s is gone", task.container_id)
            self._later(self._bury(task))

    async def _bury(self, task: ShimTask, *, told: bool = True) -> None:
        """The shim is dead: its program cleans up after it, and its task's end is told here."""
        assert task.place is not None
        task.hang_up()
        ended = TaskExit(task.container_id, "", task.init.pid, KILLED, time.time_ns())
        if task.place.binary():
            try:
                ended = await self._programs.delete(task.place)
            except errors.Error as error:
                log.warning("clean up after the shim of %s: %s", task.container_id, error)
        if task.init.exit is None:
            task.init.pid = ended.pid or task.init.pid
            task.init.exit = ended
            if told:
                self._exited(task, task.init)
        for process in (task.init, *task.execs.values()):
            process.status = "stopped"
            process.exited.set()
        self._forget(task)
        if told:
            self._deleted(task, task.init.exit)

    def _forget(self, task: ShimTask) -> None:
        self._known.pop((task.namespace, task.container_id), None)
        for wait in list(task.waits):
            wait.cancel()
        task.hang_up()
        if task.place is not None:
            task.place.remove()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        running = asyncio.get_running_loop().create_task(work)
        self._background.add(running)
        running.add_done_callback(self._background.discard)
