"""containerd.services.tasks.v1."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf import empty_pb2, timestamp_pb2
from grpclib import GRPCError, Status

from sampan import errors
from sampan.api.containerd import cgroup_metrics, runtime_objects
from sampan.api.containerd.events import task_pb2 as told
from sampan.api.containerd.services.tasks.v1 import tasks_pb2 as api
from sampan.api.containerd.types import metrics_pb2
from sampan.api.containerd.types.runc.options import oci_pb2
from sampan.api.containerd.types.task import task_pb2
from sampan.containerd import checkpoints, filters, leasing, runtimes
from sampan.containerd.client_tasks import Process, Stdio, Task, WrongState
from sampan.containerd.containers import Container, Payload
from sampan.containerd.fifos import StdioError
from sampan.containerd.grpc import fields
from sampan.containerd.grpc.publishing import publish
from sampan.containerd.grpc.server import Call
from sampan.containerd.metadata import now
from sampan.containerd.processes import Processes
from sampan.containerd.runners import Runner
from sampan.containerd.runtimes import KeeperRuntime, ShimRuntime
from sampan.containerd.services import TaskExit
from sampan.containerd.shims.binary import Home
from sampan.containerd.shims.task import ShimTask
from sampan.containerd.shims.tasks import ShimTasks
from sampan.containerd.stores import StoreTable

# Go's time before any other, which is what containerd says of a process that has not ended.
_NEVER = timestamp_pb2.Timestamp(seconds=-62135596800)
# Kinds that reach the client without a runtime's words in front.
_TOLD_AS_THEY_ARE = (errors.Conflict, errors.NotFound, errors.AlreadyExists, errors.Unavailable, errors.Unimplemented)
_STATUS = {
    "created": task_pb2.CREATED,
    "running": task_pb2.RUNNING,
    "paused": task_pb2.PAUSED,
    "stopped": task_pb2.STOPPED,
    "pausing": task_pb2.PAUSING,
    "unknown": task_pb2.UNKNOWN,
}


class TasksService:
    descriptor = api.DESCRIPTOR.services_by_name["Tasks"]

    def __init__(self, table: StoreTable, state: str, address: str) -> None:
        """`address` is the path that this API is served on: shims are told where to send their events."""
        self._table = table
        self.processes = Processes(
            table.core.tasks, state, exited=self._tell_exit, out_of_memory=self._tell_out_of_memory
        )
        self.shims = ShimTasks(state, table.core.root, Home(address), exited=self._tell_exit, deleted=self._tell_delete)

    async def recover(self) -> None:
        """Find what an earlier core's clients made."""
        await self.processes.recover()
        await self.shims.recover()

    async def close(self) -> None:
        """Let go of tasks, which go on."""
        self.processes.close()
        await self.shims.close()

    async def create(self, call: Call, request: api.CreateTaskRequest) -> api.CreateTaskResponse:
        container = self._table.of(call.namespace).containers.get(request.container_id)
        options = fields.payload(request.options) or container.options
        chosen = runtimes.choose(container.runtime, options, call.namespace)
        if self._find(call.namespace, container.id) is not None:
            raise errors.AlreadyExists(f"task {container.id}: already exists")
        if request.HasField("checkpoint") and request.checkpoint.media_type != checkpoints.IMAGES_TYPE:
            raise errors.Error(f'unsupported checkpoint type "{request.checkpoint.media_type}"')
        stdio = Stdio(request.stdin, request.stdout, request.stderr, request.terminal)
        try:
            task = await self._make(call.namespace, container, chosen, request, stdio)
        except (errors.AlreadyExists, errors.Unavailable, errors.Unimplemented):
            raise
        except errors.Error as error:
            raise _failed_create(chosen, error) from error
        payload = told.TaskCreate(
            container_id=container.id, bundle=task.bundle, rootfs=request.rootfs, io=_io(stdio), pid=task.init.pid
        )
        self._tell(task, "create", payload)
        return api.CreateTaskResponse(container_id=container.id, pid=task.init.pid)

    async def _make(
        self,
        namespace: str,
        container: Container,
        chosen: KeeperRuntime | ShimRuntime,
        request: api.CreateTaskRequest,
        stdio: Stdio,
    ) -> Task:
        spec = container.spec.value if container.spec is not None else b""
        rootfs = fields.mounts(request.rootfs)
        checkpoint: Callable[[str], None] | None = None
        if request.HasField("checkpoint"):
            content, digest = self._table.of(namespace).content, request.checkpoint.digest

            def checkpoint(directory: str) -> None:
                checkpoints.load(content, digest, directory)

        if isinstance(chosen, ShimRuntime):
            return await self.shims.create(
                namespace,
                container.id,
                binary=chosen.binary,
                options=chosen.options,
                spec=spec,
                rootfs=rootfs,
                stdio=stdio,
                checkpoint=checkpoint,
            )
        return await self.processes.create(
            namespace,
            container.id,
            spec=runtime_objects.decoded(spec, "container spec"),
            rootfs=rootfs,
            stdio=stdio,
            runtime=chosen.binary,
            options=chosen.options,
            checkpoint=checkpoint,
        )

    async def start(self, call: Call, request: api.StartRequest) -> api.StartResponse:
        task = self._of(call, request)
        process = task.process(request.exec_id)
        try:
            await self._of_task(task).start(task, process)
        except (*_TOLD_AS_THEY_ARE, WrongState):
            raise
        except errors.Error as error:
            if isinstance(task, ShimTask):
                raise
            verb = "exec failed: exec" if request.exec_id else "start"
            raise _of_runtime(f"OCI runtime {verb} failed", error) from error
        if request.exec_id:
            payload: Any = told.TaskExecStarted(
                container_id=task.container_id, exec_id=request.exec_id, pid=process.pid
            )
            self._tell(task, "exec-started", payload)
        else:
            self._tell(task, "start", told.TaskStart(container_id=task.container_id, pid=process.pid))
        self._of_task(task).settle(task, process)
        return api.StartResponse(pid=process.pid)

    async def delete(self, call: Call, request: api.DeleteTaskRequest) -> api.DeleteResponse:
        task = self._of(call, request)
        ended = await self._of_task(task).delete(task)
        if not self._of_task(task).publishes:
            self._tell_delete(task, ended)
        return _deleted("", task.init, ended)

    async def delete_process(self, call: Call, request: api.DeleteProcessRequest) -> api.DeleteResponse:
        task = self._of(call, request)
        process = task.process(request.exec_id)
        return _deleted(request.exec_id, process, await self._of_task(task).delete_exec(task, process))

    async def get(self, call: Call, request: api.GetRequest) -> api.GetResponse:
        task = self._of(call, request)
        process = task.process(request.exec_id)
        await self._of_task(task).look(task, process)
        return api.GetResponse(process=_message(task, process))

    async def list(self, call: Call, request: api.ListTasksRequest) -> api.ListTasksResponse:
        found = await self._list(call.namespace)
        return api.ListTasksResponse(tasks=[_message(task, task.init) for task in found])

    async def kill(self, call: Call, request: api.KillRequest) -> empty_pb2.Empty:
        task = self._of(call, request)
        await self._of_task(task).kill(task, task.process(request.exec_id), request.signal, request.all)
        return empty_pb2.Empty()

    async def exec(self, call: Call, request: api.ExecProcessRequest) -> empty_pb2.Empty:
        if not request.exec_id:
            raise GRPCError(Status.INVALID_ARGUMENT, "exec id cannot be empty")
        task = self._of(call, request)
        stdio = Stdio(request.stdin, request.stdout, request.stderr, request.terminal)
        spec = Payload(request.spec.type_url, request.spec.value)
        await self._of_task(task).add_exec(task, request.exec_id, spec, stdio)
        self._tell(task, "exec-added", told.TaskExecAdded(container_id=task.container_id, exec_id=request.exec_id))
        return empty_pb2.Empty()

    async def resize_pty(self, call: Call, request: api.ResizePtyRequest) -> empty_pb2.Empty:
        task = self._of(call, request)
        process = task.process(request.exec_id)
        await self._of_task(task).resize(task, process, request.height, request.width)
        return empty_pb2.Empty()

    async def close_io(self, call: Call, request: api.CloseIORequest) -> empty_pb2.Empty:
        task = self._of(call, request)
        process = task.process(request.exec_id)
        if request.stdin:
            await self._of_task(task).close_stdin(task, process)
        return empty_pb2.Empty()

    async def pause(self, call: Call, request: api.PauseTaskRequest) -> empty_pb2.Empty:
        task = self._of(call, request)
        await self._of_task(task).pause(task)
        self._tell(task, "paused", told.TaskPaused(container_id=task.container_id))
        return empty_pb2.Empty()

    async def resume(self, call: Call, request: api.ResumeTaskRequest) -> empty_pb2.Empty:
        task = self._of(call, request)
        await self._of_task(task).resume(task)
        self._tell(task, "resumed", told.TaskResumed(container_id=task.container_id))
        return empty_pb2.Empty()

    async def checkpoint(self, call: Call, request: api.CheckpointTaskRequest) -> api.CheckpointTaskResponse:
        """The blobs that it has become; none when the client names a directory (image_path) for the images."""
        task = self._of(call, request)
        options = fields.payload(request.options)
        path = checkpoints.options_of(options).image_path
        if path:
            await self._save(task, path, options)
            return api.CheckpointTaskResponse()
        stores = self._table.of(call.namespace)
        spec = stores.containers.get(task.container_id).spec
        assert spec is not None

        def hold(ref: str, digest: str) -> None:
            if call.lease:
                stores.leases.add(call.lease, leasing.INGESTS if ref else leasing.CONTENT, ref or digest)

        images = await asyncio.to_thread(tempfile.mkdtemp, prefix="ctrd-checkpoint")
        try:
            await self._save(task, images, options)
            made = await asyncio.to_thread(checkpoints.store, stores.content, images, spec, hold)
        finally:
            await asyncio.to_thread(shutil.rmtree, images, ignore_errors=True)
        self._table.changed(call.namespace)
        return api.CheckpointTaskResponse(descriptors=[fields.descriptor_message(one) for one in made])

    async def _save(self, task: Task, path: str, options: Payload | None) -> None:
        try:
            await self._of_task(task).checkpoint(task, path, options)
        except (*_TOLD_AS_THEY_ARE, errors.InvalidArgument):
            raise
        except errors.Error as error:
            is_told = isinstance(task, ShimTask) or isinstance(error, WrongState)
            raise error if is_told else errors.Error(f"{error}: unknown") from error
        self._tell(task, "checkpointed", told.TaskCheckpointed(container_id=task.container_id, checkpoint=path))

    async def list_pids(self, call: Call, request: api.ListPidsRequest) -> api.ListPidsResponse:
        task = self._of(call, request)
        answer = api.ListPidsResponse()
        for pid, exec_id in await self._of_task(task).pids(task):
            one = answer.processes.add(pid=pid)
            if exec_id:
                one.info.CopyFrom(fields.packed(oci_pb2.ProcessDetails(exec_id=exec_id)))
        return answer

    async def update(self, call: Call, request: api.UpdateTaskRequest) -> empty_pb2.Empty:
        task = self._of(call, request)
        resources = Payload(request.resources.type_url, request.resources.value)
        await self._of_task(task).update(task, resources, dict(request.annotations))
        return empty_pb2.Empty()

    async def metrics(self, call: Call, request: api.MetricsRequest) -> api.MetricsResponse:
        wanted = filters.parse(request.filters)
        answer = api.MetricsResponse()
        found = [
            task
            for task in await self._list(call.namespace)
            if task.init.status in ("running", "paused") and wanted.matches(_fields(task))
        ]
        for task, stats in zip(found, await asyncio.gather(*map(self._stats, found)), strict=True):
            if stats is not None:
                answer.metrics.append(
                    metrics_pb2.Metric(timestamp=fields.timestamp(now()), id=task.container_id, data=stats)
                )
        return answer

    async def _stats(self, task: Task) -> Any:
        try:
            found = await self._of_task(task).stats(task)
        except (errors.NotFound, errors.Conflict, errors.Unavailable):
            return None  # it has ended meanwhile, or its shim hangs: the others' figures are still asked for
        if not isinstance(found, Payload):
            found = Payload(*cgroup_metrics.message(found))
        return fields.any_message(found)

    async def wait(self, call: Call, request: api.WaitRequest) -> api.WaitResponse:
        process = self._of(call, request).process(request.exec_id)
        await process.exited.wait()
        if process.exit is None:
            return api.WaitResponse(exit_status=255, exited_at=fields.timestamp(now()))
        return api.WaitResponse(exit_status=process.exit.status, exited_at=fields.timestamp(process.exit.exited_at))

    def _of(self, call: Call, request: Any) -> Task:
        task = self._find(call.namespace, request.container_id)
        if task is None:
            self._table.of(call.namespace).containers.get(request.container_id)
            raise GRPCError(Status.NOT_FOUND, f"task {request.container_id} not found")
        return task

    def _find(self, namespace: str, container_id: str) -> Task | None:
        return self.processes.find(namespace, container_id) or self.shims.find(namespace, container_id)

    def _of_task(self, task: Task) -> Runner:
        return self.shims if isinstance(task, ShimTask) else self.processes

    async def _list(self, namespace: str) -> Sequence[Task]:
        return [*await self.processes.list(namespace), *await self.shims.list(namespace)]

    def _tell(self, task: Task, verb: str, message: Any) -> None:
        """What a shim tells itself is not told again; of a dead one only its end is, in `_tell_exit` and on."""
        if not self._of_task(task).publishes:
            self._publish(task, verb, message)

    def _publish(self, task: Task, verb: str, message: Any) -> None:
        publish(self._table.events, task.namespace, f"/tasks/{verb}", message)

    def _tell_exit(self, task: Task, process: Process) -> None:
        assert process.exit is not None
        payload = told.TaskExit(
            container_id=task.container_id,
            id=process.exec_id or task.container_id,
            pid=process.pid,
            exit_status=process.exit.status,
            exited_at=fields.timestamp(process.exit.exited_at),
        )
        self._publish(task, "exit", payload)

    def _tell_delete(self, task: Task, ended: TaskExit) -> None:
        payload = told.TaskDelete(
            container_id=task.container_id,
            pid=task.init.pid,
            exit_status=ended.status,
            exited_at=fields.timestamp(ended.exited_at),
        )
        self._publish(task, "delete", payload)

    def _tell_out_of_memory(self, task: Task) -> None:
        self._tell(task, "oom", told.TaskOOM(container_id=task.container_id))


def _failed_create(chosen: KeeperRuntime | ShimRuntime, error: errors.Error) -> errors.Error:
    """In the words that a client of containerd sees; a shim has wrapped its runtime's text itself."""
    if isinstance(error, StdioError):
        return errors.Error(f"failed to create shim task: {error}: unknown")
    if isinstance(chosen, KeeperRuntime):
        return _of_runtime("failed to create shim task: OCI runtime create failed: runc create failed", error)
    text = str(error)
    return error if text.startswith("failed to ") else type(error)(f"failed to create shim task: {text}")


def _of_runtime(prefix: str, error: errors.Error) -> errors.Error:
    """The runtime's text as a shim of containerd's wraps it; the kind does not come through there."""
    if isinstance(error, StdioError):
        return errors.Error(f"{error}: unknown")
    text = str(error).removesuffix(": invalid argument")
    # Another runtime than ours begins with the last words of the prefix itself.
    text = text.removeprefix(prefix.rpartition(": ")[2] + ": ")
    return errors.Error(f"{prefix}: {text}: unknown")


def _fields(task: Task) -> filters.Fields:
    named = {"id": task.container_id, "namespace": task.namespace}
    return lambda path: named.get(path[0])


def _io(stdio: Stdio) -> told.TaskIO:
    return told.TaskIO(stdin=stdio.stdin, stdout=stdio.stdout, stderr=stdio.stderr, terminal=stdio.terminal)


def _message(task: Task, process: Process) -> task_pb2.Process:
    message = task_pb2.Process(
        id=process.exec_id or task.container_id,
        pid=process.pid,
        status=_STATUS[process.status],
        stdin=process.stdio.stdin,
        stdout=process.stdio.stdout,
        stderr=process.stdio.stderr,
        terminal=process.stdio.terminal,
    )
    message.exited_at.CopyFrom(_NEVER)
    if process.exit is not None:
        message.exit_status = process.exit.status
        message.exited_at.CopyFrom(fields.timestamp(process.exit.exited_at))
    return message


def _deleted(name: str, process: Process, ended: TaskExit | None) -> api.DeleteResponse:
    """`name` is "" for the task's own process, as in containerd."""
    answer = api.DeleteResponse(id=name, pid=process.pid, exited_at=_NEVER)
    if ended is not None:
        answer.exit_status = ended.status
        answer.exited_at.CopyFrom(fields.timestamp(ended.exited_at))
    return answer
