"""Live handles of containers: locks, waiters, streams that wait for a task, timers. Nothing here survives a restart.

Keyed by container id; an entry is made at first use and dropped when the container is removed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from sampan.containerd.services import TaskExit

Condition = Literal["not-running", "next-exit", "removed"]


@dataclass(slots=True)
class Attachment:
    """Streams that a client opened before the task exists: handed over between `tasks.create` and `tasks.start`.

    `stdout` and `stderr` are write ends that `start` passes on and closes; `stdin` is answered with the fd to write
    input to, or an exception when the start failed."""

    stdout: int | None
    stderr: int | None
    wants_stdin: bool
    stdin: asyncio.Future[int | None]

    def handed_over(self, stdin: int | None) -> None:
        self._close()
        if not self.stdin.done():
            self.stdin.set_result(stdin)
        elif stdin is not None:
            os.close(stdin)

    def fail(self, error: Exception) -> None:
        self._close()
        if not self.stdin.done():
            self.stdin.set_exception(error)
            # Retrieved here: the client may have gone and nobody asks again.
            self.stdin.exception()

    def _close(self) -> None:
        for fd in (self.stdout, self.stderr):
            if fd is not None:
                os.close(fd)
        self.stdout = self.stderr = None


@dataclass(slots=True)
class Live:
    """`starting` is true between `tasks.create` and the commit of "running"; an exit in between waits in
    `early_exit`. `exited` is set while no task runs. `stopping`: a stop or kill asked for this exit, so a restart
    policy must not undo it. `moved` is set at the next change of state."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiters: list[tuple[Condition, asyncio.Future[tuple[int, str]]]] = field(default_factory=list)
    exited: asyncio.Event = field(default_factory=asyncio.Event)
    attachments: list[Attachment] = field(default_factory=list)
    execs: set[str] = field(default_factory=set)
    starting: bool = False
    early_exit: TaskExit | None = None
    stopping: bool = False
    removing: bool = False
    restart_delay: float = 0.0
    restart_timer: asyncio.TimerHandle | None = None
    teardown: asyncio.Task[None] | None = None
    health: asyncio.Task[None] | None = None
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    def move(self) -> None:
        """Wake everybody who waits for the next change of state; `moved` is a new event from then on."""
        self.moved.set()
        self.moved = asyncio.Event()

    def answer(self, status: int, error: str = "", *, removed: bool = False) -> None:
        """Give every waiter whose condition is met its result."""
        for condition, future in self.waiters:
            # Answered ones are taken off the list by `forget`.
            if (condition != "removed" or removed) and not future.done():
                future.set_result((status, error))

    def forget(self, future: asyncio.Future[tuple[int, str]]) -> None:
        """Take an answered or abandoned waiter off the list."""
        self.waiters = [waiter for waiter in self.waiters if waiter[1] is not future]


class LiveTable:
    def __init__(self) -> None:
        self._entries: dict[str, Live] = {}
        self._background: set[asyncio.Task[None]] = set()

    def of(self, container_id: str) -> Live:
        entry = self._entries.get(container_id)
        if entry is None:
            entry = self._entries[container_id] = Live()
        return entry

    def drop(self, container_id: str) -> None:
        self._entries.pop(container_id, None)

    def __iter__(self) -> Iterator[tuple[str, Live]]:
        return iter(list(self._entries.items()))

    def keep(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Hold a background task until it ends: the loop itself keeps only weak references."""
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def settle(self) -> None:
        """Wait for every teardown that is under way: what they hold (ports, addresses) is free afterwards."""
        while pending := [task for task in self._background if task is not asyncio.current_task()]:
            await asyncio.wait(pending)
