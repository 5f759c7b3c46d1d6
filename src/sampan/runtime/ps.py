"""The verb `ps`: a container's processes, as pids or as the host's ps shows them."""

from __future__ import annotations

import os

from sampan.errors import Error
from sampan.runtime import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def pids(found: dict[str, Any]) -> list[int]:
    """Ascending, in the caller's pid namespace. Errors: OSError."""
    return cgroup.pids(found["cgroup_paths"])


def table(found: dict[str, Any], arguments: list[str]) -> str:
    """The lines of the host's `ps` (default -ef) for those pids, with its header. Errors: Error."""
    wanted = {str(pid) for pid in pids(found)}
    lines = _host_ps(arguments or ["-ef"]).split("\n")
    columns = lines[0].split()
    if "PID" not in columns:
        raise Error("couldn't find PID field in ps output")
    place = columns.index("PID")
    chosen = [line for line in lines[1:] if len(line.split()) > place and line.split()[place] in wanted]
    return "".join(f"{line}\n" for line in [lines[0], *chosen])


def _host_ps(arguments: list[str]) -> str:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, writing, 1)]
    try:
        pid = os.posix_spawnp("ps", ["ps", *arguments], os.environ, file_actions=actions)
    except OSError as error:
        os.close(reading)
        raise Error(f'exec: "ps": {error.strerror}') from None
    finally:
        os.close(writing)
    parts: list[bytes] = []
    while part := os.read(reading, 65536):
        parts.append(part)
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    if status:
        raise Error(f"exit status {os.waitstatus_to_exitcode(status)}: ps {' '.join(arguments)}")
    return b"".join(parts).decode("utf-8", "replace").rstrip("\n")
