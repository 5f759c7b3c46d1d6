"""A task of our runtime whose first process is not executed but restored: from a checkpoint's images, at its start.

keeper --fork--> child --fork--> criu --revives--> first process, a child of our child
                 child saves the state and ends;    the first process is ours, since we are the subreaper
"""

from __future__ import annotations

import os

from sampan import errors
from sampan.keeper.aside import aside
from sampan.keeper.reaper import LOST
from sampan.linux import procfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.keeper.native import Native
    from sampan.keeper.task import Done, Task


def restore(driver: Native, task: Task, owner: tuple[int, int], done: Done) -> None:
    """`owner` is (uid, gid) of the pipes. A failure comes through `done`, and the task is stopped then."""
    streams = task.init.streams
    stdio = None if streams.terminal else streams.open_pipes(*owner)
    driver.reaper.expecting += 1

    def restored(error: Exception | None, fds: list[int]) -> None:
        streams.close_child()
        if error is None:
            error = _find(driver, task)
        for fd in fds:
            streams.console(fd)
        driver.reaper.expecting -= 1
        if error is not None:
            driver.exited(task.init, LOST)
        done(error, {})

    systemd = bool(task.options.get("systemd_cgroup"))
    name, bundle, root, rootfs, images = task.name, task.bundle, task.root, task.rootfs, task.checkpoint
    aside(
        driver.reaper,
        lambda: driver.runtime.restore(name, bundle, root, rootfs, stdio, images, systemd),
        restored,
        stdio or (),
    )


def _find(driver: Native, task: Task) -> Exception | None:
    """Take hold of what the child has left."""
    task.state = driver.runtime.load(task.root, task.name)
    if task.state is None:
        return errors.Error("nothing has been restored")
    child = task.init
    child.pid = task.state["init_process_pid"]
    status = driver.reaper.take_orphan(child.pid)
    if status is not None:
        # Already ended and reaped, before anybody knew that it was this one.
        ended = status
        driver.loop.when_idle(lambda: driver.exited(child, ended))
        return None
    try:
        child.pidfd = os.pidfd_open(child.pid)
    except ProcessLookupError as error:
        return errors.Error(f"process {child.pid} is gone: {error}")
    try:
        # While somebody holds the mount namespace, its exit does not have to unmount it first.
        task.mntns = procfs.open_namespace(child.pid, "mount")
    except OSError:
        pass  # it has ended already, and is about to be reaped
    driver.reaper.watch(child.pid, child.pidfd, lambda status: _gone(driver, task, status))
    return None


def _gone(driver: Native, task: Task, status: int) -> None:
    driver.end_rest(task, task.state)
    driver.exited(task.init, status)
