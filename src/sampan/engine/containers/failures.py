"""A start that failed: Docker's texts and exit codes for it, and what becomes of the container."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from sampan.engine.containers.live import Live
from sampan.engine.containers.model import Container
from sampan.errors import Error, InvalidArgument

if TYPE_CHECKING:
    from sampan.engine.containers.room import Room

_CREATE = "failed to create task for container: failed to create shim task: OCI runtime create failed: "

# (a part of the runtime's text, exit code): the table by which dockerd and its CLI tell 127 and 126.
_EXIT_CODES = (
    ("executable file not found", 127),
    ("no such file or directory", 127),
    ("system cannot find the file specified", 127),
    ("permission denied", 126),
    ("is a directory", 126),
    ("not a directory", 126),
    ("exec format error", 126),
)


def exit_code(text: str) -> int:
    """127 command not found, 126 not executable, 128 anything else."""
    lowered = text.lower()
    return next((code for part, code in _EXIT_CODES if part in lowered), 128)


def from_runtime(record: Container, error: Exception, *, restoring: bool = False) -> Error:
    """The runtime's failure in the words that dockerd relays. InvalidArgument (HTTP 400) when the command is at fault,
    which is what dockerd answers for 126 and 127."""
    text = str(error)
    if isinstance(error, OSError):
        text = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    if restoring:
        return Error(f"OCI runtime restore failed: {text}: unknown")
    text = runtime_text(text)
    kind = InvalidArgument if exit_code(text) != 128 else Error
    return kind(text)


def runtime_text(text: str) -> str:
    """`text` with the prefixes of dockerd, its shim and runc, each once."""
    if text.startswith("failed to create task"):
        return text
    if text.startswith("exec:"):
        text = "unable to start container process: error during container init: " + text
    if not text.startswith(("runc ", "crun ", "OCI runtime", "container_linux.go")):
        text = "runc create failed: " + text
    return f"{_CREATE}{text.removeprefix('OCI runtime create failed: ')}: unknown"


def exec_text(text: str) -> str:
    """The same for an exec."""
    if text.startswith("OCI runtime exec failed"):
        return text
    if text.startswith("exec:"):
        text = "unable to start container process: " + text
    if not text.startswith("exec failed"):
        text = "exec failed: " + text
    return f"OCI runtime exec failed: {text}: unknown"


def drop_attachments(live: Live) -> None:
    """Streams that waited for a task which never came end."""
    waiting, live.attachments = live.attachments, []
    for attachment in waiting:
        attachment.fail(Error("the container did not start"))


async def start_failed(room: Room, record: Container, live: Live, error: Exception) -> None:
    """Write the failure into the record; remove the container when it was to be removed anyway (--rm)."""
    from sampan.engine.containers import rm

    if room.store.find(record.id) is None:
        return
    text = str(error)
    code = exit_code(text) if isinstance(error, Error) else 128
    status = "exited" if record.status == "restarting" else record.status
    record = room.store.put(
        msgspec.structs.replace(record, status=status, error=text, exit_code=code, pid=0, finished_at=time.time_ns())
    )
    live.exited.set()
    live.move()
    if record.host_config.auto_remove:
        await rm.remove_record(room, record, live, volumes=True, exit_code=code)
    else:
        live.answer(code)
