"""One task behind a shim: its record, and how the shim is called."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import any_pb2

from sampan import errors
from sampan.api.containerd.types.runc.options import oci_pb2
from sampan.api.containerd.types.task import task_pb2
from sampan.containerd.client_tasks import Process, Task
from sampan.containerd.containers import Payload
from sampan.containerd.services import TaskExit
from sampan.containerd.shims import connection
from sampan.containerd.shims.bundle import Bundle, Endpoint
from sampan.containerd.shims.voice import Voice

STATUS = {
    task_pb2.UNKNOWN: "unknown",
    task_pb2.CREATED: "created",
    task_pb2.RUNNING: "running",
    task_pb2.STOPPED: "stopped",
    task_pb2.PAUSED: "paused",
    task_pb2.PAUSING: "pausing",
}


@dataclass(slots=True, eq=False)
class ShimTask(Task):
    """A task whose shim is called by `call`."""

    place: Bundle | None = None
    endpoint: Endpoint | None = None
    connection: connection.Connection | None = None
    voice: Voice | None = None
    waits: set[asyncio.Task[None]] = field(default_factory=set)

    async def call(self, method: str, request: Any, answer: Any = None, *, within: float = 0) -> Any:
        """One method of the shim's Task service; its answer as a message of type `answer`. The shim's error."""
        if self.connection is None or self.endpoint is None:
            raise errors.Unavailable(f"shim of task {self.container_id} does not answer: unavailable")
        payload = await self.connection.call(
            f"containerd.task.v{self.endpoint.version}.Task",
            method,
            request.SerializeToString(),
            within=within,
            metadata={"containerd-namespace-ttrpc": self.namespace},
        )
        return None if answer is None else answer.FromString(payload)

    def hang_up(self) -> None:
        """Let go of the shim."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None
        if self.voice is not None:
            self.voice.close()
            self.voice = None

    def ended(self, process: Process, found: Any) -> TaskExit:
        """The end of a process in any answer that has `exit_status` and `exited_at`."""
        at = found.exited_at.seconds * 10**9 + found.exited_at.nanos
        pid = getattr(found, "pid", 0) or process.pid
        return TaskExit(self.container_id, process.exec_id, pid, found.exit_status, at)


def any_of(payload: Payload | None) -> any_pb2.Any | None:
    return None if payload is None else any_pb2.Any(type_url=payload.type_url, value=payload.value)


def exec_id_of(info: any_pb2.Any) -> str:
    """Of a process in the answer to `Pids`; "" for one that is no exec's own."""
    if not info.type_url.endswith("containerd.runc.v1.ProcessDetails"):
        return ""
    return str(oci_pb2.ProcessDetails.FromString(info.value).exec_id)
