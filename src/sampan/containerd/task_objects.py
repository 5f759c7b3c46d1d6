"""The keeper protocol's objects and the records of `services`, from one to the other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from sampan.containerd.services import Mount, TaskExit, TaskState


def mount_object(mount: Mount, volatile: bool) -> dict[str, Any]:
    """A rootfs mount as the keeper takes it; a volatile overlay is never synced (kernel 5.10).

    The kernel refuses to mount a volatile overlay again while the mark of the last time is there: whoever asks for
    volatile has said that a crash may cost these files, so the mark is removed."""
    options = list(mount.options)
    if volatile and mount.type == "overlay":
        if "volatile" not in options:
            options.append("volatile")
        for option in mount.options:
            if option.startswith("workdir="):
                # A directory that newer kernels keep a file in.
                mark = option.removeprefix("workdir=") + "/work/incompat/volatile"
                for remove, path in ((os.unlink, f"{mark}/dirty"), (os.rmdir, mark)):
                    try:
                        remove(path)
                    except FileNotFoundError:
                        pass
    return {"type": mount.type, "source": mount.source, "options": options, "target": mount.target}


def task_exit(fields: Mapping[str, Any]) -> TaskExit:
    """The protocol's exit object as a record."""
    return TaskExit(
        container_id=fields["container"],
        exec_id=fields["exec"],
        pid=fields["pid"],
        status=fields["status"],
        exited_at=fields["at"],
        oom_killed=fields["oom"],
    )


def task_state(fields: Mapping[str, Any]) -> TaskState:
    """One task of `list` as a record."""
    return TaskState(
        container_id=fields["container"],
        pid=fields["pid"],
        status=fields["status"],
        exit=task_exit(fields["exit"]) if fields["exit"] else None,
        execs=tuple(fields["execs"]),
    )
