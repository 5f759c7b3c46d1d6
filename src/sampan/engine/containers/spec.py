"""The OCI runtime spec of a container, equal to Docker's defaults. Pure: a record and resolved things in, a dict out.

What needs the machine comes in by value: `HostFacts`, and `Resolved`, filled in by `start.py`.
Sources: runtime-spec 1.2 config.md and config-linux.md; Docker's documented defaults (run reference, seccomp page).
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sampan.api.docker.containers import HostConfig
from sampan.engine.containers import capabilities, devices, resources, seccomp
from sampan.engine.containers.host import HostFacts
from sampan.engine.containers.model import Container, Mount
from sampan.engine.containers.mounts import tmpfs_options
from sampan.engine.containers.security import SecurityOptions, security_options
from sampan.engine.containers.users import User
from sampan.errors import InvalidArgument

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# Destination: (type, source, options). The order is the order of mounting.
_DEFAULT_MOUNTS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    ("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
    ("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
    ("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid", "noexec", "nodev")),
    ("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    ("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777")),
)

# What --read-only leaves writable.
_STAYS_WRITABLE = frozenset(("/proc", "/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"))


@dataclass(frozen=True, slots=True)
class Resolved:
    """What only this start knows.

    `hostname` and `domainname` as the container sees them; `network` is bridge, none, host or container (Plan.kind);
    `joined` the pid whose namespace is joined, by "network", "pid" and "ipc"; `user` of the process; `files` the
    host's paths of hostname, hosts and resolv.conf by their container path; `volumes` the host's directory by
    destination; `shm` the directory that a shareable or joined /dev/shm is bound from ("" for none); `linked` the
    variables of linked containers."""

    hostname: str
    user: User
    domainname: str = ""
    network: str = "none"
    joined: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    shm: str = ""
    init: str = ""
    cgroup_parent: str = ""
    systemd_cgroup: bool = False
    ulimits: Sequence[str] = ()
    linked: Sequence[str] = ()


def runtime_spec(container: Container, resolved: Resolved, facts: HostFacts) -> dict[str, Any]:
    """The whole of config.json. InvalidArgument, in Docker's words, for what cannot be met."""
    host_config = container.host_config
    security = security_options(host_config.security_opt)
    caps = capabilities.resolve(host_config.cap_add, host_config.cap_drop, host_config.privileged, facts.capabilities)
    device_nodes, device_rules = devices.resolve(host_config)
    linux: dict[str, Any] = {
        "cgroupsPath": _cgroups_path(host_config.cgroup_parent or resolved.cgroup_parent, container.id, resolved),
        "namespaces": _namespaces(container, resolved, facts),
        "resources": resources.resources(host_config, device_rules),
        "rootfsPropagation": _rootfs_propagation(container),
        "maskedPaths": _paths(host_config, security, host_config.masked_paths, masked_paths(facts)),
        "readonlyPaths": _paths(host_config, security, host_config.readonly_paths, READONLY_PATHS),
    }
    if not linux["rootfsPropagation"]:
        del linux["rootfsPropagation"]
    if device_nodes:
        linux["devices"] = device_nodes
    sysctls = _sysctls(host_config, resolved)
    if sysctls:
        linux["sysctl"] = sysctls
    profile = _seccomp(host_config, security, facts, caps)
    if profile is not None:
        linux["seccomp"] = profile
    spec: dict[str, Any] = {
        "ociVersion": "1.2.0",
        "process": _process(container, resolved, security, caps, facts.apparmor),
        "root": {"path": "rootfs", "readonly": host_config.readonly_rootfs},
        "mounts": _mounts(container, resolved),
        "linux": linux,
    }
    if host_config.uts_mode != "host":
        spec["hostname"] = resolved.hostname
        if resolved.domainname:
            spec["domainname"] = resolved.domainname
    if host_config.annotations:
        spec["annotations"] = dict(host_config.annotations)
    return spec


def _process(
    container: Container, resolved: Resolved, security: SecurityOptions, caps: Sequence[str], apparmor: bool
) -> dict[str, Any]:
    """`apparmor`: the host has it. On one that has not, Docker lets a profile's name be."""
    config = container.config
    args = [container.path, *container.args]
    if resolved.init:
        args = ["/sbin/docker-init", "--", *args]
    process: dict[str, Any] = {
        "terminal": config.tty,
        "user": user(resolved.user),
        "args": args,
        "env": environment([*resolved.linked, *config.env], resolved.hostname, config.tty, resolved.user.home),
        "cwd": config.working_dir or "/",
        "capabilities": capability_sets(caps, resolved.user.uid),
        "noNewPrivileges": security.no_new_privileges,
        "oomScoreAdj": container.host_config.oom_score_adj,
    }
    if container.host_config.console_size and any(container.host_config.console_size):
        height, width = container.host_config.console_size
        process["consoleSize"] = {"height": height, "width": width}
    limits = resources.rlimits(container.host_config.ulimits, resolved.ulimits)
    if limits:
        process["rlimits"] = limits
    if security.apparmor and apparmor:
        process["apparmorProfile"] = security.apparmor
    return process


def _cgroups_path(parent: str, container_id: str, resolved: Resolved) -> str:
    """A path, or `slice:prefix:name` of systemd's scope, as the runtime's two cgroup drivers take it."""
    if resolved.systemd_cgroup:
        return f"{parent or 'system.slice'}:sampan:{container_id}"
    return posixpath.join(parent or "/sampan", container_id)


def user(found: User) -> dict[str, Any]:
    """Runtime-spec `process.user`."""
    return {"uid": found.uid, "gid": found.gid, "additionalGids": list(found.groups)}


def capability_sets(caps: Sequence[str], uid: int) -> dict[str, list[str]]:
    """Runtime-spec `process.capabilities`: bounding for all, effective and permitted for root alone.

    Never inheritable (CVE-2022-24769); a process that is not root keeps none, as execve(2) would decide."""
    held = list(caps) if uid == 0 else []
    return {"bounding": list(caps), "effective": held, "permitted": held}


def environment(wanted: Sequence[str], hostname: str, tty: bool, home: str) -> list[str]:
    """Docker's order: PATH, HOSTNAME, TERM with a terminal, then what was asked for; a bare NAME removes it."""
    found = {"PATH": PATH, "HOSTNAME": f"HOSTNAME={hostname}"}
    if tty:
        found["TERM"] = "TERM=xterm"
    for entry in wanted:
        name, equals, _ = entry.partition("=")
        if equals:
            found[name] = entry
        else:
            found.pop(name, None)
    if found.get("HOME", "HOME=") == "HOME=":
        found["HOME"] = f"HOME={home}"
    return list(found.values())


def _namespaces(container: Container, resolved: Resolved, facts: HostFacts) -> list[dict[str, str]]:
    host_config = container.host_config
    found: list[dict[str, str]] = [{"type": "mount"}]
    if resolved.network == "container":
        found.append({"type": "network", "path": f"/proc/{resolved.joined['network']}/ns/net"})
    elif resolved.network != "host":
        found.append({"type": "network"})
    if host_config.uts_mode != "host":
        found.append({"type": "uts"})
    if "pid" in resolved.joined:
        found.append({"type": "pid", "path": f"/proc/{resolved.joined['pid']}/ns/pid"})
    elif host_config.pid_mode != "host":
        found.append({"type": "pid"})
    if "ipc" in resolved.joined:
        found.append({"type": "ipc", "path": f"/proc/{resolved.joined['ipc']}/ns/ipc"})
    elif host_config.ipc_mode != "host":
        found.append({"type": "ipc"})
    if cgroupns_mode(host_config, facts) == "private":
        found.append({"type": "cgroup"})
    return found


def cgroupns_mode(host_config: HostConfig, facts: HostFacts) -> str:
    """ "private" or "host": Docker's default depends on the host's cgroup version."""
    return host_config.cgroupns_mode or ("private" if facts.cgroup_version == 2 else "host")


def masked_paths(facts: HostFacts) -> list[str]:
    """Docker's default list, the part of it that differs by machine included."""
    return [*MASKED_PATHS, *facts.thermal_throttle]


def _paths(
    host_config: HostConfig, security: SecurityOptions, asked: list[str] | None, default: Sequence[str]
) -> list[str]:
    if asked is not None:
        return list(asked)
    if host_config.privileged or security.systempaths_unconfined:
        return []
    return list(default)


def _sysctls(host_config: HostConfig, resolved: Resolved) -> dict[str, str]:
    found: dict[str, str] = {}
    if resolved.network in ("bridge", "none"):
        # Root in a container needs neither CAP_NET_RAW to ping nor CAP_NET_BIND_SERVICE: a netns of its own is
        # all that they would protect.
        found["net.ipv4.ip_unprivileged_port_start"] = "0"
        found["net.ipv4.ping_group_range"] = "0 2147483647"
    for name, value in host_config.sysctls.items():
        if name.startswith("net.") and resolved.network == "host":
            raise InvalidArgument(f"sysctl '{name}' not allowed in host network namespace")
        found[name] = value
    return found


def _seccomp(
    host_config: HostConfig, security: SecurityOptions, facts: HostFacts, caps: Sequence[str]
) -> Mapping[str, Any] | None:
    if security.seccomp == "unconfined" or (host_config.privileged and not security.seccomp):
        return None
    if security.seccomp and security.seccomp != "builtin":
        return seccomp.parse(security.seccomp, facts.machine, facts.kernel, caps)
    return seccomp.resolve_default(facts.machine, facts.kernel, tuple(sorted(caps)))


def _rootfs_propagation(container: Container) -> str:
    """A shared or slave bind needs a root that lets mount events through."""
    modes = {mount.propagation.lstrip("r") for mount in container.mounts}
    if "shared" in modes:
        return "shared"
    return "rslave" if "slave" in modes else ""


def _mounts(container: Container, resolved: Resolved) -> list[dict[str, Any]]:
    host_config = container.host_config
    own: list[dict[str, Any]] = [_volume(mount, resolved) for mount in container.mounts]
    for destination, text in host_config.tmpfs.items():
        own.append(_mount(posixpath.normpath(destination), "tmpfs", "tmpfs", tmpfs_options(text)))
    taken = {mount["destination"] for mount in own}
    for destination, path in resolved.files.items():
        if destination not in taken:
            # Docker's own files stay writable in the container unless its root is read-only.
            mode = ["ro"] if host_config.readonly_rootfs else []
            own.append(_mount(destination, "bind", path, ["rbind", "rprivate", *mode]))
    if resolved.shm and "/dev/shm" not in taken:
        own.append(_mount("/dev/shm", "bind", resolved.shm, ["rbind", "rprivate", "nosuid", "noexec", "nodev"]))
    if resolved.init:
        own.append(_mount("/sbin/docker-init", "bind", resolved.init, ["bind", "ro"]))
    # Parents before children: /a is mounted before /a/b. The order is stable for the rest.
    own.sort(key=lambda mount: mount["destination"].count("/"))
    taken = {mount["destination"] for mount in own}
    return [*_default_mounts(host_config, taken), *own]


def _default_mounts(host_config: HostConfig, taken: set[str]) -> list[dict[str, Any]]:
    found = []
    for destination, kind, source, options in _DEFAULT_MOUNTS:
        if destination in taken or (destination == "/dev/shm" and host_config.ipc_mode == "none"):
            continue
        if destination == "/dev" and "/dev" in taken:
            continue
        wanted = list(options)
        if destination == "/dev/shm":
            wanted.append(f"size={host_config.shm_size or 64 << 20}")
        if kind in ("sysfs", "cgroup") and host_config.privileged:
            wanted = [option for option in wanted if option != "ro"]
        elif host_config.readonly_rootfs and destination not in _STAYS_WRITABLE and "ro" not in wanted:
            wanted.append("ro")
        found.append(_mount(destination, kind, source, wanted))
    return found


def _volume(mount: Mount, resolved: Resolved) -> dict[str, Any]:
    if mount.type == "tmpfs":
        return _mount(mount.destination, "tmpfs", "tmpfs", mount.options)
    options = ["bind" if mount.non_recursive else "rbind"]
    if not mount.rw:
        # As of API 1.44 a read-only bind is so for its submounts too, where the kernel can.
        recursive = not mount.non_recursive and not mount.read_only_non_recursive and mount.type == "bind"
        options += ["ro", "rro"] if recursive else ["ro"]
    options.append(mount.propagation or "rprivate")
    return _mount(mount.destination, "bind", resolved.sources.get(mount.destination, mount.source), options)


def _mount(destination: str, kind: str, source: str, options: Sequence[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}
