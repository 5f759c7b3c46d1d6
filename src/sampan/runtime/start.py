"""The verb `start`: let a created container's first process execute its program."""

from __future__ import annotations

import errno
import os

from sampan.errors import Conflict, Error
from sampan.runtime import document, hooks, state
from sampan.runtime.kill import kill_and_wait
from sampan.runtime.steps.situation import StepFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.runtime.notify import Notices


def start(root: str, found: dict[str, Any]) -> None:
    """Errors: Conflict with runc's texts; Error when a poststart hook fails (the container is killed then)."""
    now = state.status(root, found)
    if now == "stopped":
        raise Conflict("cannot start a container that has stopped")
    if now == "paused":
        raise Conflict("cannot start a container in the paused state")
    if now != "created":
        raise Conflict("cannot start an already running container")
    folder = state.directory(root, found["id"])
    path = f"{folder}/{state.FIFO}"
    notices = _notices(folder)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            raise Conflict("cannot start an already running container") from None
        raise
    try:
        # Gone before it is written to: who comes second finds no pipe, and so is told that it runs already.
        os.unlink(path)
        os.write(fd, b"0")
        wanted = found["spec"].get("hooks", {}).get("poststart", [])
        if wanted:
            _await_execve(fd)
    except FileNotFoundError:
        raise Conflict("cannot start an already running container") from None
    finally:
        os.close(fd)
    for index, hook in enumerate(wanted):
        try:
            hooks.run(hook, "poststart", index, document.text_of(state.oci_state(found, "running")), {})
        except StepFailed as failure:
            kill_and_wait(found)
            raise Error(str(failure)) from None
    if notices:
        from sampan.linux import process

        try:
            pidfd = process.pidfd_open(found["init_process_pid"])
        except ProcessLookupError:
            return  # it has ended and been reaped already
        notices.wait(found["init_process_pid"], pidfd)


def _await_execve(fifo: int) -> None:
    """Wait until nobody reads from the pipe any more: init had it open until its execve, or its end."""
    import select

    poller = select.poll()
    poller.register(fifo, 0)  # POLLERR comes unasked
    poller.poll()


def _notices(folder: str) -> Notices | None:
    """Our end of the container's way to a supervisor, where it was made with one and we have one."""
    target = os.environ.get("NOTIFY_SOCKET", "")
    if not target or not os.path.isdir(f"{folder}/notify"):
        return None
    from sampan.runtime import notify

    return notify.Notices(folder, target)
