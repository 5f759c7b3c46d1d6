"""The default confinement of a container: facts read from dockerd's containers on the same kernel.

A value that dockerd 20.10 and 28 do not share stands in `SINCE_THEN`, with the newer one allowed too.
"""

from __future__ import annotations

import os
import re

import pytest
from tests.peers.client import Docker

CAPABILITIES = 0x00000000A80425FB
"""chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service, net_raw, sys_chroot, mknod,
audit_write, setfcap: bits of CapEff."""

DEVICES = [
    "fd",
    "full",
    "mqueue",
    "null",
    "ptmx",
    "pts",
    "random",
    "shm",
    "stderr",
    "stdin",
    "stdout",
    "tty",
    "urandom",
    "zero",
]
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
         "ptmx": "pts/ptmx"}  # fmt: skip
if os.path.exists("/proc/kcore"):  # the link is made where the kernel has the file
    DEVICES, LINKS = sorted([*DEVICES, "core"]), {**LINKS, "core": "/proc/kcore"}


def of_this_kernel(*paths: str) -> set[str]:
    return {path for path in paths if os.path.exists(path)}


MASKED = of_this_kernel("/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware")
READ_ONLY = of_this_kernel("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
SINCE_THEN = {"/proc/interrupts", "/sys/devices/virtual/powercap", "/proc/latency_stats", "/proc/timer_stats",
              "/proc/sched_debug", "/proc/acpi", "/proc/asound"}  # fmt: skip
"""Masked paths that one of 20.10 and 28 has and the other lacks, or that only some kernels have."""

MOUNTS = {
    "/": ("overlay", {"rw", "relatime"}),
    "/proc": ("proc", {"rw", "nosuid", "nodev", "noexec", "relatime"}),
    "/dev": ("tmpfs", {"rw", "nosuid"}),
    "/dev/pts": ("devpts", {"rw", "nosuid", "noexec", "relatime"}),
    "/sys": ("sysfs", {"ro", "nosuid", "nodev", "noexec", "relatime"}),
    "/sys/fs/cgroup": ("tmpfs", {"nosuid", "nodev", "noexec", "relatime"}),
    "/sys/fs/cgroup/memory": ("cgroup", {"ro", "nosuid", "nodev", "noexec", "relatime"}),
    "/sys/fs/cgroup/devices": ("cgroup", {"ro", "nosuid", "nodev", "noexec", "relatime"}),
    "/dev/mqueue": ("mqueue", {"rw", "nosuid", "nodev", "noexec", "relatime"}),
    "/dev/shm": ("tmpfs", {"rw", "nosuid", "nodev", "noexec", "relatime"}),
}

DEVICE_RULES = {
    "b *:* m", "c *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:1 rwm",
    "c 5:2 rwm", "c 136:* rwm",
}  # fmt: skip


@pytest.fixture
def status(docker: Docker) -> dict[str, str]:
    """/proc/self/status of a plain container's process."""
    rows = docker.ok("run", "--rm", "busybox", "cat", "/proc/self/status").splitlines()
    return {name: value.strip() for name, value in (row.split(":", 1) for row in rows)}


def mounts(docker: Docker, *flags: str) -> dict[str, tuple[str, set[str]]]:
    """File system type and options (of the mount and of the file system) by mount point."""
    rows = docker.ok("run", "--rm", *flags, "busybox", "cat", "/proc/mounts").splitlines()
    return {path: (kind, set(options.split(","))) for _, path, kind, options, *_ in (row.split(" ") for row in rows)}


def test_root_has_docker_s_fourteen_capabilities_and_no_inheritable_or_ambient_ones(status: dict[str, str]) -> None:
    assert int(status["CapBnd"], 16) == int(status["CapEff"], 16) == int(status["CapPrm"], 16) == CAPABILITIES
    assert int(status["CapAmb"], 16) == 0
    assert int(status["CapInh"], 16) == 0


def test_a_seccomp_filter_is_on_and_no_new_privs_is_off(status: dict[str, str]) -> None:
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "0")


def test_it_is_process_one_with_no_signal_ignored_or_blocked(status: dict[str, str]) -> None:
    assert (status["Pid"], status["PPid"], status["NSpid"]) == ("1", "0", "1") or status["Pid"] == "1"
    assert int(status["SigBlk"], 16) == int(status["SigIgn"], 16) == 0
    assert status["Uid"].split() == status["Gid"].split() == ["0"] * 4
    assert status["Umask"] == "0022"


def test_it_holds_only_the_three_standard_descriptors(docker: Docker) -> None:
    out = docker.ok("run", "--rm", "busybox", "sh", "-c", "ls /proc/1/fd; true")
    assert out.split() == ["0", "1", "2"]


def test_each_mount_has_docker_s_type_and_flags(docker: Docker) -> None:
    seen = mounts(docker)
    for path, (kind, flags) in MOUNTS.items():
        assert seen[path][0] == kind, path
        # relatime and noatime of sysfs-like mounts follow the host; the protecting flags are what counts
        assert flags <= seen[path][1], f"{path}: {sorted(seen[path][1])}"
        allowed = {"ro"} if path == "/sys/fs/cgroup" else set()  # runc 1.1 leaves this one writable, others do not
        assert not ({"nosuid", "nodev", "noexec", "ro"} - flags - allowed) & seen[path][1], (
            f"{path}: {sorted(seen[path][1])}"
        )


def test_masked_paths_are_empty_and_read_only_ones_unwritable(docker: Docker) -> None:
    seen = mounts(docker)
    over = {path for path in seen if path.startswith(("/proc/", "/sys/firmware", "/sys/devices"))}
    masked = {path for path in over if seen[path][0] in ("tmpfs", "devtmpfs")}
    assert over - masked == READ_ONLY
    assert all("ro" in seen[path][1] for path in READ_ONLY)
    assert masked - SINCE_THEN == MASKED
    script = (
        "for p in $0 $@; do if [ -d $p ]; then ls $p; touch $p/x 2>&1 | grep -v Read-only; else cat $p; fi; done; true"
    )
    assert docker.ok("run", "--rm", "busybox", "sh", "-c", script, *sorted(MASKED)) == ""


def test_the_kernel_s_knobs_cannot_be_turned(docker: Docker) -> None:
    script = "echo 1 > /proc/sys/kernel/panic; mkdir /sys/fs/cgroup/memory/x; touch /sys/kernel/x"
    outcome = docker("run", "--rm", "busybox", "sh", "-c", script)
    assert outcome.status != 0 and outcome.err.count("Read-only file system") == 3
    outcome = docker("run", "--rm", "busybox", "mount", "-t", "tmpfs", "x", "/tmp")
    assert outcome.status != 0 and "permission denied" in outcome.err.lower()


def test_dev_has_docker_s_nodes_only(docker: Docker) -> None:
    assert docker.ok("run", "--rm", "busybox", "ls", "/dev").split() == DEVICES
    assert docker.ok("run", "--rm", "-t", "busybox", "ls", "-1", "/dev").split() == sorted([*DEVICES, "console"])
    out = docker.ok("run", "--rm", "busybox", "sh", "-c",
                    "cd /dev; stat -c '%n %a %t:%T' null zero full random urandom tty; "
                    "for l in $0 $@; do echo $l $(readlink $l); done", *LINKS)  # fmt: skip
    assert out.splitlines() == [
        "null 666 1:3", "zero 666 1:5", "full 666 1:7", "random 666 1:8", "urandom 666 1:9", "tty 666 5:0",
        *(f"{name} {target}" for name, target in LINKS.items()),
    ]  # fmt: skip


def test_the_device_cgroup_allows_docker_s_list_only(docker: Docker) -> None:
    rules = set(docker.ok("run", "--rm", "busybox", "cat", "/sys/fs/cgroup/devices/devices.list").splitlines())
    assert rules - {"c 10:200 rwm"} == DEVICE_RULES  # /dev/net/tun: up to runc 1.1


def test_a_device_that_is_not_allowed_cannot_be_opened(docker: Docker) -> None:
    outcome = docker("run", "--rm", "busybox", "sh", "-c", "mknod /kmsg c 1 11 && head -c 1 /kmsg")
    assert outcome.status == 1 and "Operation not permitted" in outcome.err


def test_every_namespace_but_user_and_time_is_its_own(docker: Docker, engine_kind: str) -> None:
    out = docker.ok(
        "run", "--rm", "busybox", "sh", "-c", "cd /proc/self/ns; for n in *; do echo $n $(readlink $n); done"
    )
    inside = dict(line.split(" ") for line in out.splitlines())
    own = {name for name, target in inside.items() if target != os.readlink(f"/proc/self/ns/{name}")}
    # the machine of the tests has its own network, mounts and cgroup view already
    assert own - {"cgroup"} == {"ipc", "mnt", "net", "pid", "pid_for_children", "uts"}
    assert inside["user"] == os.readlink("/proc/self/ns/user")


def test_the_hosts_ipc_comes_with_its_queues_also_where_the_host_mounts_none(docker: Docker) -> None:
    seen = docker.ok(
        "run", "--rm", "--ipc", "host", "busybox", "sh", "-c", "readlink /proc/self/ns/ipc; mount | grep mqueue"
    )
    namespace, mount = seen.splitlines()
    assert namespace == os.readlink("/proc/self/ns/ipc")
    assert mount.startswith("mqueue on /dev/mqueue type mqueue (rw,nosuid,nodev,noexec")


def test_the_seccomp_profile_refuses_what_docker_s_refuses(docker: Docker) -> None:
    for command in (
        "unshare -m true",
        "mount -t tmpfs x /tmp",
        "swapoff -a",
        "insmod /etc/passwd",
        "chroot / unshare -n true",
    ):
        outcome = docker("run", "--rm", "busybox", "sh", "-c", f"{command} 2>&1")
        assert outcome.status != 0, command
        assert re.search(r"not permitted|denied", outcome.out) or command.startswith(("swapoff", "insmod")), outcome.out


def test_host_paths_and_processes_are_out_of_sight(docker: Docker) -> None:
    out = docker.ok("run", "--rm", "busybox", "sh", "-c", "ls /proc | grep -c '^[0-9]'; ls /")
    assert int(out.splitlines()[0]) <= 5
    assert set(out.splitlines()[1:]) == {"bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "var"}


def test_the_root_file_system_s_oom_score_and_limits_are_docker_s(docker: Docker) -> None:
    assert docker.ok("run", "--rm", "busybox", "cat", "/proc/self/oom_score_adj") == "0"
    assert docker.ok("run", "--rm", "--oom-score-adj", "500", "busybox", "cat", "/proc/self/oom_score_adj") == "500"
