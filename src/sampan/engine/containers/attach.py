"""POST /containers/{id}/attach: a client's streams, joined to a task that runs or that is still to come."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass

from sampan.engine.containers.live import Attachment
from sampan.engine.containers.model import Container
from sampan.engine.containers.room import Room
from sampan.errors import Conflict, Error


@dataclass(slots=True)
class Streams:
    """The client's ends. `stdout` and `stderr` are non-blocking read ends (None: not wanted, or all on stdout for a
    terminal); `stdin` becomes the fd to write input to once the task exists. The holder closes what it takes."""

    tty: bool
    stdout: int | None
    stderr: int | None
    stdin: asyncio.Future[int | None] | None
    stdin_once: bool

    def close(self) -> None:
        for fd in (self.stdout, self.stderr):
            if fd is not None:
                os.close(fd)
        self.stdout = self.stderr = None
        if self.stdin is not None:
            self.stdin.add_done_callback(_close_input)
            self.stdin = None


def _close_input(future: asyncio.Future[int | None]) -> None:
    if not future.cancelled() and future.exception() is None:
        fd = future.result()
        if fd is not None:
            os.close(fd)


async def attach(room: Room, reference: str, *, stdin: bool, stdout: bool, stderr: bool) -> Streams:
    """NotFound; Conflict when it is paused or about to restart. Before a start, what comes is not lost."""
    record = room.store.get(reference)
    if record.status == "paused":
        raise Conflict(f"container {record.id} is paused, unpause the container before attach")
    if record.status == "restarting":
        raise Conflict(f"container {record.id} is restarting, wait until the container is running")
    stdin = stdin and record.config.open_stdin
    read_out, write_out = open_pipe(stdout or (record.config.tty and stderr))
    read_err, write_err = open_pipe(stderr and not record.config.tty)
    loop = asyncio.get_running_loop()
    attachment = Attachment(write_out, write_err, stdin, loop.create_future())
    streams = Streams(
        tty=record.config.tty,
        stdout=read_out,
        stderr=read_err,
        stdin=attachment.stdin if stdin else None,
        stdin_once=record.config.stdin_once,
    )
    await _join(room, record, attachment)
    room.publish(record, "attach")
    return streams


async def _join(room: Room, record: Container, attachment: Attachment) -> None:
    live = room.live.of(record.id)
    if not record.has_task:
        # The start that is under way, or the next one, takes it up.
        live.attachments.append(attachment)
        return
    try:
        stdin = await room.core.tasks.attach(
            record.id, stdout=attachment.stdout, stderr=attachment.stderr, stdin=attachment.wants_stdin
        )
    except Exception as error:
        attachment.fail(error)
        raise
    attachment.handed_over(stdin)


def open_pipe(wanted: bool) -> tuple[int | None, int | None]:
    """(read end, not blocking; write end), both close-on-exec."""
    if not wanted:
        return None, None
    read, write = os.pipe()
    os.set_blocking(read, False)
    return read, write


async def close_stdin(room: Room, container_id: str, exec_id: str = "") -> None:
    """The client's input has ended. Whatever the task says: it may have ended too."""
    with suppress(Error):
        await room.core.tasks.close_stdin(container_id, exec_id)


__all__ = ["Streams", "attach", "close_stdin", "open_pipe"]
