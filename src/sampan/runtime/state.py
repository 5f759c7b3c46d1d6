"""What is remembered of a container: `<root>/<id>/state.json`, in runc's shape, and what its status is now.

The keys that runc's own file has are spelled and meant as there (libcontainer.State), "config" holding the part that
other verbs need; "spec" is ours, the spec the container was made from, since its bundle may change meanwhile.
"""

from __future__ import annotations

import os
import time

from sampan.errors import AlreadyExists, DataLoss, Error, InvalidArgument, NotFound
from sampan.linux import paths, procfs
from sampan.runtime import cgroup, document
from sampan.runtime.steps.situation import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.oci.spec import Spec

    State = dict[str, Any]

FIFO = "exec.fifo"
OCI_VERSION = "1.2.0"
_FILE = "state.json"
_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
RUNC_NAMES = {
    "mount": "NEWNS", "network": "NEWNET", "ipc": "NEWIPC", "uts": "NEWUTS", "pid": "NEWPID", "user": "NEWUSER",
    "cgroup": "NEWCGROUP", "time": "NEWTIME",
}  # fmt: skip


# What every verb may rely on in a state that `load` has given.
_SHAPE = {
    "id": str, "init_process_pid": int, "init_process_start": int, "created": str, "config": dict,
    "cgroup_paths": dict, "bundle": str, "spec": dict,
}  # fmt: skip


def check_id(container_id: str) -> None:
    """Errors: InvalidArgument for what cannot be a container's name."""
    if not container_id:
        raise InvalidArgument("container id cannot be empty")
    if set(container_id) - _ALLOWED or container_id in (".", ".."):
        raise InvalidArgument("invalid container ID format")


def directory(root: str, container_id: str) -> str:
    check_id(container_id)
    return f"{root}/{container_id}"


def reserve(root: str, container_id: str) -> str:
    """Make the container's state directory, which is what makes its id taken. Errors: AlreadyExists."""
    path = directory(root, container_id)
    try:
        os.mkdir(path, 0o711)
    except FileExistsError:
        raise AlreadyExists("container with given ID already exists") from None
    except FileNotFoundError:
        _make_root(root)
        os.mkdir(path, 0o711)
    except OSError as error:
        raise Error(f"mkdir {path}: {words(error)}") from None
    return path


def _make_root(root: str) -> None:
    try:
        os.makedirs(root, 0o700, exist_ok=True)
    except OSError as error:
        raise Error(f"mkdir {error.filename or root}: {words(error)}") from None


def timestamp(nanoseconds: int) -> str:
    """RFC 3339 with nanoseconds, UTC, without trailing zeros, as Go prints time."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fraction = f"{rest:09d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


def new(
    container_id: str,
    spec: Spec,
    bundle: str,
    rootfs: str,
    cgroup_paths: dict[str, str],
    pid: int,
    start_time: int,
    cgroups: dict[str, Any] | None = None,
) -> State:
    """The state of a container whose init has just been made.

    `cgroups` says how its cgroups are made: {"path": ...}, or for systemd `cgroup.systemd.Settings`.
    """
    linux = spec.get("linux", {})
    labels = [f"{key}={value}" for key, value in spec.get("annotations", {}).items()]
    names = {namespace["type"]: namespace.get("path", "") for namespace in linux.get("namespaces", [])}
    return {
        "id": container_id,
        "init_process_pid": pid,
        "init_process_start": start_time,
        "created": timestamp(time.time_ns()),
        "config": {
            "rootfs": rootfs,
            "namespaces": [{"type": RUNC_NAMES[kind], "path": path} for kind, path in names.items()],
            "labels": [*labels, f"bundle={bundle}"],
            "cgroups": cgroups or {"path": linux.get("cgroupsPath", "")},
            "version": spec.get("ociVersion", ""),
        },
        "rootless": False,
        "cgroup_paths": cgroup_paths,
        "namespace_paths": {name: procfs.namespace_path(pid, kind) for kind, name in RUNC_NAMES.items()},
        "intel_rdt_path": "",
        "bundle": bundle,
        "spec": spec,
    }


def stream_names(stdio: tuple[int, int, int]) -> list[str]:
    """What the standard streams are, "pipe:[INODE]" or a path: a checkpoint saves it, a restore replaces pipes."""
    found: list[str] = []
    for fd in stdio:
        try:
            found.append(paths.fd_path(fd))
        except OSError:
            found.append("")  # started without
    return found


def save(root: str, state: State) -> None:
    """Write state.json, whole or not at all. Errors: OSError."""
    os.rename(*write(root, state))


def write(root: str, state: State) -> tuple[str, str]:
    """Write what is to become state.json: its name as yet, and the one it is to be given. Errors: OSError."""
    path = directory(root, state["id"])
    # A name that says when another writer is at work too; the rename decides.
    temporary = f"{path}/.{_FILE}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        data = memoryview(document.text_of(state).encode())
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)
    return temporary, f"{path}/{_FILE}"


def load(root: str, container_id: str) -> State:
    """Errors: NotFound "container does not exist", DataLoss."""
    path = f"{directory(root, container_id)}/{_FILE}"
    try:
        found: State = document.load(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound("container does not exist") from None
    if not _is_state(found) or found["id"] != container_id:
        raise DataLoss(f"{path}: not the state of a container")
    return found


def _is_state(found: Any) -> bool:
    if not isinstance(found, dict) or any(not isinstance(found.get(key), kind) for key, kind in _SHAPE.items()):
        return False
    config = found["config"]
    return (
        found["init_process_pid"] > 0
        and isinstance(config.get("rootfs"), str)
        and isinstance(config.get("version"), str)
        and isinstance(config.get("namespaces"), list)
        and all(isinstance(part, str) for entry in found["cgroup_paths"].items() for part in entry)
        and not any("\0" in path for path in found["cgroup_paths"].values())
    )


def remove(root: str, container_id: str) -> None:
    """Remove the state directory; no error when it is gone."""
    path = directory(root, container_id)
    try:
        for name in os.listdir(path):
            try:
                os.unlink(f"{path}/{name}")
            except IsADirectoryError:
                for inner in os.listdir(f"{path}/{name}"):
                    os.unlink(f"{path}/{name}/{inner}")
                os.rmdir(f"{path}/{name}")
        os.rmdir(path)
    except FileNotFoundError:
        pass


def alive(state: State) -> bool:
    """Whether the container's init lives: its pid with its start time, and not waiting to be reaped."""
    try:
        letter, _, start = procfs.stat(state["init_process_pid"])
    except (OSError, ValueError):
        return False
    return start == state["init_process_start"] and letter not in "ZX"


def status(root: str, state: State) -> str:
    """ "created", "running", "paused" or "stopped"."""
    if not alive(state):
        return "stopped"
    if cgroup.is_frozen(state["cgroup_paths"]):
        return "paused"
    if os.path.exists(f"{directory(root, state['id'])}/{FIFO}"):
        return "created"
    return "running"


def oci_state(state: State, status: str, pid: int | None = None) -> dict[str, Any]:
    """The runtime-spec's state document, as hooks get it on stdin. Source: runtime.md#state."""
    found: dict[str, Any] = {
        "ociVersion": state["config"].get("version") or OCI_VERSION,
        "id": state["id"],
        "status": status,
    }
    pid = state["init_process_pid"] if pid is None else pid
    if status != "stopped" and pid:
        found["pid"] = pid
    found["bundle"] = state["bundle"]
    annotations = state["spec"].get("annotations")
    if annotations:
        found["annotations"] = annotations
    return found


def described(root: str, state: State, with_owner: bool = True) -> dict[str, Any]:
    """What `state` and `list` print of a container, in runc's order of keys."""
    now = status(root, state)
    found: dict[str, Any] = {
        "ociVersion": state["config"].get("version") or OCI_VERSION,
        "id": state["id"],
        "pid": 0 if now == "stopped" else state["init_process_pid"],
        "status": now,
        "bundle": state["bundle"],
        "rootfs": state["config"]["rootfs"],
        "created": state["created"],
    }
    annotations = state["spec"].get("annotations")
    if annotations:
        found["annotations"] = annotations
    if with_owner:
        found["owner"] = ""
    return found
