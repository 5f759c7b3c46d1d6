"""containerd's requests in the keeper's words; what is wrong in them is said here."""

from __future__ import annotations

import os
import re

from sampan import errors
from sampan.shim.messages import CHECKPOINT_OPTIONS, CHECKPOINT_TYPE, OPTIONS, OPTIONS_TYPE
from sampan.wire import protobuf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RUNTIME_ROOT = "/run/containerd/runc"
"""The runtimes' `--root` without another wish, below it a directory for each namespace: containerd's own default."""
OWN_BINARIES = ("", "sampan", "sampan-runc")
CHECKPOINT_SWITCHES = {
    "open_tcp": "--tcp-established",
    "external_unix_sockets": "--ext-unix-sk",
    "terminal": "--shell-job",
    "file_locks": "--file-locks",
}
_EXEC_ID = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")


def create(request: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The keeper's `create` for a CreateTaskRequest. Error for a runtime that is not there; InvalidArgument."""
    options = runtime_options(request["options"])
    kept = {key: options[key] for key in ("systemd_cgroup", "no_pivot_root", "no_new_keyring") if options[key]}
    kept |= {key: options[key] for key in ("io_uid", "io_gid") if options[key]}
    root = f"{options['root'] or RUNTIME_ROOT}/{namespace}"
    return {
        "container": request["id"],
        "bundle": request["bundle"],
        "root": root,
        "runtime": binary(options["binary_name"]),
        "rootfs": request["rootfs"],
        "terminal": request["terminal"],
        "stdin": bool(request["stdin"]),
        "stdin_once": True,
        "log": None,
        "console_size": None,
        "checkpoint": request["checkpoint"],
        "options": {**kept, "root": root},
    }


def runtime_options(given: dict[str, Any] | None) -> dict[str, Any]:
    """`containerd.runc.v1.Options` in an Any; all defaults for another message or none. InvalidArgument."""
    value = given["value"] if given is not None and given["type_url"].endswith(OPTIONS_TYPE) else b""
    try:
        return protobuf.decode(OPTIONS, value)
    except protobuf.ProtobufError as error:
        raise errors.InvalidArgument(f"runtime options: {error}: invalid argument") from error


def binary(name: str) -> str:
    """The path of an OCI runtime, "" for ours. Error for one that is not there."""
    if name in OWN_BINARIES:
        return ""
    directories = [""] if "/" in name else os.environ.get("PATH", os.defpath).split(":")
    for directory in directories:
        path = os.path.join(directory, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    raise errors.Error(
        f"unable to retrieve OCI runtime error: fork/exec {name}: no such file or directory"
        if "/" in name
        else f'unable to retrieve OCI runtime error: exec: "{name}": executable file not found in $PATH'
    )


def checkpoint_flags(request: dict[str, Any], bundle: str) -> list[str]:
    """The flags of `runc checkpoint` for a CheckpointTaskRequest. InvalidArgument."""
    given = request["options"]
    value = given["value"] if given is not None and given["type_url"].endswith(CHECKPOINT_TYPE) else b""
    try:
        wanted = protobuf.decode(CHECKPOINT_OPTIONS, value)
    except protobuf.ProtobufError as error:
        raise errors.InvalidArgument(f"checkpoint options: {error}: invalid argument") from error
    flags = ["--image-path", request["path"], "--work-path", wanted["work_path"] or f"{bundle}/criu-work"]
    flags += [] if wanted["exit"] else ["--leave-running"]
    flags += [flag for field, flag in CHECKPOINT_SWITCHES.items() if wanted[field]]
    for kind in wanted["empty_namespaces"]:
        flags += ["--empty-ns", kind]
    if wanted["cgroups_mode"]:
        flags += ["--manage-cgroups-mode", wanted["cgroups_mode"]]
    if wanted["parent_path"]:
        flags += ["--parent-path", wanted["parent_path"]]
    return flags


def check_exec_id(exec_id: str) -> None:
    """It becomes a file's name. InvalidArgument in containerd's words."""
    if not _EXEC_ID.fullmatch(exec_id) or len(exec_id) > 76:
        raise errors.InvalidArgument(f'identifier "{exec_id}" must match {_EXEC_ID.pattern}: invalid argument')
