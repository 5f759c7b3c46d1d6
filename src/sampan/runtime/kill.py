"""The verb `kill`: a signal to a container's first process, or to all of them."""

from __future__ import annotations

import os
import select

from sampan.errors import Conflict, Error, InvalidArgument
from sampan.linux import abi, process
from sampan.runtime import cgroup, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# signal(7), x86_64 and aarch64; the aliases are those of Go's unix.SignalNum.
SIGNALS: dict[str, int] = {
    "HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "IOT": 6, "BUS": 7, "FPE": 8, "KILL": 9,
    "USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CLD": 17,
    "CONT": 18, "STOP": 19, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26,
    "PROF": 27, "WINCH": 28, "IO": 29, "POLL": 29, "PWR": 30, "SYS": 31,
}  # fmt: skip


def parse_signal(text: str) -> int:
    """The number of "9", "KILL", "SIGKILL", "sigkill", "RTMIN+1". Errors: InvalidArgument."""
    if text.isdigit() and 0 <= int(text) <= 64:
        return int(text)
    name = text.upper().removeprefix("SIG")
    if name in SIGNALS:
        return SIGNALS[name]
    for base, first in (("RTMIN", 34), ("RTMAX", 64)):
        rest = name.removeprefix(base)
        if rest != name and (rest == "" or (rest[0] in "+-" and rest[1:].isdigit())):
            number = first + int(rest or "0")
            if 34 <= number <= 64:
                return number
    raise InvalidArgument(f'unknown signal "{text}"')


def kill(root: str, found: dict[str, Any], sig: int, everything: bool = False) -> None:
    """Send `sig`. Errors: Conflict "container not running"."""
    if everything:
        cgroup.kill(found["cgroup_paths"], sig)
        return
    if not state.alive(found):
        raise Conflict("container not running")
    pidfd = process.pidfd_open(found["init_process_pid"])
    try:
        if not state.alive(found):
            raise Conflict("container not running")
        process.pidfd_send_signal(pidfd, sig)
    except ProcessLookupError:
        raise Conflict("container not running") from None
    finally:
        os.close(pidfd)
    # A frozen process takes the signal when it is thawed; runc thaws for the one nobody survives.
    if sig == abi.SIGKILL and cgroup.is_frozen(found["cgroup_paths"]):
        cgroup.freeze(found["cgroup_paths"], False)
    if sig == abi.SIGKILL and not _has_own_pidns(found):
        cgroup.kill(found["cgroup_paths"], sig)


def _has_own_pidns(found: dict[str, Any]) -> bool:
    """Whether the end of the first process is the end of all: it then is process 1 of its own pid namespace."""
    return any(n["type"] == "NEWPID" and not n["path"] for n in found["config"]["namespaces"])


def kill_and_wait(found: dict[str, Any], patience: float = 10.0) -> None:
    """SIGKILL, then wait until the first process has ended. Errors: Error."""
    try:
        pidfd = process.pidfd_open(found["init_process_pid"])
    except OSError:
        return
    try:
        if not state.alive(found):
            return
        process.pidfd_send_signal(pidfd, abi.SIGKILL)
        if cgroup.is_frozen(found["cgroup_paths"]):
            cgroup.freeze(found["cgroup_paths"], False)
        if not _has_own_pidns(found):
            cgroup.kill(found["cgroup_paths"], abi.SIGKILL)
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if not poller.poll(patience * 1000):
            raise Error("container init still running")
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)
