"""What this host offers a container, gathered once and passed as a value, so that planning touches no kernel."""

from __future__ import annotations

import os

from sampan.linux import abi, capabilities, cgroupfs, lsm, mountinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.linux.cgroupfs import Hierarchy


class HostFacts:
    """One value for planning and doing.

    `cgroup_mode` is "legacy", "unified", "hybrid" or "none"; `hierarchies` are the mounted cgroup trees and
    `own_cgroups` this process's place in each (key as `Hierarchy.keys`); `bounding` is the mask of capabilities
    that can be given at all; `kcore` says that /proc/kcore is there; `machine` is uname -m; `user_namespace` says that
    we are in another than the first.
    """

    __slots__ = (
        "apparmor", "bounding", "cgroup_mode", "euid", "hierarchies", "kcore", "last_cap", "machine", "own_cgroups",
        "rootless", "selinux", "user_namespace",
    )  # fmt: skip

    def __init__(
        self,
        hierarchies: list[Hierarchy],
        own_cgroups: dict[str, str],
        bounding: int,
        last_cap: int,
        machine: str = abi.MACHINE,
        apparmor: bool = False,
        selinux: bool = False,
        euid: int = 0,
        rootless: bool = False,
        user_namespace: bool = False,
        kcore: bool = False,
    ) -> None:
        self.hierarchies = hierarchies
        self.cgroup_mode = cgroupfs.mode(hierarchies)
        self.own_cgroups = own_cgroups
        self.bounding = bounding
        self.last_cap = last_cap
        self.machine = machine
        self.apparmor = apparmor
        self.selinux = selinux
        self.user_namespace = user_namespace
        self.kcore = kcore
        self.euid = euid
        self.rootless = rootless
        """Whether cgroups may be done without when they cannot be written: no root, or root of a user namespace."""


def in_user_namespace() -> bool:
    """Whether we are in another user namespace than the first. Source: user_namespaces(7)."""
    try:
        fd = os.open("/proc/self/uid_map", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False  # a kernel without them
    try:
        return os.read(fd, 4096).split() != [b"0", b"0", b"4294967295"]
    finally:
        os.close(fd)


def host_facts() -> HostFacts:
    """Look at the host. About half a millisecond. Errors: OSError when /proc is not there."""
    last = capabilities.last_cap()
    user_namespace = in_user_namespace()
    bounding = 0
    for number in range(last + 1):
        if capabilities.bounding_has(number):
            bounding |= 1 << number
    return HostFacts(
        hierarchies=cgroupfs.hierarchies(mountinfo.read(kind="cgroup")),
        own_cgroups=cgroupfs.paths(),
        bounding=bounding,
        last_cap=last,
        apparmor=lsm.apparmor_enabled(),
        selinux=lsm.selinux_enabled(),
        euid=os.geteuid(),
        kcore=os.path.exists("/proc/kcore"),
        rootless=os.geteuid() != 0 or user_namespace,
        user_namespace=user_namespace,
    )
