"""A machine of our own on this kernel: network, mounts, cgroups that hold nothing of anybody else.

Engines under test run inside it, so that two test runs on one host never meet, what an engine leaves behind can
be counted exactly, and the host's own firewall, links and cgroup mounts are never touched:

    host ── mntns: private copy, own /sys, own /sys/fs/cgroup rooted at the machine's own cgroup, own /run/containerd
        └── netns: lo + eth0 203.0.113.1 ── veth ── 203.0.113.2 "outside" (a second netns with no way back in)

The process, pid and user namespaces are the host's.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO

from tests.peers.waiting import eventually

CGROUPS = "/sys/fs/cgroup"
MACHINE_ADDRESS = "203.0.113.1"
OUTSIDE_ADDRESS = "203.0.113.2"
REGISTRY_ADDRESS = "198.51.100.7"
"""An address on the machine's `lo` outside 127.0.0.0/8, because Docker trusts loopback registries without TLS."""
PREFIX = "sampan-tests-"
"""Of the machine's cgroup; the pid of the test run and a name follow."""
REGISTRY_NAME = "registry.test"
CLONE_NEWNET = 0x40000000

_ENTER = 'for c in "$1"/*; do echo $$ > "$c/$2/cgroup.procs"; done; shift 2; exec nsenter --wdns="$PWD" "$@"'

_BOOT = f"""
set -e
[ "$(readlink /proc/self/ns/mnt)" != "$1" ]
kinds=$(cd {CGROUPS} && ls)
grep -E ' {CGROUPS}/[^ ]+ cgroup2? ' /proc/self/mounts > "$2/cgroups"
umount -R -l /sys
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t tmpfs -o mode=755,nosuid,nodev,noexec cgroup_root {CGROUPS}
while read -r device path type options rest; do
    mkdir -p "$path"
    case $type in
        cgroup2) mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$path" ;;
        *) case $options in
            *name=*) mount -t cgroup -o "nosuid,nodev,noexec,none,name=${{options##*name=}}" cgroup "$path" ;;
            *) mount -t cgroup -o "nosuid,nodev,noexec,$(basename "$path")" cgroup "$path" ;;
        esac ;;
    esac
done < "$2/cgroups"
mkdir -p /run/containerd "$2/etc-docker"
mount -t tmpfs -o mode=711 run_containerd /run/containerd
printf '127.0.0.1 localhost\\n{REGISTRY_ADDRESS} {REGISTRY_NAME}\\n' > "$2/hosts"
mount --bind "$2/hosts" /etc/hosts
printf 'nameserver {OUTSIDE_ADDRESS}\\noptions timeout:1 attempts:1\\n' > "$2/resolv.conf"
mount --bind "$2/resolv.conf" "$(readlink -f /etc/resolv.conf)"
if [ -d /etc/docker ]; then mount --bind "$2/etc-docker" /etc/docker; fi
ip link set lo up
ip address add {REGISTRY_ADDRESS}/32 dev lo
echo ready
exec cat
"""


class Machine:
    """Namespaces and a cgroup subtree of this kernel; `close` removes everything it made.

    `scratch` is a directory of the host (visible in both mount namespaces) that the machine may fill; `name` tells
    several machines of one process apart.
    """

    def __init__(self, scratch: str, name: str = "main") -> None:
        self.scratch = scratch
        _sweep()
        self.cgroup = f"{PREFIX}{os.getpid()}-{name}"
        self._make_cgroups()
        here = os.readlink("/proc/self/ns/mnt")
        self._holder = _held(
            ["sh", "-c", 'for c in "$1"/*; do echo $$ > "$c/$2/cgroup.procs"; done; shift 2; exec "$@"',
             "sh", CGROUPS, self.cgroup,
             "unshare", "--mount", "--net", "--cgroup", "--propagation", "private",
             "sh", "-c", _BOOT, "sh", here, scratch]
        )  # fmt: skip
        self._outside = _held(["unshare", "--net", "sh", "-c", "ip link set lo up; echo ready; exec cat"])
        self.pid = self._holder.pid
        self.outside_pid = self._outside.pid
        self._wire_outside()

    def _make_cgroups(self) -> None:
        for kind in os.listdir(CGROUPS):
            os.makedirs(f"{CGROUPS}/{kind}/{self.cgroup}", exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            # a new v1 cpuset is empty, and no process may join it before it has been told its share
            if os.path.exists(f"{CGROUPS}/cpuset/{name}"):
                with open(f"{CGROUPS}/cpuset/{name}") as theirs:
                    share = theirs.read()
                with open(f"{CGROUPS}/cpuset/{self.cgroup}/{name}", "w") as ours:
                    ours.write(share)

    def _wire_outside(self) -> None:
        self.run(["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0",
                  "netns", str(self.outside_pid)])  # fmt: skip
        self.run(["ip", "address", "add", f"{MACHINE_ADDRESS}/24", "dev", "eth0"])
        self.run(["ip", "link", "set", "eth0", "up"])
        self.run(["ip", "route", "add", "default", "via", OUTSIDE_ADDRESS])
        for step in (["address", "add", f"{OUTSIDE_ADDRESS}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
            subprocess.run(["nsenter", "-t", str(self.outside_pid), "-n", "ip", *step], check=True)

    def entering(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in the machine: its cgroup, its namespaces; the same pid and directory."""
        return ["sh", "-c", _ENTER, "sh", CGROUPS, self.cgroup,
                "-t", str(self.pid), "-m", "-n", "-C", "--", *argv]  # fmt: skip

    def run(self, argv: Sequence[str], *, check: bool = True) -> str:
        """Runs a command in the machine and yields its stdout; raises AssertionError with its stderr."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-m", "-n", "-C", "--", *argv],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{argv}: {done.stderr}"
        return done.stdout

    def spawn(
        self, argv: Sequence[str], *, log: IO[bytes], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Starts a daemon in the machine's namespaces and cgroup; the Popen's pid is the daemon's own."""
        return subprocess.Popen(
            self.entering(argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )

    @contextmanager
    def network(self) -> Iterator[None]:
        """Sockets this thread makes inside the block belong to the machine's network for as long as they live."""
        with network_of(self.pid):
            yield

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Likewise for the netns that stands for the rest of the world."""
        with network_of(self.outside_pid):
            yield

    def mounts(self) -> list[str]:
        """Mount points of the machine as text lines `type path`, in mount order."""
        with open(f"/proc/{self.pid}/mountinfo") as table:
            rows = [line.split() for line in table]
        return [f"{row[row.index('-') + 1]} {row[4]}" for row in rows]

    def cgroups(self) -> list[str]:
        """Every cgroup below the machine's own, in every hierarchy, relative to the host's mounts."""
        found = []
        for kind in os.listdir(CGROUPS):
            top = f"{CGROUPS}/{kind}/{self.cgroup}"
            for path, _, _ in os.walk(top):
                if path != top:
                    found.append(f"{kind}{path[len(top) :]}")
        return sorted(found)

    def processes(self) -> dict[int, str]:
        """Command lines by pid of all processes in the machine's cgroup and below, without the holder."""
        pids = _members(f"{CGROUPS}/{_counting_hierarchy()}/{self.cgroup}")
        pids.discard(self.pid)
        return {pid: line for pid in sorted(pids) if (line := _command_line(pid)) is not None}

    def links(self) -> list[str]:
        """Names of the network links of the machine."""
        text = self.run(["ip", "-o", "link", "show"])
        return sorted(re.findall(r"^\d+: ([^:@]+)", text, re.MULTILINE))

    def firewall(self) -> str:
        """The whole nftables rule set without counters and handles."""
        text = self.run(["nft", "-s", "list", "ruleset"])
        return re.sub(r"counter packets \d+ bytes \d+", "counter", text)

    def netnses(self) -> set[str]:
        """Network namespaces that live by a mount or a process of the machine, but its own."""
        found = set()
        for line in self.mounts():
            kind, path = line.split(" ", 1)
            if kind == "nsfs":
                found.add(path)
        own = os.readlink(f"/proc/{self.pid}/ns/net")
        for pid in self.processes():
            try:
                found.add(os.readlink(f"/proc/{pid}/ns/net"))
            except OSError:
                continue  # ended while we looked
        return found - {own}

    def close(self) -> None:
        """Ends the holders, then removes the cgroups; raises AssertionError when a process is still inside."""
        left = self.processes()
        for pid in left:
            _kill(pid)
        for holder in (self._holder, self._outside):
            assert holder.stdin is not None
            holder.stdin.close()
            holder.wait(timeout=10)
        eventually(self._remove_cgroups, what="the machine's cgroups are empty and removed")
        assert not left, f"processes left in the machine: {left}"

    def _remove_cgroups(self) -> bool:
        return _remove_cgroup(self.cgroup)


def _sweep() -> None:
    """Ends what test runs left that were killed before they could clean up: known by the dead pid in the name."""
    kind = _counting_hierarchy()
    for name in os.listdir(f"{CGROUPS}/{kind}"):
        if name.startswith(PREFIX) and not os.path.exists(f"/proc/{name.removeprefix(PREFIX).split('-')[0]}"):

            def gone(name: str = name) -> bool:
                for pid in _members(f"{CGROUPS}/{kind}/{name}"):
                    _kill(pid)
                return _remove_cgroup(name)

            eventually(gone, what=f"the leftover cgroup {name} is empty and removed")


def _counting_hierarchy() -> str:
    """The hierarchy under /sys/fs/cgroup that is asked which processes are in a machine."""
    return next(kind for kind in ("pids", "memory", "systemd", "unified") if os.path.isdir(f"{CGROUPS}/{kind}"))


def _members(top: str) -> set[int]:
    """Pids in the cgroup directory `top` and below."""
    pids: set[int] = set()
    for path, _, _ in os.walk(top):
        try:
            with open(f"{path}/cgroup.procs") as members:
                pids.update(int(line) for line in members)
        except OSError:
            continue  # removed while we walked
    return pids


def _remove_cgroup(name: str) -> bool:
    """Removes a cgroup and those below it in every hierarchy; False when one is still in use."""
    gone = True
    for kind in os.listdir(CGROUPS):
        for path, _, _ in os.walk(f"{CGROUPS}/{kind}/{name}", topdown=False):
            try:
                os.rmdir(path)
            except OSError:
                gone = False
    return gone


def _held(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    """Starts a namespace holder, which ends by itself when this process (its stdin) goes."""
    holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n", f"cannot make a machine: {argv[:6]}"
    return holder


@contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Sockets this thread makes inside the block belong to the network of the process `pid`."""
    libc = ctypes.CDLL(None, use_errno=True)
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.setns(there, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            assert libc.setns(back, CLONE_NEWNET) == 0, f"thread {threading.get_ident()} lost its network"
    finally:
        os.close(there)
        os.close(back)


def _command_line(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as raw:
            return raw.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return None


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        pass
