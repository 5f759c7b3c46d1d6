"""containerd.services.tasks.v1."""

from __future__ import annotations

import json
import shutil
from typing import Any

from google.protobuf import empty_pb2

from sampan import errors
from sampan.api.containerd.events import task_pb2 as told
from sampan.api.containerd.services.tasks.v1 import tasks_pb2 as api
from sampan.api.containerd.types import metrics_pb2
from sampan.api.containerd.types.runc.options import oci_pb2
from sampan.api.containerd.types.task import task_pb2
from sampan.containerd import filters
from sampan.containerd.containers import Container
from sampan.containerd.grpc import fields, metrics
from sampan.containerd.grpc.publishing import publish
from sampan.containerd.grpc.server import Call
from sampan.containerd.metadata import now
from sampan.containerd.processes import Process, Processes, Stdio, Task
from sampan.containerd.services import TaskExit
from sampan.containerd.stores import StoreTable

# Both names mean our keeper; the options say with which runtime.
RUNTIMES = ("io.containerd.runc.v2", "io.containerd.sampan.v2")
_OWN_BINARIES = ("", "sampan", "sampan-runc")
_STATUS = {
    "created": task_pb2.CREATED,
    "running": task_pb2.RUNNING,
    "paused": task_pb2.PAUSED,
    "stopped": task_pb2.STOPPED,
}


class TasksService:
    """Checkpoint is left out."""

    descriptor = api.DESCRIPTOR.services_by_name["Tasks"]

    def __init__(self, table: StoreTable, state: str) -> None:
        self._table = table
        self._tasks = table.core.tasks
        self.processes = Processes(self._tasks, state, exited=self._tell_exit, out_of_memory=self._tell_out_of_memory)

    async def create(self, call: Call, request: api.CreateTaskRequest) -> api.CreateTaskResponse:
        container = self._table.of(call.namespace).containers.get(request.container_id)
        if request.HasField("checkpoint"):
            raise errors.Unimplemented("create from a checkpoint: not implemented")
        assert container.spec is not None
        stdio = Stdio(request.stdin, request.stdout, request.stderr, request.terminal)
        spec, runtime = _document(container.spec.value, "container spec"), _runtime(container, request)
        rootfs = fields.mounts(request.rootfs)
        try:
            task = await self.processes.create(
                call.namespace, container.id, spec=spec, rootfs=rootfs, stdio=stdio, runtime=runtime
            )
        except (errors.AlreadyExists, errors.Unavailable, errors.Unimplemented):
            raise
        except errors.Error as error:
            raise _of_runtime(
                "failed to create shim task: OCI runtime create failed: runc create failed", error
            ) from error
        payload = told.TaskCreate(
            container_id=container.id, bundle=task.bundle, rootfs=request.rootfs, io=_io(stdio), pid=task.init.pid
        )
        self._tell(task, "create", payload)
        return api.CreateTaskResponse(container_id=container.id, pid=task.init.pid)

    async def start(self, call: Call, request: api.StartRequest) -> api.StartResponse:
        task = self._of(call, request)
        process = task.process(request.exec_id)
        try:
            await self.processes.start(task, process)
        except (errors.Conflict, errors.NotFound, errors.AlreadyExists, errors.Unavailable, errors.Unimplemented):
            raise
        except errors.Error as error:
            verb = "exec failed: exec" if request.exec_id else "start"
            raise _of_runtime(f"OCI runtime {verb} failed", error) from error
        if request.exec_id:
            payload: Any = told.TaskExecStarted(
                container_id=task.container_id, exec_id=request.exec_id, pid=process.pid
            )
            self._tell(task, "exec-started", payload)
        else:
            self._tell(task, "start", told.TaskStart(container_id=task.container_id, pid=process.pid))
        self.processes.settle(task, process)
        return api.StartResponse(pid=process.pid)

    async def delete(self, call: Call, request: api.DeleteTaskRequest) -> api.DeleteResponse:
        task = self._of(call, request)
        ended = await self.processes.delete(task)
        payload = told.TaskDelete(
            container_id=task.container_id,
            pid=task.init.pid,
            exit_status=ended.status,
            exited_at=fields.timestamp(ended.exited_at),
        )
        self._tell(task, "delete", payload)
        return _deleted(task.container_id, task.init, ended)

    async def delete_process(self, call: Call, request: api.DeleteProcessRequest) -> api.DeleteResponse:
        task = self._of(call, request)
        process = self.processes.delete_exec(task, task.process(request.exec_id))
        return _deleted(request.exec_id, process, process.exit)

    async def get(self, call: Call, request: api.GetRequest) -> api.GetResponse:
        task = self._of(call, request)
        return api.GetResponse(process=_message(task, task.process(request.exec_id)))

    async def list(self, call: Call, request: api.ListTasksRequest) -> api.ListTasksResponse:
        found = self.processes.list(call.namespace)
        return api.ListTasksResponse(tasks=[_message(task, task.init) for task in found])

    async def kill(self, call: Call, request: api.KillRequest) -> empty_pb2.Empty:
        task = self._of(call, request)
        await self.processes.kill(task, task.process(request.exec_id), request.signal, request.all)
        return empty_pb2.Empty()

    async def exec(self, call: Call, request: api.ExecProcessRequest) -> empty_pb2.Empty:
        task = self._of(call, request)
        stdio = Stdio(request.stdin, request.stdout, request.stderr, request.terminal)
        spec = _document(request.spec.value, "process spec")
        self.processes.add_exec(task, request.exec_id, spec, stdio)
        self._tell(task, "exec-added", told.TaskExecAdded(container_id=task.container_id, exec_id=request.exec_id))
        return empty_pb2.Empty()

    async def resize_pty(self, call: Call, request: api.ResizePtyRequest) -> empty_pb2.Empty:
        task = self._of(call, request)
        if task.process(request.exec_id).status == "stopped":
            raise errors.Error("cannot resize a stopped container: unknown")
        await self._tasks.resize(task.key, request.exec_id, request.height, request.width)
        return empty_pb2.Empty()

    async def close_io(self, call: Call, request: api.CloseIORequest) -> empty_pb2.Empty:
        process = self._of(call, request).process(request.exec_id)
        if request.stdin:
            self.processes.close_stdin(process)
        return empty_pb2.Empty()

    async def pause(self, call: Call, request: api.PauseTaskRequest) -> empty_pb2.Empty:
        task = self._of(call, request)
        await self.processes.pause(task)
        self._tell(task, "paused", told.TaskPaused(container_id=task.container_id))
        return empty_pb2.Empty()

    async def resume(self, call: Call, request: api.ResumeTaskRequest) -> empty_pb2.Empty:
        task = self._of(call, request)
        await self.processes.resume(task)
        self._tell(task, "resumed", told.TaskResumed(container_id=task.container_id))
        return empty_pb2.Empty()

    async def list_pids(self, call: Call, request: api.ListPidsRequest) -> api.ListPidsResponse:
        task = self._of(call, request)
        execs = {process.pid: process.exec_id for process in task.execs.values()}
        answer = api.ListPidsResponse()
        for pid in await self._tasks.pids(task.key):
            one = answer.processes.add(pid=pid)
            if pid in execs:
                one.info.CopyFrom(fields.packed(oci_pb2.ProcessDetails(exec_id=execs[pid])))
        return answer

    async def update(self, call: Call, request: api.UpdateTaskRequest) -> empty_pb2.Empty:
        task = self._of(call, request)
        await self._tasks.update(task.key, _document(request.resources.value, "resources"))
        return empty_pb2.Empty()

    async def metrics(self, call: Call, request: api.MetricsRequest) -> api.MetricsResponse:
        wanted = filters.parse(request.filters)
        answer = api.MetricsResponse()
        for task in self.processes.list(call.namespace):
            if task.init.status not in ("running", "paused") or not wanted.matches(_fields(task)):
                continue
            found = metrics.message(await self._tasks.stats(task.key))
            answer.metrics.append(
                metrics_pb2.Metric(timestamp=fields.timestamp(now()), id=task.container_id, data=fields.packed(found))
            )
        return answer

    async def wait(self, call: Call, request: api.WaitRequest) -> api.WaitResponse:
        process = self._of(call, request).process(request.exec_id)
        await process.exited.wait()
        if process.exit is None:
            return api.WaitResponse(exit_status=255, exited_at=fields.timestamp(now()))
        return api.WaitResponse(exit_status=process.exit.status, exited_at=fields.timestamp(process.exit.exited_at))

    def _of(self, call: Call, request: Any) -> Task:
        return self.processes.get(call.namespace, request.container_id)

    def _tell(self, task: Task, verb: str, message: Any) -> None:
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
        self._tell(task, "exit", payload)

    def _tell_out_of_memory(self, task: Task) -> None:
        self._tell(task, "oom", told.TaskOOM(container_id=task.container_id))


def _of_runtime(prefix: str, error: errors.Error) -> errors.Error:
    """The runtime's text as a shim of containerd's wraps it; the kind does not come through there."""
    return errors.Error(f"{prefix}: {str(error).removesuffix(': invalid argument')}: unknown")


def _fields(task: Task) -> filters.Fields:
    named = {"id": task.container_id, "namespace": task.namespace}
    return lambda path: named.get(path[0])


def _runtime(container: Container, request: api.CreateTaskRequest) -> str:
    """The path of a runtime's binary, "" for ours. Error for a runtime or binary that is not there."""
    name = container.runtime
    if name not in RUNTIMES:
        shim = "containerd-shim-" + "-".join(name.split(".")[-2:])
        raise errors.Error(
            "failed to start shim: failed to resolve runtime path:"
            f' runtime "{name}" binary not installed "{shim}": file does not exist: unknown'
        )
    options = fields.payload(request.options) or container.options
    if options is None or not options.type_url.endswith("containerd.runc.v1.Options"):
        return ""
    binary: str = oci_pb2.Options.FromString(options.value).binary_name
    if binary in _OWN_BINARIES:
        return ""
    found = shutil.which(binary)
    if found is None:
        raise errors.Error(f'OCI runtime create failed: unable to retrieve OCI runtime error: exec: "{binary}":'
                           " executable file not found in $PATH: unknown")  # fmt: skip
    return found


def _document(value: bytes, what: str) -> dict[str, Any]:
    """Runtime-spec objects travel as JSON inside an Any."""
    try:
        document = json.loads(value)
    except ValueError as error:
        raise errors.InvalidArgument(f"invalid {what}: {error}: invalid argument") from error
    if not isinstance(document, dict):
        raise errors.InvalidArgument(f"invalid {what}: not an object: invalid argument")
    return document


def _io(stdio: Stdio) -> told.TaskIO:
    return told.TaskIO(stdin=stdio.stdin, stdout=stdio.stdout, stderr=stdio.stderr, terminal=stdio.terminal)


def _message(task: Task, process: Process) -> task_pb2.Process:
    message = task_pb2.Process(
        container_id=task.container_id,
        id=process.exec_id or task.container_id,
        pid=process.pid,
        status=_STATUS[process.status],
        stdin=process.stdio.stdin,
        stdout=process.stdio.stdout,
        stderr=process.stdio.stderr,
        terminal=process.stdio.terminal,
    )
    if process.exit is not None:
        message.exit_status = process.exit.status
        message.exited_at.CopyFrom(fields.timestamp(process.exit.exited_at))
    return message


def _deleted(name: str, process: Process, ended: TaskExit | None) -> api.DeleteResponse:
    answer = api.DeleteResponse(id=name, pid=process.pid)
    if ended is not None:
        answer.exit_status = ended.status
        answer.exited_at.CopyFrom(fields.timestamp(ended.exited_at))
    return answer
