"""What this machine offers and lacks, read from the running kernel: for /info and its warnings."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

CGROUPS = "/sys/fs/cgroup"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


@dataclass(frozen=True, slots=True)
class Controllers:
    """Which resource controls this host's cgroups offer. `version` is "1" or "2"."""

    version: str
    memory: bool
    swap: bool
    cpu_quota: bool
    cpu_shares: bool
    cpuset: bool
    pids: bool
    oom_kill_disable: bool


def controllers(root: str = CGROUPS) -> Controllers:
    """Looked up by the files the controllers would have (cgroup-v1/, cgroup-v2.rst of the kernel)."""
    if os.path.exists(f"{root}/cgroup.controllers"):
        have = set(read(f"{root}/cgroup.controllers").split())
        swap = "memory" in have and os.path.exists("/proc/swaps")
        return Controllers("2", "memory" in have, swap, "cpu" in have, "cpu" in have, "cpuset" in have,
                           "pids" in have, False)  # fmt: skip

    def exists(*names: str) -> bool:
        return all(os.path.exists(f"{root}/{name}") for name in names)

    return Controllers(
        version="1",
        memory=exists("memory/memory.limit_in_bytes"),
        swap=exists("memory/memory.memsw.limit_in_bytes"),
        # The root group has no quota of its own; its accounting file says the controller is there.
        cpu_quota=exists("cpu/cpu.stat") or exists("cpu,cpuacct/cpu.stat"),
        cpu_shares=exists("cpu/cpu.shares") or exists("cpu,cpuacct/cpu.shares"),
        cpuset=exists("cpuset/cpuset.cpus"),
        pids=exists("pids/cgroup.procs"),
        oom_kill_disable=exists("memory/memory.oom_control"),
    )


def warnings(found: Controllers, forwarding: bool, hosts: Sequence[str], degraded: Sequence[str] = ()) -> list[str]:
    """Docker's lines for what is missing, in its order."""
    lines = []
    for missing, name in (
        (not found.memory, "memory limit"),
        (not found.swap, "swap limit"),
        (not found.cpu_quota, "cpu cfs quota"),
        (not found.cpu_quota, "cpu cfs period"),
        (not found.cpu_shares, "cpu shares"),
        (not found.cpuset, "cpuset"),
        (not found.pids, "pids limit"),
    ):
        if missing:
            lines.append(f"WARNING: No {name} support")
    if not forwarding:
        lines.append("WARNING: IPv4 forwarding is disabled")
    lines += [f"WARNING: {text}" for text in degraded]
    for host in hosts:
        if host.startswith("tcp://"):
            lines.append(
                f"WARNING: API is accessible on http://{host.removeprefix('tcp://')} without encryption.\n"
                "         Access to the remote API is equivalent to root access on the host."
            )
    return lines


# What a container cannot have when sampand itself may not: capability -> the consequence.
_NEEDED = {
    "CAP_SYS_ADMIN": "nothing can be mounted",
    "CAP_SYS_RESOURCE": "ulimits cannot be raised above those of sampand",
    "CAP_NET_ADMIN": "no network can be set up",
    "CAP_MKNOD": "devices cannot be made",
}


def lacking(bounding: Sequence[str]) -> list[str]:
    """A line for each capability that is missing from this process's bounding set and matters."""
    return [f"no {name}: {consequence}" for name, consequence in _NEEDED.items() if name not in bounding]


def architecture() -> str:
    """GOARCH of this machine."""
    machine = os.uname().machine
    return _ARCHITECTURES.get(machine, machine)


def os_release(paths: Sequence[str] = ("/etc/os-release", "/usr/lib/os-release")) -> dict[str, str]:
    """os-release(5) as a mapping."""
    for path in paths:
        lines = read(path).splitlines()
        if lines:
            pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
            return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    return {}


def security_options() -> list[str]:
    options = []
    if "\nSeccomp:" in read("/proc/self/status"):
        options.append("name=seccomp,profile=builtin")
    if os.path.exists("/proc/self/ns/cgroup"):
        options.append("name=cgroupns")
    return options


def backing_filesystem(path: str) -> str:
    """The type of the file system that holds `path`, in Docker's names, from /proc/self/mountinfo."""
    best, kind = "", "unknown"
    resolved = os.path.realpath(path)
    for line in read("/proc/self/mountinfo").splitlines():
        fields = line.split()
        point = fields[4]
        inside = resolved == point or resolved.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[fields.index("-") + 1]
    return {"ext4": "extfs", "ext3": "extfs", "ext2": "extfs", "overlay": "overlayfs"}.get(kind, kind)


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
