"""Steps into cgroups, namespaces, a session and a keyring."""

from __future__ import annotations

import errno
import os

from sampan.linux import abi, keyring, process
from sampan.linux.call import call
from sampan.runtime import handshake
from sampan.runtime.steps.situation import StepFailed, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.steps.situation import Situation

# <linux/sockios.h>, <linux/if.h>; struct ifreq is 40 bytes, the name first, then the flags.
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 1


def join_cgroups(init: Situation) -> None:
    """Move this thread, which is the whole process, into each v1 cgroup.

    Writing "0" to `tasks` is the one way in that waits for no RCU grace period: the kernel need not stop the world to
    move the caller's own single thread (cgroup_procs_write_start). 0.03 ms each instead of 10 ms for all.
    """
    for fd in init.cgroups:
        try:
            os.write(fd, b"0")
        except OSError as error:
            where = os.readlink(f"/proc/self/fd/{fd}")
            raise StepFailed(f"unable to apply cgroup configuration: write {where}: {words(error)}") from None
        os.close(fd)
    init.cgroups = []


def await_id_maps(init: Situation) -> None:
    word, _, _ = handshake.receive(init.channel)
    if word != handshake.MAPPED:
        raise StepFailed(f"unexpected message {word!r} instead of {handshake.MAPPED!r}")
    process.set_dumpable(False)  # nobody in a namespace that is joined later may trace us (CVE-2016-9962)


def become_namespace_root(init: Situation) -> None:
    """Take the ids of the user namespace's root; before this, our ids are not mapped and own nothing in it."""
    # safe because the namespace's maps are complete: the parent wrote them before it said so, or they were there.
    try:
        os.setgroups([])
    except PermissionError:
        pass  # the namespace denies setgroups to all: then there are no groups to leave either
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def join_namespaces(init: Situation, namespaces: list[str]) -> None:
    for kind in namespaces:
        fd = init.namespaces.pop(kind)
        try:
            process.setns(fd, abi.NAMESPACES[kind][0])
        except OSError as error:
            raise StepFailed(f"failed to setns into {kind} namespace: {words(error)}") from None
        os.close(fd)


def join_container(init: Situation, namespaces: list[str]) -> None:
    """Enter the namespaces of the container's init in one call, its user namespace with them."""
    flags = 0
    for kind in namespaces:
        flags |= abi.NAMESPACES[kind][0]
    if init.in_user_namespace:
        flags &= ~abi.CLONE_NEWUSER
    if flags:
        try:
            process.setns(init.container_pidfd, flags)
        except OSError as error:
            raise StepFailed(f"failed to setns into the container: {words(error)}") from None
    os.close(init.container_pidfd)


def open_root(init: Situation) -> None:
    """For a process that joined a container: the root it has found itself in."""
    init.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def unshare(init: Situation, flags: int) -> None:
    process.unshare(flags)


def new_session(init: Situation) -> None:
    os.setsid()


def session_keyring(init: Situation, name: str) -> None:
    """A session keyring of its own, which other containers' processes of the same uid may not search."""
    try:
        key = keyring.join_session_keyring(name)
        keyring.setperm(key, keyring.permissions(key) | abi.KEY_USR_SEARCH)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise StepFailed(f"unable to join session keyring: {words(error)}") from None


def loopback_up(init: Situation | None) -> None:
    """Raise `lo` of the new network namespace by ioctl: two calls, and no netlink code in a one-shot."""
    sock = call("socket", abi.AF_INET, abi.SOCK_DGRAM | abi.SOCK_CLOEXEC, 0)
    try:
        request = b"lo".ljust(16, b"\0") + _IFF_UP.to_bytes(2, "little") + bytes(22)
        call("ioctl", sock, _SIOCSIFFLAGS, request)
    finally:
        os.close(sock)
