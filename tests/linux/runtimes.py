"""Bundles and OCI runtimes for tests: Debian's runc and ours, driven by the same command line."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable
from typing import Any

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OURS = [
    sys.executable,
    "-I",
    "-c",
    f"import sys; sys.path.insert(0, {os.path.join(REPOSITORY, 'src')!r}); sys.argv[0] = 'sampan-runc'; "
    "from sampan.runtime.__main__ import main; main()",
]
if "SAMPAN_RUNC" in os.environ:  # one that is installed, as in the small machine
    OURS = [os.environ["SAMPAN_RUNC"]]
UNIFIED = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
"""Whether the host has cgroup v2 alone, with other files than v1's."""
CGROUP = f"/sampan-runtime-tests-{os.getpid()}"
"""Of this run alone: it is removed whenever it is empty."""
COMMANDS = {"runc": ["runc"], "sampan-runc": OURS}

_APPLETS = (
    "sh", "cat", "echo", "env", "false", "grep", "head", "hostname", "id", "ls", "mkdir", "mount", "pwd", "readlink",
    "sleep", "stat", "stty", "touch", "true", "tty", "kill", "dd", "mknod", "umount", "unshare",
)  # fmt: skip

SPEC: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/true"],
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {
            name: ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
            for name in ("bounding", "effective", "permitted")
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "boat",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {
            "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        },
        {
            "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {
            "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
        },
    ],
    "linux": {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
        "maskedPaths": [
            "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
            "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
        ],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}  # fmt: skip


def make_rootfs(path: str) -> None:
    """A root file system with busybox and the directories an image has."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "mnt", "home/sailor"):
        os.makedirs(f"{path}/{name}", exist_ok=True)
    shutil.copy2(shutil.which("busybox") or "/bin/busybox", f"{path}/bin/busybox")
    for applet in _APPLETS:
        os.symlink("busybox", f"{path}/bin/{applet}")
    with open(f"{path}/etc/passwd", "w") as file:
        file.write("root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000::/home/sailor:/bin/sh\n")


class Runtime:
    """One runtime with a bundle, a state root and a cgroup of its own; `close` removes every trace."""

    def __init__(self, name: str, scratch: str) -> None:
        self.name = name
        self.command = COMMANDS[name]
        self.root = f"{scratch}/state"
        self.bundle = f"{scratch}/bundle"
        self.id = f"{name[:4]}-{uuid.uuid4().hex[:8]}"
        self.cgroup = f"{CGROUP}/{self.id}"
        self.ids = [self.id]
        os.makedirs(self.bundle)
        make_rootfs(f"{self.bundle}/rootfs")

    def write(self, change: Callable[[dict[str, Any]], object] | None = None, args: list[str] | None = None) -> None:
        """Write config.json: the default spec with `args` and whatever `change` does to it."""
        spec = copy.deepcopy(SPEC)
        spec["linux"]["cgroupsPath"] = self.cgroup
        if args:
            spec["process"]["args"] = args
        if change:
            change(spec)
        with open(f"{self.bundle}/config.json", "w") as file:
            json.dump(spec, file)

    def __call__(self, *words: str, check: bool = False, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the runtime's command line with its state root."""
        more.setdefault("stdin", subprocess.DEVNULL)
        more.setdefault("cwd", self.bundle)
        done = subprocess.run(
            [*self.command, "--root", self.root, *words],
            capture_output=True, text=True, timeout=30, **more,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stderr
        return done

    def run(
        self, args: list[str], change: Callable[[dict[str, Any]], object] | None = None, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """`run` a container with these args."""
        self.write(change, args)
        return self("run", self.id, **more)

    def shell(self, script: str, change: Callable[[dict[str, Any]], object] | None = None) -> str:
        """What a shell script prints in a container; it must succeed."""
        done = self.run(["/bin/sh", "-c", script], change)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def background(self, args: list[str], change: Callable[[dict[str, Any]], object] | None = None) -> dict[str, Any]:
        """`run -d`; the container's state."""
        self.write(change, args)
        done = subprocess.run(
            [*self.command, "--root", self.root, "run", "-d", self.id],
            cwd=self.bundle, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0
        return self.state()

    def create(self, change: Callable[[dict[str, Any]], object] | None = None, args: list[str] | None = None) -> int:
        """`create` with the standard streams at /dev/null; the exit code."""
        self.write(change, args)
        done = subprocess.run(
            [*self.command, "--root", self.root, "create", self.id],
            cwd=self.bundle, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30,
        )  # fmt: skip
        return done.returncode

    def state(self) -> dict[str, Any]:
        return dict(json.loads(self("state", self.id, check=True).stdout))

    def message(self, done: subprocess.CompletedProcess[str]) -> str:
        """The text of the error line that the runtime wrote."""
        line = done.stderr.strip().split("\n")[-1]
        text = line.partition("msg=")[2] or line
        return json.loads(text) if text.startswith('"') else text

    def cgroup_dirs(self) -> list[str]:
        """The container's cgroups that exist."""
        top = "/sys/fs/cgroup"
        places = [top, *(f"{top}/{name}" for name in os.listdir(top))]
        return [f"{place}{self.cgroup}" for place in places if os.path.isdir(f"{place}{self.cgroup}")]

    def traces(self) -> list[str]:
        """What of the container is left on the host: state, cgroups, mounts."""
        left = self.cgroup_dirs()
        if os.path.exists(f"{self.root}/{self.id}"):
            left.append(f"{self.root}/{self.id}")
        with open("/proc/self/mountinfo") as file:
            left += [line for line in file if self.bundle in line]
        return left

    def close(self) -> None:
        for name in self.ids:
            self("delete", "-f", name)
        for place in os.listdir("/sys/fs/cgroup"):
            try:
                os.rmdir(f"/sys/fs/cgroup/{place}{CGROUP}")
            except OSError:
                pass
