"""A container's unit, made, changed and stopped by systemd: the conversation over D-Bus, and the trees it leaves to us.

    we       fork a holder, a process that only waits       (a scope needs a process to be made)
    systemd  StartTransientUnit(scope, PIDs=[holder])        makes the cgroup, moves the holder there
             JobRemoved(job, "done")
    we       make what systemd has not (v1's other trees), clone the container's process right into the cgroups
             let the holder end

Sources: runc docs/systemd.md, https://systemd.io/CONTROL_GROUP_INTERFACE.
"""

from __future__ import annotations

import os

from sampan.errors import Error
from sampan.linux import cgroupfs
from sampan.runtime import cgroup
from sampan.runtime.cgroup import bus, systemd
from sampan.runtime.cgroup.bus import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.oci.spec import Resources, Spec
    from sampan.runtime.cgroup import Paths
    from sampan.runtime.cgroup.bus import Connection
    from sampan.runtime.cgroup.dbus import Message
    from sampan.runtime.cgroup.systemd import Property, Settings
    from sampan.runtime.host import HostFacts

PATIENCE = 30.0
"""Seconds for a job of systemd's, as in runc."""
_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"


class UnitPlan:
    """What `launch` needs of a unit that is to be made: `settings` for the state, and its cgroups."""

    __slots__ = ("_asked", "_hold", "_owner", "_unified", "paths", "settings")

    def __init__(self, spec: Spec, container_id: str, host: HostFacts) -> None:
        """Errors: InvalidArgument for a path or an annotation that is wrong, Error where no systemd runs."""
        self._asked = systemd.annotated(spec.get("annotations", {}))
        self.settings = systemd.settings(spec.get("linux", {}).get("cgroupsPath", ""), container_id, host.rootless)
        if not os.path.isdir("/run/systemd/system"):
            raise Error("systemd not running on this host, cannot use systemd cgroups manager")
        self._unified = host.cgroup_mode == "unified"
        self._owner = systemd.owner(spec) if self._unified else 0
        self.paths = paths(self.settings, host)
        self._hold = (-1, -1)

    def start(self) -> None:
        """Have systemd make the unit, and complete its cgroups; `settle` must follow. Errors: sampan.errors."""
        cgroup.check_unused(self.paths)
        self._hold = _fork_holder()
        properties = systemd.at_start(self.settings, [self._hold[0]], self._unified, self._asked)
        try:
            with_manager = _dial(self.settings)
            try:
                _start(with_manager, systemd.unit_name(self.settings), properties)
            finally:
                with_manager.close()
            cgroup.complete(self.paths)
            if self._owner:
                _delegate(self.paths[""], self._owner)
        except Error as error:
            self._give_up()
            text = f"unable to start container process: unable to apply cgroup configuration: {error}"
            raise type(error)(text) if type(error) is not Refused else Error(text) from None
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        self.settle()
        cgroup.remove(self.paths)

    def settle(self) -> None:
        """Let the holder end: the container's process is in the unit now, or none shall be."""
        pid, writing = self._hold
        if pid > 0:
            self._hold = (-1, -1)
            os.close(writing)
            os.waitpid(pid, 0)


def _fork_holder() -> tuple[int, int]:
    """(pid, descriptor whose close ends it) of a process that only waits, and ends with us."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    # safe because we are single-threaded, and the child does nothing but wait and leave.
    pid = os.fork()
    if pid == 0:
        try:
            os.close(writing)
            os.read(reading, 1)
        finally:
            os._exit(0)
    os.close(reading)
    return pid, writing


def _delegate(directory: str, owner: int) -> None:
    """Give the container's root what it needs to divide its cgroup. Source: cgroup-v2.rst, "Delegation Containment"."""
    try:
        with open("/sys/kernel/cgroup/delegate", encoding="ascii") as file:
            names = file.read().split()
    except FileNotFoundError:
        names = ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]
    for path in (directory, *(f"{directory}/{name}" for name in names)):
        try:
            os.chown(path, owner, -1)
        except FileNotFoundError:
            continue  # a kernel may list what a controller that is off would have


def paths(settings: Settings, host: HostFacts) -> Paths:
    """Where systemd has, or will have, the unit's cgroup in each tree. Errors: sampan.errors, OSError."""
    below = systemd.expand(systemd.slice_of(settings)).rstrip("/") + "/" + systemd.unit_name(settings)
    first = cgroupfs.paths(1)
    found: Paths = {}
    for hierarchy in host.hierarchies:
        keys = hierarchy.keys()
        if settings["Rootless"]:
            root = _manager_cgroup(settings)
        else:
            # systemd's root is its own cgroup without the scope it puts itself in.
            root = first.get(keys[0], "/").removesuffix("init.scope")
        directory = hierarchy.directory(root.rstrip("/") + below)
        for key in keys:
            found[key] = directory
    return found


def _manager_cgroup(settings: Settings) -> str:
    """The cgroup below which the user's manager has its units, as /user.slice/user-1000.slice/user@1000.service."""
    manager = _dial(settings)
    try:
        return str(_property(manager, "ControlGroup"))
    finally:
        manager.close()


def _dial(settings: Settings) -> Connection:
    return bus.dial(settings["Rootless"])


def _property(manager: Connection, name: str) -> Any:
    _, value = manager.call(_NAME, _PATH, "org.freedesktop.DBus.Properties", "Get", "ss", [_MANAGER, name])[0]
    return value


def _version(manager: Connection) -> int:
    """252 of "252.38-1~deb12u1" or "v252"."""
    digits = ""
    for letter in str(_property(manager, "Version")).lstrip("v"):
        if not letter.isdigit():
            break
        digits += letter
    return int(digits or 0)


def _start(manager: Connection, name: str, properties: list[Property]) -> None:
    manager.listen(_MANAGER, "JobRemoved")
    try:
        job = _start_job(manager, name, properties)
    except Refused as error:
        raise Error(f'unable to start unit "{name}": {error}') from None
    result = _await(manager, job)
    if result != "done":
        _reset_failed(manager, name)
        if result is None:
            raise Error(f"Timeout waiting for systemd to create {name}")
        raise Error(f"error creating systemd unit `{name}`: got `{result}`")


def _start_job(manager: Connection, name: str, properties: list[Property]) -> str:
    for last in (False, True):
        try:
            body = [name, "replace", properties, []]
            return str(manager.call(_NAME, _PATH, _MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)[0])
        except Refused as error:
            # A failed unit of that name may be left of another container: then it is forgotten, once.
            if last or error.name != "org.freedesktop.systemd1.UnitExists":
                raise
            _reset_failed(manager, name)
    raise AssertionError


def _await(manager: Connection, job: str) -> str | None:
    """How the job ended: "done", "failed", "canceled", ...; None when it did not in time."""

    def ours(found: Message) -> bool:
        return found.member == "JobRemoved" and len(found.body) == 4 and found.body[1] == job

    removed = manager.signal(ours, PATIENCE)
    return None if removed is None else str(removed.body[3])


def _reset_failed(manager: Connection, name: str) -> None:
    try:
        manager.call(_NAME, _PATH, _MANAGER, "ResetFailedUnit", "s", [name])
    except Refused:
        pass  # it is gone, or had not failed


def attach(settings: Settings, pid: int) -> None:
    """Have a process moved into the unit, from wherever it is: for who may not do so by the files. Errors: Error."""
    name = systemd.unit_name(settings)
    manager = _dial(settings)
    try:
        manager.call(_NAME, _PATH, _MANAGER, "AttachProcessesToUnit", "ssau", [name, "", [pid]])
    except Refused as error:
        text = f'unable to apply cgroup configuration: unable to attach process {pid} to unit "{name}": {error}'
        raise Error(f"unable to start container process: {text}") from None
    finally:
        manager.close()


def set_limits(settings: Settings, found: Paths, resources: Resources, update: bool) -> None:
    """Tell systemd of the limits; the files are the fs driver's, afterwards. Errors: sampan.errors."""
    unified = list(found) == [""]
    manager = _dial(settings)
    try:
        version = _version(manager)
        properties = systemd.of_resources(resources, unified, update, version, _device_group)
        if not properties:
            return
        # On v1 systemd writes its own device list first: nothing may run with it meanwhile.
        freeze = update and not unified and "freezer" in found and not cgroup.is_frozen(found)
        if freeze:
            cgroup.freeze(found, True)
        try:
            body = [systemd.unit_name(settings), True, properties]
            manager.call(_NAME, _PATH, _MANAGER, "SetUnitProperties", "sba(sv)", body)
        except Refused as error:
            raise Error(f"unable to set unit properties: {error}" if unified else str(error)) from None
        finally:
            if freeze:
                cgroup.freeze(found, False)
    finally:
        manager.close()


def _device_group(kind: str, major: int) -> str:
    with open("/proc/devices", encoding="ascii", errors="replace") as file:
        return systemd.device_group(file.read(), kind, major)


def stop(settings: Settings) -> None:
    """Stop the unit, which ends what is left in it, and wait for it. One that is gone is no error.

    Errors: Error when systemd does not get it done.
    """
    name = systemd.unit_name(settings)
    manager = _dial(settings)
    try:
        manager.listen(_MANAGER, "JobRemoved")
        try:
            job = str(manager.call(_NAME, _PATH, _MANAGER, "StopUnit", "ss", [name, "replace"])[0])
        except Refused:
            job = ""
        if job and _await(manager, job) is None:
            raise Error(f"Timed out while waiting for systemd to remove {name}")
        _reset_failed(manager, name)
    finally:
        manager.close()
