"""What runs the tasks of containerd's clients: the keeper (`processes.Processes`) or shims (`shims.tasks.ShimTasks`).

A task is made by `create` of the one that `runtimes.choose` names, and belongs to it from then on: all that is asked of
the task goes to that one. Both hold the same records, `client_tasks.Task` and `client_tasks.Process`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sampan.containerd.client_tasks import Process, Stdio
from sampan.containerd.containers import Payload
from sampan.containerd.services import TaskExit


class Runner(Protocol):
    """`task` is one that its own `create` made. Errors are the runtime's, in its words, unless said otherwise.

    `publishes`: the task events come from the other side (a shim's), and are not to be told again."""

    publishes: bool

    async def start(self, task: Any, process: Process) -> None:
        """execve. Conflict unless it is created."""

    def settle(self, task: Any, process: Process) -> None:
        """To be called once the start has been told: an exit that came meanwhile follows."""

    async def add_exec(self, task: Any, exec_id: str, spec: Payload, stdio: Stdio) -> None:
        """Note what to run; `start` runs it. AlreadyExists, InvalidArgument; Error when the task does not run."""

    async def delete(self, task: Any) -> TaskExit:
        """Forget a stopped task, or one that was never started. Conflict while it runs."""

    async def delete_exec(self, task: Any, process: Process) -> TaskExit | None:
        """Forget a stopped exec; None for one that was never started. Conflict while it runs."""

    async def kill(self, task: Any, process: Process, signal: int, every: bool) -> None:
        """NotFound once it has ended."""

    async def pause(self, task: Any) -> None: ...

    async def resume(self, task: Any) -> None: ...

    async def checkpoint(self, task: Any, path: str, options: Payload | None) -> None:
        """Write CRIU's images to the directory `path`; `options` are `containerd.runc.v1.CheckpointOptions`."""

    async def resize(self, task: Any, process: Process, height: int, width: int) -> None: ...

    async def close_stdin(self, task: Any, process: Process) -> None: ...

    async def pids(self, task: Any) -> Sequence[tuple[int, str]]:
        """(pid, exec id or "") of each process."""

    async def update(self, task: Any, resources: Payload, annotations: Mapping[str, str]) -> None:
        """Set runtime-spec `linux.resources`, JSON in an Any. InvalidArgument."""

    async def stats(self, task: Any) -> Mapping[str, Any] | Payload:
        """runc's `events --stats` data, or a message that is ready to be passed on."""

    async def look(self, task: Any, process: Process) -> None:
        """Bring status, pid and exit of a process up to date; "unknown" when nobody answers in time."""
