"""The verb `spec`: an example config.json, the one runc writes. Source: runc specconv/example.go."""

from __future__ import annotations

import os

from sampan.errors import AlreadyExists
from sampan.runtime import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
MASKED_PATHS = [
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
]  # fmt: skip
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def _mount(destination: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = {"destination": destination, "type": kind, "source": source}
    if options:
        found["options"] = list(options)
    return found


def example(rootless: bool = False) -> dict[str, Any]:
    """The document."""
    sysfs = _mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
    devpts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    mounts = [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", *devpts, *([] if rootless else ["gid=5"])),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro") if rootless else sysfs,
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro"),
    ]
    kinds = (
        ["pid", "ipc", "uts", "mount", "cgroup"] if rootless else ["pid", "network", "ipc", "uts", "mount", "cgroup"]
    )
    linux: dict[str, Any] = {
        "namespaces": [{"type": kind} for kind in [*kinds, *(["user"] if rootless else [])]],
        "maskedPaths": MASKED_PATHS,
        "readonlyPaths": READONLY_PATHS,
    }
    if rootless:
        linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": _CAPABILITIES, "effective": _CAPABILITIES, "permitted": _CAPABILITIES},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runc",
        "mounts": mounts,
        "linux": linux,
    }


def write(bundle: str, rootless: bool) -> None:
    """Write config.json in `bundle`. Errors: AlreadyExists with runc's text."""
    text = document.text_of(example(rootless), indent=1).replace("\n ", "\n ")
    lines = []
    for line in text.split("\n"):
        depth = len(line) - len(line.lstrip(" "))
        lines.append("\t" * depth + line[depth:])
    try:
        fd = os.open(f"{bundle}/config.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise AlreadyExists("File config.json exists. Remove it first") from None
    try:
        os.write(fd, "\n".join(lines).encode())
    finally:
        os.close(fd)
