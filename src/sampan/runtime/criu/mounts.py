"""What of a container's mounts is the host's: CRIU saves a name for each, and is told at the restore what is behind it.

The names are runc's: a bind's destination, a cgroup hierarchy's below that of the cgroup mount, /dev/null for all masked
files. Source: criu.org/External_bind_mounts.
"""

from __future__ import annotations

import os
import stat

from sampan.linux import abi, mount, paths
from sampan.oci import spec as oci_spec
from sampan.runtime.plan.mounts import clean, parse_options
from sampan.runtime.steps.situation import StepFailed, detailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.oci.spec import Mount, Spec

    External = list[dict[str, str]]

_AT = abi.AT_FDCWD
_CLONE = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC
NULL = "/dev/null"
_IN_MEMORY = ("tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2")


def _is_bind(entry: Mount) -> bool:
    return entry.get("type") == "bind" or bool(parse_options(entry.get("options", [])).bind)
