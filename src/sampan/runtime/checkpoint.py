"""The verb `checkpoint`: save a container's processes by CRIU, and end them unless they are to go on.

Source: runc checkpoint(8), criu.org/RPC.
"""

from __future__ import annotations

import os
import select

from sampan.errors import Conflict, Error
from sampan.linux import paths, process, procfs
from sampan.runtime import delete, document, state
from sampan.runtime.criu import messages, mounts, wishes, worker
from sampan.runtime.host import host_facts
from sampan.runtime.steps.situation import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.runtime.criu.wishes import Wishes

DESCRIPTORS = "descriptors.json"
"""Beside CRIU's images: what the standard streams were, a list of three strings as /proc/PID/fd shows them."""

LEAST_CRIU = 30000
_LOG = "dump.log"
_LOG_LEVEL = 4
_EXTERNAL = ("network", "pid")
_PATIENCE = 10.0


def checkpoint(root: str, found: dict[str, Any], wanted: Wishes, *, remove: bool = True) -> list[str]:
    """Save the container whose loaded state is `found` to the directory `wanted.images`, made if it is missing.

    Its processes have ended then and it is removed if `remove`, unless `wanted` says that it goes on or only memory is
    saved; what its poststop hooks had to complain of is returned. Errors: Conflict, InvalidArgument, Error in runc's
    words; the container runs on.
    """
    now = state.status(root, found)
    if now in ("created", "stopped"):
        raise Conflict(f"Container cannot be checkpointed in {now} state")
    make_directory(wanted.images)
    wishes.check_parent(wanted)
    wishes.check_release(wanted, LEAST_CRIU)
    if wanted.pre_dump:
        worker.check_feature(wanted.program, "mem_track")
    if wanted.options.get("lazy_pages"):
        worker.check_feature(wanted.program, "lazy_pages")
        _check_status_fd(wanted.status_fd)
    pidfd = _pidfd(found)
    held = [pidfd]
    try:
        options = _options(found, wanted, held)
        if not wanted.pre_dump:
            _save_descriptors(found, wanted.images)
        request = {"type": messages.PRE_DUMP if wanted.pre_dump else messages.DUMP, "opts": options}
        worker.converse(worker.Worker(worker.find(wanted.program)), request, _notify(wanted), wanted.log(_LOG))
        if wanted.pre_dump or wanted.leave_running:
            return []
        _await_end(pidfd)
    finally:
        for fd in held:
            os.close(fd)
    return delete.clean_up(root, found) if remove else []


def _pidfd(found: dict[str, Any]) -> int:
    """The container's first process, made sure of by its start time. Errors: Conflict."""
    try:
        pidfd = process.pidfd_open(found["init_process_pid"])
    except OSError:
        raise Conflict("Container cannot be checkpointed in stopped state") from None
    if not state.alive(found):
        os.close(pidfd)
        raise Conflict("Container cannot be checkpointed in stopped state")
    return pidfd


def make_directory(path: str) -> None:
    """A directory only for root: memory is no less secret in a file. Errors: Error in Go's words."""
    try:
        os.makedirs(path, 0o700, exist_ok=True)
    except OSError as error:
        raise Error(f"mkdir {path}: {words(error)}") from None


def _check_status_fd(fd: int) -> None:
    from fcntl import F_GETFL, fcntl

    if fd < 0:
        return
    try:
        flags = fcntl(fd, F_GETFL)
    except OSError as error:
        raise Error(f"invalid --status-fd argument {fd}: {words(error)}") from None
    if not flags & (os.O_WRONLY | os.O_RDWR):
        raise Error(f"invalid --status-fd argument {fd}: not writable")


def _options(found: dict[str, Any], wanted: Wishes, held: list[int]) -> dict[str, Any]:
    """CRIU's options; `held` takes the descriptors that they name."""
    spec, pid, cgroups = found["spec"], found["init_process_pid"], found["cgroup_paths"]
    options: dict[str, Any] = {
        **wanted.options,
        **directories(wanted, held),
        "pid": pid,
        "root": found["config"]["rootfs"],
        "log_level": _LOG_LEVEL,
        "log_file": _LOG,
        "manage_cgroups": True,
        "notify_scripts": True,
        "orphan_pts_master": True,
        "config_file": wishes.configuration_file(spec),
        "freeze_cgroup": cgroups.get("freezer") or (cgroups[""] if list(cgroups) == [""] else None),
        "external": _external_namespaces(found),
    }
    if wanted.parent:
        options.update(parent_img=wanted.parent, track_mem=True)
    if not wanted.pre_dump:
        top = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        held.append(top)
        options["ext_mnt"] = mounts.saved(spec, host_facts(), top)
    return options


def directories(wanted: Wishes, held: list[int], pid: int | str = "self") -> dict[str, int]:
    """The directories of images and logs as descriptors, which go to `held`. Errors: Error in Go's words.

    They are on the mounts of the process `pid`, symlinks on the way too.
    """
    found: dict[str, int] = {}
    if wanted.work:
        make_directory(wanted.work)
    top = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    held.append(top)
    for name, path in (("images_dir_fd", wanted.images), ("work_dir_fd", wanted.work)):
        if path:
            try:
                found[name] = paths.open_in_root(top, path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as error:
                raise Error(f"open {path}: {words(error)}") from None
            held.append(found[name])
    return found


def external_key(kind: str) -> str:
    """The name under which a namespace is saved that the container had joined by its path."""
    return f"extRoot{kind[:3].title()}NS"


def _external_namespaces(found: dict[str, Any]) -> list[str]:
    joined = [one["type"] for one in found["spec"].get("linux", {}).get("namespaces", []) if one.get("path")]
    pid = found["init_process_pid"]
    return [
        f"{kind[:3]}[{procfs.namespace_inode(pid, kind)}]:{external_key(kind)}" for kind in _EXTERNAL if kind in joined
    ]


def _save_descriptors(found: dict[str, Any], images: str) -> None:
    fd = os.open(f"{images}/{DESCRIPTORS}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, document.text_of(found.get("external_descriptors") or []).encode())
    finally:
        os.close(fd)


def _notify(wanted: Wishes) -> worker.Notify:
    def notify(script: str, pid: int, fds: list[int]) -> None:
        for fd in fds:
            os.close(fd)
        if script == "status-ready" and wanted.status_fd >= 0:
            # The server of pages listens: whoever waits for that may start the restore on the other side.
            os.write(wanted.status_fd, b"\0")
            os.close(wanted.status_fd)
            wanted.status_fd = -1

    return notify


def _await_end(pidfd: int) -> None:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    if not poller.poll(_PATIENCE * 1000):
        raise Error("container init still running")
