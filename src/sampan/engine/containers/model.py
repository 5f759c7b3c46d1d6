"""The container record and its states.

A record is a frozen value: what the client asked for, what was resolved at create, and the state of the last run.
Live things (the task's streams, waiters, timers) are in `live.py`, keyed by the same id.

    created ──start──▶ running ──exit──▶ exited ──start──▶ running
                         │  ▲
                    pause▼  │unpause         running ──restart──▶ restarting ──start──▶ running
                        paused               any but running, paused ──remove──▶ removing
"""

from __future__ import annotations

import msgspec

from sampan.api.docker.containers import Config, Health, HostConfig, MountPoint
from sampan.engine.timestamps import ZERO, rfc3339
from sampan.errors import Conflict

_TRANSITIONS: dict[tuple[str, str], str] = {
    ("created", "start"): "running",
    ("exited", "start"): "running",
    ("restarting", "start"): "running",
    ("running", "exit"): "exited",
    ("paused", "exit"): "exited",
    ("running", "restart"): "restarting",
    ("paused", "restart"): "restarting",
    ("exited", "restart"): "restarting",
    # A start that failed leaves the record where it was, but for the exit code; a retry that is given up ends.
    ("created", "fail"): "created",
    ("exited", "fail"): "exited",
    ("restarting", "fail"): "exited",
    ("restarting", "stop"): "exited",
    ("running", "pause"): "paused",
    ("paused", "unpause"): "running",
    ("created", "remove"): "removing",
    ("exited", "remove"): "removing",
    ("restarting", "remove"): "removing",
    ("dead", "remove"): "removing",
    ("removing", "die"): "dead",
    ("removing", "remove"): "removing",
}

# Docker's words for the pairs that a client can provoke; {id} is the full id.
_REFUSALS: dict[tuple[str, str], str] = {
    ("paused", "start"): "cannot start a paused container, try unpause instead",
    ("removing", "start"): "container is marked for removal and cannot be started",
    ("dead", "start"): "container is marked for removal and cannot be started",
    ("paused", "pause"): "container {id} is already paused",
    ("restarting", "pause"): "container {id} is restarting, wait until the container is running",
    ("running", "unpause"): "Container {id} is not paused",
    ("created", "unpause"): "Container {id} is not paused",
    ("exited", "unpause"): "Container {id} is not paused",
}


class Mount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A mount point as resolved at create.

    `type` is bind, volume or tmpfs; `source` the host's path (bind) or the volume's directory; `name` the volume's.
    `mode` is the option text of a -v; `spec` tells that it came from --mount (or Docker's Mounts), `options` further
    runtime mount options; `subpath` a directory inside the volume."""

    type: str
    destination: str
    source: str = ""
    name: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""
    anonymous: bool = False
    copy_up: bool = False
    subpath: str = ""
    options: list[str] = []
    non_recursive: bool = False
    read_only_non_recursive: bool = False
    create_source: bool = False


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A legacy link: the linked container by id, and the name that it had then."""

    alias: str
    container_id: str
    name: str


class Container(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One container. Times in nanoseconds since the epoch, 0 for never; `name` without Docker's leading slash.

    `image_id` is the image's config digest, `parent` the committed snapshot its writable layer stands on,
    `path` and `args` the resolved command. `exit_code` and `error` belong to the last run."""

    id: str
    name: str
    created_at: int
    image_id: str
    parent: str
    path: str
    args: list[str] = []
    config: Config
    host_config: HostConfig
    mounts: list[Mount] = []
    links: list[Link] = []
    runtime: str = ""
    status: str = "created"
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: int = 0
    finished_at: int = 0
    restart_count: int = 0
    manually_stopped: bool = False
    health: Health | None = None

    @property
    def is_running(self) -> bool:
        """A task exists: Docker's State.Running, which is true while paused and while it waits for a restart."""
        return self.status in ("running", "paused", "restarting")

    @property
    def has_task(self) -> bool:
        return self.status in ("running", "paused")


def after(status: str, verb: str, container_id: str = "") -> str:
    """The status that `verb` leads to from `status`. Conflict, in Docker's words, for a pair that is not."""
    try:
        return _TRANSITIONS[status, verb]
    except KeyError:
        raise Conflict(refusal(status, verb, container_id)) from None


def refusal(status: str, verb: str, container_id: str) -> str:
    """Why `verb` is refused in `status`, in Docker's words."""
    known = _REFUSALS.get((status, verb))
    if known:
        return known.format(id=container_id)
    if status in ("created", "exited", "dead", "removing") and verb != "start":
        return f"container {container_id} is not running"
    return f"cannot {verb} container {container_id}: container is {status}"


def require_running(container: Container, reference: str, verb: str) -> None:
    """Conflict unless a task exists and is not paused: what exec and attach-like verbs need.

    `reference` is how the caller named it."""
    if container.status == "paused":
        text = f"Container {reference} is paused, unpause the container before {verb}"
        raise Conflict(text if verb == "exec" else text[0].lower() + text[1:])
    if container.status == "restarting":
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if not container.has_task:
        raise Conflict(f"container {container.id} is not running")


def time_text(nanoseconds: int) -> str:
    """RFC 3339; 0, which stands for never, is Go's zero time."""
    return rfc3339(nanoseconds) if nanoseconds else ZERO


def mount_point(mount: Mount) -> MountPoint:
    """The document of a mount, as inspect and list show it."""
    return MountPoint(
        type=mount.type,
        name=mount.name,
        source=mount.source,
        destination=mount.destination,
        driver=mount.driver,
        mode=mount.mode,
        rw=mount.rw,
        propagation=mount.propagation,
    )
