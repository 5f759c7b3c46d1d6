"""podman and containerd, told to have systemd make the cgroups, with Debian's runc and with ours."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.linux.runtimes import make_rootfs
from tests.peers.waiting import eventually

pytestmark = pytest.mark.skipif(
    not os.path.exists("/sys/fs/cgroup/cgroup.controllers"), reason="one kind of host is enough for callers"
)

RUNTIMES = {"runc": "/usr/sbin/runc", "sampan-runc": "/usr/bin/sampan-runc"}
LIMITS = "cat /proc/self/cgroup /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max"


def output(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=120).stdout


def units(pattern: str) -> list[str]:
    return [line.split()[0] for line in output("systemctl", "list-units", "--all", "--no-legend", pattern).splitlines()]


@pytest.fixture
def rootfs(tmp_path: Path) -> str:
    make_rootfs(str(tmp_path / "rootfs"))
    os.mkdir(tmp_path / "rootfs/run")
    return str(tmp_path / "rootfs")


@pytest.mark.parametrize("name", list(RUNTIMES))
def test_podman_has_its_containers_in_scopes(name: str, rootfs: str, tmp_path: Path) -> None:
    # It takes at most 50 letters for its sockets' directory.
    podman = ["podman", "--root", f"{tmp_path}/root", "--runroot", f"/run/{name}-podman", "--storage-driver", "vfs",
              "--events-backend", "file", "--cgroup-manager", "systemd", "--runtime", RUNTIMES[name]]  # fmt: skip
    fixed = ["--net", "none", "--memory", "64m", "--pids-limit", "30", "--rootfs", rootfs]
    assert output(*podman, "run", "--rm", *fixed, "/bin/sh", "-c", LIMITS).split() == ["0::/", "67108864", "30"]
    long = output(*podman, "run", "-d", "--name", "boat", *fixed, "/bin/sleep", "1000").strip()
    assert f"libpod-{long}.scope" in units("libpod-*")
    shown = output("systemctl", "show", "-p", "Slice", "-p", "MemoryMax", f"libpod-{long}.scope")
    assert set(shown.split()) == {"Slice=machine.slice", "MemoryMax=67108864"}
    assert output(*podman, "exec", "boat", "/bin/cat", "/proc/self/cgroup") == "0::/\n"
    output(*podman, "pause", "boat")
    output(*podman, "unpause", "boat")
    assert output(*podman, "stats", "--no-stream", "--format", "{{.PIDs}}", "boat").strip().endswith("1")
    output(*podman, "rm", "-f", "-t", "0", "boat")
    assert units(f"libpod-{long}.scope") == []


@pytest.fixture
def containerd(tmp_path: Path) -> Iterator[str]:
    address = f"{tmp_path}/containerd.sock"
    with open(tmp_path / "log", "w") as log:
        daemon = subprocess.Popen(
            ["containerd", "--root", f"{tmp_path}/root", "--state", f"{tmp_path}/state", "--address", address],
            stdout=log, stderr=log,
        )  # fmt: skip
    eventually(lambda: os.path.exists(address), within=60)
    yield address
    daemon.terminate()
    daemon.wait(30)


def test_containerd_has_its_containers_in_scopes(containerd: str, rootfs: str) -> None:
    ctr = ["ctr", "-a", containerd]
    for name, path in RUNTIMES.items():
        asked = ["--rootfs", "--runc-binary", path, "--runc-systemd-cgroup", "--cgroup", f"harbour.slice:ctr:{name}",
                 "--memory-limit", "67108864", rootfs, name]  # fmt: skip
        done = output(*ctr, "run", "--rm", *asked, "/bin/sh", "-c", "cat /proc/self/cgroup")
        assert done == f"0::/harbour.slice/ctr-{name}.scope\n"
        output(*ctr, "run", "-d", *asked, "/bin/sleep", "1000")
        shown = output("systemctl", "show", "-p", "Slice", "-p", "MemoryMax", f"ctr-{name}.scope")
        assert set(shown.split()) == {"Slice=harbour.slice", "MemoryMax=67108864"}
        output(*ctr, "task", "rm", "-f", name)
        assert units("ctr-*") == []
