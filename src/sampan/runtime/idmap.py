"""Writing a new user namespace's id maps from the parent. Source: user_namespaces(7)."""

from __future__ import annotations

import errno
import os

from sampan.errors import Error
from sampan.linux import abi, process, procfs
from sampan.runtime.steps.situation import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.spec import IDMapping

    Mapping = tuple[int, int, int]

_WALL = 0x40000000  # wait(2): children of any exit signal


def lines(mappings: list[Mapping]) -> str:
    """The text of uid_map: first id inside, first outside, how many, a line each."""
    return "".join(f"{inside} {outside} {size}\n" for inside, outside, size in mappings)


def triples(mappings: list[IDMapping]) -> list[Mapping]:
    """The spec's mappings as (inside, outside, how many)."""
    return [(one.get("containerID", 0), one.get("hostID", 0), one.get("size", 0)) for one in mappings]


def namespace(uids: list[Mapping], gids: list[Mapping]) -> int:
    """A close-on-exec descriptor of a new user namespace with these maps, without a process in it. Errors: Error."""
    hold, release = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = process.clone3(abi.CLONE_NEWUSER, exit_signal=0)
        if pid == 0:
            try:
                os.close(release)
                os.read(hold, 1)
            finally:
                os._exit(0)
    finally:
        os.close(hold)
    try:
        write(pid, uids, gids)
        return procfs.open_namespace(pid, "user")
    finally:
        os.close(release)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | _WALL)
        os.close(pidfd)


def _own_id_alone(name: str, mappings: list[Mapping]) -> bool:
    """Whether it is the one map that the kernel takes from somebody without privileges: of his own id."""
    own = os.geteuid() if name == "uid_map" else os.getegid()
    return len(mappings) == 1 and mappings[0][1:] == (own, 1)


def _by_helper(name: str, pid: int, mappings: list[Mapping]) -> None:
    """Have newuidmap or newgidmap do it, which know by /etc/subuid whose ids they are. Errors: Error."""
    helper = "newuidmap" if name == "uid_map" else "newgidmap"
    arguments = [str(number) for mapping in mappings for number in mapping]
    try:
        child = os.posix_spawnp(helper, [helper, str(pid), *arguments], os.environ)
    except OSError as error:
        raise Error(f"unable to start container process: failed to write {name}: {helper}: {words(error)}") from None
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise Error(f"unable to start container process: {helper} failed with exit status {code}")


def write(pid: int, uids: list[Mapping], gids: list[Mapping]) -> None:
    """Map the ids of the namespace that process `pid` is the first of. Errors: Error with runc's text."""
    proc = procfs.open_proc()
    try:
        if os.geteuid() != 0 and _own_id_alone("gid_map", gids):
            # The kernel lets one who has no privilege map groups only where setgroups is denied for good.
            try:
                procfs.write_file(proc, f"{pid}/setgroups", "deny")
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
        for name, mappings in (("uid_map", uids), ("gid_map", gids)):
            if os.geteuid() != 0 and not _own_id_alone(name, mappings):
                _by_helper(name, pid, mappings)
                continue
            try:
                procfs.write_file(proc, f"{pid}/{name}", lines(mappings))
            except OSError as error:
                raise Error(f"unable to start container process: failed to write {name}: {words(error)}") from None
    finally:
        os.close(proc)
