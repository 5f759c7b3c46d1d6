"""The cgroup file systems: which hierarchies are mounted, where a process is, and their control files.

Model: a hierarchy is a tree of cgroups; v1 has one for each controller or group of them, v2 has a single
one. A machine is "legacy" (only v1), "unified" (only v2) or "hybrid" (both: v1 has the controllers that v2
lacks). A cgroup is handled by the fd of its directory. What to write is the runtime's business. Sources:
cgroups(7), Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os

from sampan.linux import abi
from sampan.linux.call import failure
from sampan.linux.paths import fd_path, fstatfs_type, openat2
from sampan.linux.procfs import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from sampan.linux.mountinfo import Mount

_INSIDE = abi.RESOLVE_BENEATH | abi.RESOLVE_NO_XDEV | abi.RESOLVE_NO_SYMLINKS
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MAGICS = (abi.CGROUP_SUPER_MAGIC, abi.CGROUP2_SUPER_MAGIC)
# Words among a v1 hierarchy's super options that are not controllers (cgroups(7), kernel/cgroup/cgroup-v1.c).
_V1_FLAGS = {"rw", "ro", "noprefix", "clone_children", "cpuset_v2_mode", "xattr", "favordynmods", "none"}


class Hierarchy:
    """One mounted hierarchy: `version` 1 or 2, its `controllers`, the `name` of a named v1 hierarchy or "".

    `root` is the cgroup that appears at `mount_point`: "/", or another one in a container. v2's controllers
    are those of the file cgroup.controllers there.
    """

    __slots__ = ("controllers", "mount_point", "name", "root", "version")

    def __init__(self, version: int, controllers: tuple[str, ...], name: str, mount_point: str, root: str) -> None:
        self.version = version
        self.controllers = controllers
        self.name = name
        self.mount_point = mount_point
        self.root = root

    def keys(self) -> tuple[str, ...]:
        """The names under which `paths` lists this hierarchy: its controllers, "name=NAME", or "" for v2."""
        if self.version == 2:
            return ("",)
        return (*self.controllers, f"name={self.name}") if self.name else self.controllers

    def directory(self, path: str) -> str:
        """The directory of the cgroup `path` (as in /proc/PID/cgroup). Errors: OSError ENOENT when not below root."""
        root = self.root.rstrip("/")
        if root and path != root and not path.startswith(root + "/"):
            raise failure("open", errno.ENOENT, path, f"outside of cgroup {self.root!r}")
        return self.mount_point.rstrip("/") + "/" + path[len(root) :].strip("/")

    def __repr__(self) -> str:
        return f"Hierarchy(v{self.version} {','.join(self.keys())!r} at {self.mount_point!r})"


def hierarchies(mounts: Iterable[Mount]) -> list[Hierarchy]:
    """The cgroup hierarchies among `mounts` (see `mountinfo.read`), each once, where it was mounted first."""
    found: dict[str, Hierarchy] = {}
    for mount in mounts:
        if mount.device in found:
            continue
        if mount.fstype == "cgroup2":
            found[mount.device] = Hierarchy(2, _v2_controllers(mount.mount_point), "", mount.mount_point, mount.root)
        elif mount.fstype == "cgroup":
            words = mount.super_options.split(",")
            name = next((word[5:] for word in words if word.startswith("name=")), "")
            controllers = tuple(word for word in words if word not in _V1_FLAGS and "=" not in word)
            found[mount.device] = Hierarchy(1, controllers, name, mount.mount_point, mount.root)
    return list(found.values())


def _v2_controllers(mount_point: str) -> tuple[str, ...]:
    try:
        with open(f"{mount_point}/cgroup.controllers", encoding="utf-8") as file:
            return tuple(file.read().split())
    except OSError:
        return ()  # the mount is hidden under another one: nothing can be controlled through it


def mode(found: Iterable[Hierarchy]) -> str:
    """ "legacy", "unified", "hybrid", or "none" when nothing is mounted."""
    versions = {hierarchy.version for hierarchy in found}
    return {frozenset(): "none", frozenset({1}): "legacy", frozenset({2}): "unified"}.get(frozenset(versions), "hybrid")


def parse_paths(text: str) -> dict[str, str]:
    """The content of /proc/PID/cgroup: controller, "name=NAME" or "" (v2) to the cgroup's path.

    Errors: ValueError for anything else.
    """
    found: dict[str, str] = {}
    for line in text.split("\n"):
        if not line:
            continue
        fields = line.split(":", 2)
        if len(fields) != 3:
            raise ValueError(f"not a cgroup line: {line!r}")
        for key in fields[1].split(","):
            found[key] = fields[2]
    return found


def paths(pid: int | str = "self", procfd: int | None = None) -> dict[str, str]:
    """`parse_paths` of a process. Errors: OSError."""
    return parse_paths(read_file(f"{pid}/cgroup", procfd))


def open_cgroup(directory: str) -> int:
    """The fd of a cgroup's directory. Errors: OSError; EINVAL when it is not on a cgroup file system."""
    fd = os.open(directory, _DIRECTORY)
    if fstatfs_type(fd) not in _MAGICS:
        os.close(fd)
        raise failure("open", errno.EINVAL, directory, "not a cgroup")
    return fd


def open_below(dirfd: int, path: str) -> int:
    """The fd of the cgroup `path` (relative) below another one, without leaving it."""
    return openat2(dirfd, path, _DIRECTORY, 0, _INSIDE)


def read(dirfd: int, name: str) -> str:
    """The whole content of a control file. Errors: OSError, ENOENT when the controller is not there."""
    fd = _open(dirfd, name, os.O_RDONLY)
    try:
        parts: list[bytes] = []
        while part := os.read(fd, 65536):
            parts.append(part)
    except OSError as error:
        raise failure("read", error.errno or 0, f"{fd_path(dirfd)}/{name}") from None
    finally:
        os.close(fd)
    return b"".join(parts).decode("ascii", "replace")


def write(dirfd: int, name: str, value: str) -> None:
    """Write a control file in one write(2), which is one command to the kernel. Errors: OSError."""
    fd = _open(dirfd, name, os.O_WRONLY)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        raise failure("write", error.errno or 0, f"{fd_path(dirfd)}/{name}") from None
    finally:
        os.close(fd)


def _open(dirfd: int, name: str, flags: int) -> int:
    try:
        return openat2(dirfd, name, flags, 0, _INSIDE)
    except OSError as error:
        raise failure("openat2", error.errno or 0, f"{fd_path(dirfd)}/{name}") from None


def mkdirs(dirfd: int, path: str, mode: int = 0o755) -> int:
    """The fd of the cgroup `path` (relative) below `dirfd`; it and its parents are made where missing."""
    here = os.open(".", _DIRECTORY, dir_fd=dirfd)
    for name in path.split("/"):
        if name in ("", "."):
            continue
        try:
            try:
                os.mkdir(name, mode, dir_fd=here)
            except FileExistsError:
                pass
            deeper = open_below(here, name)
        finally:
            os.close(here)
        here = deeper
    return here


def children(dirfd: int) -> list[str]:
    """The names of the cgroups right below, sorted."""
    with os.scandir(dirfd) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))


def processes(dirfd: int) -> list[int]:
    """The processes in this very cgroup; one of a pid namespace we cannot see is 0 on v2 and left out on v1."""
    return [int(line) for line in read(dirfd, "cgroup.procs").split()]


def tree_processes(dirfd: int) -> list[int]:
    """The processes in this cgroup and all below it."""
    found = processes(dirfd)
    for name in children(dirfd):
        try:
            below = open_below(dirfd, name)
        except FileNotFoundError:
            continue  # removed since the listing
        try:
            found += tree_processes(below)
        finally:
            os.close(below)
    return found


def add_process(dirfd: int, pid: int) -> None:
    """Move a process (0 is the caller) with all its threads into this cgroup. Errors: OSError."""
    write(dirfd, "cgroup.procs", str(pid))


def signal_tree(dirfd: int, sig: int) -> int:
    """Send `sig` to each process in the tree once; return how many got it.

    A process that forks meanwhile is missed: freeze the tree first, or repeat until 0. On v2 `kill_tree` is
    exact.
    """
    count = 0
    for pid in tree_processes(dirfd):
        if pid <= 0:
            continue  # of another pid namespace: kill(0) would hit the caller's own process group
        try:
            os.kill(pid, sig)
            count += 1
        except ProcessLookupError:
            continue
    return count


def kill_tree(dirfd: int) -> bool:
    """SIGKILL the whole tree in one stroke through cgroup.kill; False when the kernel has none (v1, < 5.14)."""
    try:
        write(dirfd, "cgroup.kill", "1")
    except FileNotFoundError:
        return False
    return True


def remove_tree(parentfd: int, name: str) -> None:
    """Remove the cgroup `name` below `parentfd` with all cgroups in it; it is no error when it is gone.

    Errors: OSError EBUSY while a process is left, which may last some ms after its exit on v1.
    """
    # Nearly every cgroup is a leaf by now, and rmdir alone says so: one call instead of six on the way of an exit.
    if _rmdir(parentfd, name):
        return
    try:
        here = open_below(parentfd, name)
    except FileNotFoundError:
        return
    try:
        for child in children(here):
            remove_tree(here, child)
    finally:
        os.close(here)
    if not _rmdir(parentfd, name):
        raise failure("rmdir", errno.EBUSY, f"{fd_path(parentfd)}/{name}")


def _rmdir(parentfd: int, name: str) -> bool:
    """Remove one cgroup, gone being as good; False while it has processes or cgroups in it."""
    try:
        os.rmdir(name, dir_fd=parentfd)
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno in (errno.EBUSY, errno.ENOTEMPTY):
            return False
        raise failure("rmdir", error.errno or 0, f"{fd_path(parentfd)}/{name}") from None
    return True
