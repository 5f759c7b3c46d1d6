"""Which runtime a container's client asks for: ours behind the keeper, or a foreign shim. Decided here alone.

    io.containerd.sampan.v2, io.containerd.runc.v2   the keeper; `containerd.runc.v1.Options` say with which OCI runtime
    io.containerd.NAME.VERSION                       the shim `containerd-shim-NAME-VERSION`, from PATH or beside us
    /any/path                                        the shim at that path

So `--runtime io.containerd.runc.v2`, every client's default, needs no second program and no process for each container;
who wants Debian's own shim names it: `--runtime /usr/bin/containerd-shim-runc-v2`, as containerd has it since 1.6.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass

from sampan import errors
from sampan.api.containerd.types.runc.options import oci_pb2
from sampan.containerd.containers import Payload
from sampan.containerd.services import RuntimeOptions

KEEPERS = ("io.containerd.runc.v2", "io.containerd.sampan.v2")
_OTHERS_OPTIONS = (
    "runtimeoptions.v1.Options",
    "containerd.linux.runc.RuncOptions",
    "containerd.linux.runc.CreateOptions",
)
OWN_BINARIES = ("", "sampan", "sampan-runc")
_CREATED = "OCI runtime create failed: unable to retrieve OCI runtime error"


@dataclass(frozen=True, slots=True)
class KeeperRuntime:
    """Our keeper. `binary` is the path of an OCI runtime, "" for ours; `options` without the names of a task."""

    binary: str
    options: RuntimeOptions


@dataclass(frozen=True, slots=True)
class ShimRuntime:
    """A shim of its own for each container, which gets the client's options as they are."""

    binary: str
    options: Payload | None


def choose(name: str, options: Payload | None, namespace: str) -> KeeperRuntime | ShimRuntime:
    """What is asked for by a runtime's name and options. Error for one that is not there; Unimplemented."""
    if name not in KEEPERS:
        return ShimRuntime(_shim(name), options)
    found = oci_pb2.Options()
    kind = "" if options is None else options.type_url.rpartition("/")[2]
    # Those of other runtimes are not looked at, as by containerd's runc shim, but must be of a type that exists.
    if options is not None and kind == oci_pb2.Options.DESCRIPTOR.full_name:
        found = oci_pb2.Options.FromString(options.value)
    elif kind not in ("", *_OTHERS_OPTIONS):
        raise errors.Error(f"type with url {kind}: not found")
    for field in ("shim_cgroup", "task_api_address"):
        if getattr(found, field):
            raise errors.Unimplemented(f'option {field} of runtime "{name}", whose tasks share a process')
    return KeeperRuntime(
        _binary(found.binary_name),
        RuntimeOptions(
            # As containerd's shim has it: one directory for each namespace.
            root=f"{found.root}/{namespace}" if found.root else "",
            systemd_cgroup=found.systemd_cgroup,
            no_pivot_root=found.no_pivot_root,
            no_new_keyring=found.no_new_keyring,
            io_uid=found.io_uid or None,
            io_gid=found.io_gid or None,
        ),
    )


def _binary(name: str) -> str:
    if name in OWN_BINARIES:
        return ""
    found = shutil.which(name)
    if found is None:
        if "/" in name:
            raise errors.Error(f"{_CREATED}: fork/exec {name}: no such file or directory: unknown")
        raise errors.Error(f'{_CREATED}: exec: "{name}": executable file not found in $PATH: unknown')
    return os.path.abspath(found)


def _shim(name: str) -> str:
    failed = "failed to start shim: failed to resolve runtime path"
    if os.path.isabs(name):
        if not os.path.exists(name):
            raise errors.Error(f"{failed}: invalid custom binary path: stat {name}: no such file or directory")
        return name
    parts = name.split(".")
    if "/" in name or len(parts) < 2:
        raise errors.Error(
            f"{failed}: invalid runtime name {name}, correct runtime name should be either format like"
            " `io.containerd.runc.v1` or a full path to the binary"
        )
    program = f"containerd-shim-{parts[-2]}-{parts[-1]}"
    beside = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), program)
    found = shutil.which(program) or (beside if os.path.exists(beside) else None)
    if found is None:
        raise errors.Error(f'{failed}: runtime "{name}" binary not installed "{program}": file does not exist')
    return os.path.abspath(found)
