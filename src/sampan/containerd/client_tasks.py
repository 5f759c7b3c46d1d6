"""Tasks and their processes as containerd's clients name them: the records that every runner holds (`runners`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sampan import errors
from sampan.containerd.fifos import StdinFeed
from sampan.containerd.services import TaskExit


@dataclass(frozen=True, slots=True)
class Stdio:
    """Paths or URIs as the client gave them, "" for none."""

    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    terminal: bool = False


class WrongState(errors.Error):
    """A verb that a process's status does not allow. Of no finer kind, since a shim's errors lose theirs on the way."""

    def __init__(self, verb: str, status: str, what: str = "process") -> None:
        super().__init__(f"cannot {verb} a {status} {what}: unknown")


@dataclass(slots=True, eq=False)
class Process:
    """The task's own process (`exec_id` "") or an exec. `status`: created, running, paused, stopped."""

    exec_id: str
    stdio: Stdio
    pid: int = 0
    status: str = "created"
    exit: TaskExit | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    feed: StdinFeed | None = None
    exited: asyncio.Event = field(default_factory=asyncio.Event)
    # By FIFO: set when all that was written to it has been read.
    outputs: dict[str, asyncio.Event] = field(default_factory=dict)
    # Its exit may be heard before its start is answered; clients are told in the other order.
    starting: bool = False


@dataclass(slots=True, eq=False)
class Task:
    """`key` is its id at the keeper."""

    namespace: str
    container_id: str
    key: str
    bundle: str
    init: Process
    execs: dict[str, Process] = field(default_factory=dict)
    # Whether clients have been told of it: what ends before is told to nobody.
    announced: bool = True

    def process(self, exec_id: str) -> Process:
        """NotFound."""
        if not exec_id:
            return self.init
        if exec_id not in self.execs:
            raise errors.NotFound(f"process does not exist {exec_id}: not found")
        return self.execs[exec_id]
