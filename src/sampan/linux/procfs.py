"""Reading processes from /proc, and writing to /proc safely. Source: proc(5).

Model: `procfd` is a directory fd of a procfs. For writes it must come from `private_proc` or `open_proc`, so that
nothing a container mounts or links over /proc can redirect a label, sysctl or score elsewhere (CVE-2019-16884,
CVE-2025-52881). `pid` is a number, or "self" or "thread-self".
"""

from __future__ import annotations

import errno
import os

from sampan.linux import abi
from sampan.linux.call import failure
from sampan.linux.mount import new_mount
from sampan.linux.paths import fstatfs_type, openat2

TYPE_CHECKING = False
if TYPE_CHECKING:
    Pid = int | str

_INSIDE = abi.RESOLVE_BENEATH | abi.RESOLVE_NO_XDEV | abi.RESOLVE_NO_MAGICLINKS
_PROC_ROOT_INO = 1
_CHUNK = 65536


def private_proc(subset_pid: bool = False) -> int:
    """The fd of a detached procfs of this pid namespace that nobody else can reach or mount over.

    `subset_pid` leaves out all but the process directories, thus /proc/sys too. Errors: OSError; EPERM
    without CAP_SYS_ADMIN or where the visible /proc has mounts over it; ENOSYS before Linux 5.2.
    """
    options: list[tuple[str, str | None]] = [("subset", "pid")] if subset_pid else []
    return new_mount("proc", options, abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NODEV | abi.MOUNT_ATTR_NOEXEC)


def open_proc(path: str = "/proc") -> int:
    """The fd of the mounted procfs at `path`, for hosts where `private_proc` is not permitted.

    Errors: OSError; EINVAL when what stands there is not the root of a procfs.
    """
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if fstatfs_type(fd) != abi.PROC_SUPER_MAGIC or os.fstat(fd).st_ino != _PROC_ROOT_INO:
        os.close(fd)
        raise failure("open", errno.EINVAL, path, "not the root of a procfs")
    return fd


def open_file(procfd: int, path: str, flags: int) -> int:
    """Open a file below `procfd`, crossing no mount and no magic link, and make sure it is procfs's own."""
    fd = openat2(procfd, path, flags, 0, _INSIDE)
    if fstatfs_type(fd) != abi.PROC_SUPER_MAGIC:
        os.close(fd)
        raise failure("open", errno.EXDEV, path, "not on procfs")
    return fd


def write_file(procfd: int, path: str, content: str | bytes) -> None:
    """Write `content` to a file below `procfd` in one write(2), which is one transaction to procfs. Errors: OSError."""
    data = content if isinstance(content, bytes) else content.encode()
    fd = open_file(procfd, path, os.O_WRONLY)
    try:
        os.write(fd, data)
    except OSError as error:
        raise failure("write", error.errno or 0, f"/proc/{path}") from None
    finally:
        os.close(fd)


def read_file(path: str, procfd: int | None = None) -> str:
    """A whole file below `procfd`, or below the mounted /proc. Errors: OSError; ESRCH or ENOENT for a gone process."""
    if procfd is None:
        fd = os.open(f"/proc/{path}", os.O_RDONLY | os.O_CLOEXEC)
    else:
        fd = open_file(procfd, path, os.O_RDONLY)
    try:
        parts: list[bytes] = []
        while part := os.read(fd, _CHUNK):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode("utf-8", "surrogateescape")


def sysctl_path(key: str) -> str:
    """The path below /proc of a sysctl: "net.ipv4.ip_forward" is "sys/net/ipv4/ip_forward".

    As in sysctl(8) the first separator decides: after a "." each "/" stands for a dot in a name, after a "/"
    dots are ordinary. Errors: OSError EINVAL for an empty part or "..".
    """
    dot, slash = key.find("."), key.find("/")
    if dot >= 0 and (slash < 0 or dot < slash):
        key = key.translate({ord("."): "/", ord("/"): "."})
    if any(part in ("", ".", "..") for part in key.split("/")):
        raise failure("sysctl", errno.EINVAL, key)
    return f"sys/{key}"


def write_sysctl(procfd: int, key: str, value: str) -> None:
    """Set a sysctl of this process's namespaces. Errors: OSError."""
    write_file(procfd, sysctl_path(key), value)


def read_sysctl(key: str, procfd: int | None = None) -> str:
    """The value of a sysctl, without the last newline. Errors: OSError."""
    return read_file(sysctl_path(key), procfd).rstrip("\n")


def set_oom_score_adj(procfd: int, pid: Pid, score: int) -> None:
    """Set the OOM score adjustment, -1000..1000; lowering it needs CAP_SYS_RESOURCE (EACCES)."""
    write_file(procfd, f"{pid}/oom_score_adj", str(score))


def parse_stat(text: str) -> tuple[str, int, int]:
    """(state letter, parent's pid, start time in clock ticks since boot) of a /proc/PID/stat line.

    Errors: ValueError for anything else.
    """
    # The second field is the comm in parentheses and may itself hold spaces and parentheses.
    fields = text[text.rfind(")") + 2 :].split()
    if len(fields) < 20:
        raise ValueError(f"not a process stat line: {text!r}")
    return fields[0], int(fields[1]), int(fields[19])


def stat(pid: Pid, procfd: int | None = None) -> tuple[str, int, int]:
    """`parse_stat` of a process. Errors: OSError, ESRCH or ENOENT when it is gone."""
    return parse_stat(read_file(f"{pid}/stat", procfd))


def start_time(pid: Pid, procfd: int | None = None) -> int:
    """Clock ticks from boot to the process's start: with the pid, a process's identity. Errors as `stat`."""
    return stat(pid, procfd)[2]


def parse_status(text: str) -> dict[str, str]:
    """The fields of /proc/PID/status, values as the kernel's text."""
    fields: dict[str, str] = {}
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            fields[name] = value.strip()
    return fields


def status(pid: Pid, procfd: int | None = None) -> dict[str, str]:
    """The fields of a process's status, as "CapEff", "NSpid", "Seccomp". Errors as `stat`."""
    return parse_status(read_file(f"{pid}/status", procfd))


def namespace_path(pid: Pid, namespace: str) -> str:
    """The path of a process's namespace; `namespace` is the OCI name ("mount", "network", ...). Errors: KeyError."""
    return f"/proc/{pid}/ns/{abi.NAMESPACES[namespace][1]}"


def namespace_inode(pid: Pid, namespace: str) -> int:
    """The inode number that identifies the namespace, as in its link "net:[4026531840]". Errors: OSError."""
    return os.stat(namespace_path(pid, namespace)).st_ino


def open_namespace(pid: Pid, namespace: str) -> int:
    """A close-on-exec fd that keeps the namespace alive and can be given to setns. Errors: OSError."""
    return os.open(namespace_path(pid, namespace), os.O_RDONLY | os.O_CLOEXEC)


def is_namespace(fd: int) -> bool:
    """Whether `fd` is a namespace file."""
    return fstatfs_type(fd) == abi.NSFS_MAGIC
