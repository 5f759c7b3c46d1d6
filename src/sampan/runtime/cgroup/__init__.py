"""A container's cgroups: where they are, making, limiting, freezing and removing them, on v1, v2 and hybrid hosts.

Model: `paths` is runc's "cgroup_paths": controller ("memory"), "name=systemd" or "" (v2) to the absolute directory of
the container's cgroup there. It is computed without touching anything, made by `create`, and kept in state.json.
Every other function takes it and nothing else. Sources: cgroups(7), runc libcontainer/cgroups.
"""

from __future__ import annotations

import errno
import os
import time

from sampan.errors import Conflict, Error, InvalidArgument
from sampan.linux import abi, cgroupfs
from sampan.runtime.cgroup import v1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.spec import Resources
    from sampan.runtime.cgroup.systemd import Settings
    from sampan.runtime.host import HostFacts

    Paths = dict[str, str]

_REMOVE_PATIENCE = 2.0
_REMOVE_PAUSE = 0.002


def paths(host: HostFacts, cgroups_path: str, container_id: str) -> Paths:
    """Where the container's cgroups are: below each tree's root for an absolute `cgroups_path`, else below our own."""
    relative = not cgroups_path.startswith("/")
    from sampan.runtime.plan.mounts import clean  # a verb that makes no cgroup needs nothing of planning

    inner = clean(cgroups_path or container_id)
    found: Paths = {}
    for hierarchy in host.hierarchies:
        keys = hierarchy.keys()
        own = host.own_cgroups.get(keys[0], "/") if relative and hierarchy.version == 1 else ""
        try:
            directory = hierarchy.directory(clean(own + inner))
        except OSError:
            # Our own cgroup is not visible in this mount: what is visible is all there is for a container.
            directory = hierarchy.mount_point + inner
        for key in keys:
            found[key] = directory
    return found


def writable(found: Paths) -> Paths:
    """`found`, or {} when this process may not make one of them: a rootless container then has none of its own."""
    for directory in dict.fromkeys(found.values()):
        place = directory
        while not os.path.exists(place):
            place = os.path.dirname(place)
        if not os.access(place, os.W_OK):
            return {}
    return found


def create(found: Paths) -> None:
    """Make the cgroups. Errors: OSError; Conflict when one is there already and has processes in it or is frozen."""
    made: Paths = {}
    try:
        for directory in dict.fromkeys(found.values()):
            if _make(directory):
                made[directory] = directory
        _prepare(found)
    except BaseException:
        remove(made)
        raise


def _prepare(found: Paths) -> None:
    if "cpuset" in found:
        v1.inherit_cpuset(found["cpuset"])
    if _unified_only(found):
        from sampan.runtime.cgroup import v2

        v2.enable_controllers(found[""])


def check_unused(found: Paths) -> None:
    """Errors: Conflict when one of the cgroups is there and has processes in it."""
    for directory in dict.fromkeys(found.values()):
        if os.path.isdir(directory):
            _make(directory)


def complete(found: Paths) -> None:
    """Make what a manager of units has not made of the cgroups, and hand all controllers down. Errors: OSError."""
    for directory in dict.fromkeys(found.values()):
        os.makedirs(directory, 0o755, exist_ok=True)
    _prepare(found)


def _make(directory: str) -> bool:
    """Whether it was missing, and is there now. Errors: Conflict when it is in use, OSError."""
    try:
        os.mkdir(directory, 0o755)
        return True
    except FileNotFoundError:
        os.makedirs(directory, 0o755, exist_ok=True)
        return True
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise Error(f"unable to apply cgroup configuration: mkdir {directory}: {error.strerror}") from None
        raise
    fd = cgroupfs.open_cgroup(directory)
    try:
        members = len(cgroupfs.processes(fd))
    finally:
        os.close(fd)
    if members:
        raise Conflict(f"container's cgroup is not empty: {members} process(es) found")
    return False


def open_joins(found: Paths) -> tuple[int | None, list[int]]:
    """(fd of the v2 cgroup for CLONE_INTO_CGROUP or None, fds of the v1 `tasks` files for init to write)."""
    unified = None
    tasks: list[int] = []
    try:
        for directory in dict.fromkeys(found.values()):
            if found.get("") == directory:
                unified = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            else:
                tasks.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))
    except OSError:
        for fd in tasks if unified is None else [unified, *tasks]:
            os.close(fd)
        raise
    return unified, tasks


def entrance(found: Paths, init: int, host: HostFacts) -> Paths:
    """Where one more process of a container goes whose first is `init`.

    Once the container has divided its own v2 cgroup (as systemd and docker do inside one) the kernel lets no process
    into that any more: then where init has gone. Errors: OSError when init has ended.
    """
    if not _unified_only(found) or not v1.read(found[""], "cgroup.subtree_control"):
        return found
    return {"": host.hierarchies[0].directory(cgroupfs.paths(init)[""])}


def apply(found: Paths, resources: Resources, update: bool = False, settings: Settings | None = None) -> None:
    """Set the limits. Errors: InvalidArgument for one the host has no controller for, Error with runc's text.

    With `update` the device rules are left as they are. `settings` is the state's config.cgroups: it says whether
    systemd is to know of them too.
    """
    if _unified_only(found):
        from sampan.runtime.cgroup import v2

        v2.check_usage(found[""], resources)
    if settings and settings.get("Systemd"):
        from sampan.runtime.cgroup import unit

        unit.set_limits(settings, found, resources, update)
    if _unified_only(found):
        v2.apply(found[""], resources, update, bool(settings and settings.get("Rootless")))
    elif found:
        v1.apply(found, resources, update)
    elif any(resources.get(name) for name in ("memory", "cpu", "pids", "blockIO")):
        raise InvalidArgument("linux.resources: no cgroups are mounted on this host")


def _unified_only(found: Paths) -> bool:
    return list(found) == [""]


def remove(found: Paths, settings: Settings | None = None) -> None:
    """Remove the cgroups with all below them. A process that has just ended holds its cgroup for a moment more.

    With `settings` (the state's config.cgroups) that name a unit, systemd stops that first.
    """
    if settings and settings.get("Systemd"):
        from sampan.runtime.cgroup import unit

        unit.stop(settings)
    for directory in dict.fromkeys(found.values()):
        if directory.rstrip("/").count("/") < 2:
            continue
        deadline = time.monotonic() + _REMOVE_PATIENCE
        while True:
            try:
                os.rmdir(directory)
                break
            except FileNotFoundError:
                break
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                    raise
                if time.monotonic() > deadline:
                    raise Error(f"unable to remove cgroup {directory}: {os.strerror(error.errno).lower()}") from None
            _remove_children(directory)
            time.sleep(_REMOVE_PAUSE)


def _remove_children(directory: str) -> None:
    """Containers make cgroups of their own below theirs."""
    try:
        fd = cgroupfs.open_cgroup(directory)
    except FileNotFoundError:
        return
    try:
        for name in cgroupfs.children(fd):
            try:
                cgroupfs.remove_tree(fd, name)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
    finally:
        os.close(fd)


def exists(found: Paths) -> bool:
    return any(os.path.isdir(directory) for directory in found.values())


def pids(found: Paths) -> list[int]:
    """All processes in the container's cgroup and below it, ascending. Errors: OSError."""
    # The devices tree is the one runc asks; every other knows the same processes.
    directory = found.get("devices") or next(iter(found.values()), "")
    if not directory:
        return []
    fd = cgroupfs.open_cgroup(directory)
    try:
        return sorted(cgroupfs.tree_processes(fd))
    finally:
        os.close(fd)


def freeze(found: Paths, frozen: bool) -> None:
    """Stop or go on with all processes. Errors: Error when the host cannot, or the kernel does not get it done."""
    if _unified_only(found):
        from sampan.runtime.cgroup import v2

        v2.freeze(found[""], frozen)
    elif "freezer" in found:
        v1.freeze(found["freezer"], frozen)
    else:
        raise Error("cannot toggle freezer: cgroups not configured for container")


def is_frozen(found: Paths) -> bool:
    if _unified_only(found):
        from sampan.runtime.cgroup import v2

        return v2.is_frozen(found[""])
    return "freezer" in found and v1.is_frozen(found["freezer"])


def kill(found: Paths, sig: int) -> None:
    """Send `sig` to every process; SIGKILL leaves none, however fast they fork. Errors: Error."""
    if sig == abi.SIGKILL and "" in found:
        fd = cgroupfs.open_cgroup(found[""])
        try:
            if cgroupfs.kill_tree(fd):
                if is_frozen(found) and not _unified_only(found):
                    freeze(found, False)
                return
        finally:
            os.close(fd)
    frozen = is_frozen(found)
    can_freeze = "freezer" in found or _unified_only(found)
    if can_freeze and not frozen:
        freeze(found, True)
    for pid in pids(found):
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            continue
    if can_freeze and (not frozen or sig == abi.SIGKILL):
        freeze(found, False)


def kill_left(found: Paths) -> None:
    """SIGKILL what is left in the cgroups. One that goes meanwhile, as systemd removes an empty one, is no error."""
    try:
        if exists(found) and pids(found):
            kill(found, abi.SIGKILL)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
