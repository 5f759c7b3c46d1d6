"""What the spec planner must know of this machine, gathered once. A value: tests make their own."""

from __future__ import annotations

import glob
import os
import stat
from dataclasses import dataclass

from sampan.engine.containers import capabilities


@dataclass(frozen=True, slots=True)
class HostFacts:
    """`cgroup_version` is 2 only on a pure cgroup v2 host; `kernel` is (major, minor); `machine` is uname's.

    `capabilities` is this process's bounding set by name; `cpus` the number of processors; `memory` bytes of RAM;
    `thermal_throttle` the directories of that name in /sys, which tell one container what others do."""

    cgroup_version: int
    kernel: tuple[int, int]
    machine: str
    capabilities: tuple[str, ...]
    apparmor: bool
    cpus: int
    memory: int
    thermal_throttle: tuple[str, ...] = ()
    memory_nodes: int = 1


def gather() -> HostFacts:
    """Read the facts from the kernel. OSError when /proc is not there."""
    release = os.uname().release.split(".")
    minor = "".join(digit for digit in release[1] if digit.isdigit())
    return HostFacts(
        cgroup_version=2 if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else 1,
        kernel=(int(release[0]), int(minor or 0)),
        machine=os.uname().machine,
        capabilities=_bounding_set(),
        apparmor=_apparmor_enabled(),
        cpus=os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        thermal_throttle=tuple(sorted(glob.glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"))),
        memory_nodes=len(glob.glob("/sys/devices/system/node/node[0-9]*")) or 1,
    )


def _bounding_set() -> tuple[str, ...]:
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("CapBnd:"):
                bits = int(line.split()[1], 16)
                return tuple(name for number, name in enumerate(capabilities.ALL) if bits >> number & 1)
    return capabilities.ALL


def _apparmor_enabled() -> bool:
    try:
        with open("/sys/module/apparmor/parameters/enabled", encoding="ascii") as file:
            return file.read(1) == "Y"
    except OSError:
        return False


def host_devices(root: str = "/dev") -> list[tuple[str, str, int, int]]:
    """(path, type c or b, major, minor) of every device node below `root`, as --privileged shows them all.

    Docker leaves out pts, shm, fd, mqueue, .lxc, .lxd-mounts, .udev and console: the container has its own."""
    found = []
    pending = [root]
    skipped = {"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"}
    while pending:
        for entry in os.scandir(pending.pop()):
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in skipped:
                    pending.append(entry.path)
                continue
            if entry.name == "console":
                continue
            device = device_at(entry.path)
            if device is not None:
                found.append(device)
    return sorted(found)


def device_at(path: str, follow: bool = False) -> tuple[str, str, int, int] | None:
    """(path, type, major, minor) of the node at `path`; None when it is no device or not there."""
    try:
        found = os.stat(path, follow_symlinks=follow)
    except OSError:
        return None
    if stat.S_ISCHR(found.st_mode):
        kind = "c"
    elif stat.S_ISBLK(found.st_mode):
        kind = "b"
    else:
        return None
    return path, kind, os.major(found.st_rdev), os.minor(found.st_rdev)
