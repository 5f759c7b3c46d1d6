"""From a spec and facts about the host to what must be done, in order. Pure: no system call, no file is touched.

    Plan.clone_flags   namespaces that clone3 makes          Plan.joins    namespaces entered by path
    Plan.steps         what init does inside them, each a `Step` that `runtime.steps` has a function for

The order is runc's (libcontainer/standard_init_linux.go, rootfs_linux.go), since each line of it once was a bug:
mounts before devices, hooks before pivot_root, masks after sysctls, the filter before the capabilities go unless
no_new_privs makes that needless.
"""

from __future__ import annotations

from sampan.errors import InvalidArgument, Unimplemented
from sampan.linux import abi, capabilities
from sampan.runtime.plan.mounts import PROPAGATION, clean, late_attributes, parse_options, plan_mount
from sampan.runtime.plan.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from sampan.oci.spec import Hook, Linux, Mount, Process, Spec
    from sampan.runtime.host import HostFacts

READY = "ready"
"""The step at which init tells its parent that all is done but execve, and waits."""

DEFAULT_DEVICES = (
    ("/dev/null", 1, 3), ("/dev/zero", 1, 5), ("/dev/full", 1, 7), ("/dev/tty", 5, 0), ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
)  # fmt: skip

DEFAULT_LINKS = (
    ("/proc/self/fd", "/dev/fd"), ("/proc/self/fd/0", "/dev/stdin"), ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
)  # fmt: skip


_MAX_NUMBER = 8191  # CONFIG_NR_CPUS of the largest kernels


class Plan:
    """Everything that launching needs to know: flags and mappings for the parent, `steps` for init."""

    __slots__ = ("clone_flags", "gid_mappings", "hooks", "joins", "oom_score_adj", "rlimits", "steps", "uid_mappings")

    def __init__(self) -> None:
        self.clone_flags = 0
        self.joins: list[tuple[str, str]] = []
        self.uid_mappings: list[tuple[int, int, int]] = []
        self.gid_mappings: list[tuple[int, int, int]] = []
        self.oom_score_adj: int | None = None
        self.rlimits: list[tuple[str, int, int]] = []
        self.hooks: dict[str, list[Hook]] = {}
        self.steps: list[Step] = []

    def lines(self) -> list[str]:
        """The plan as text, for `--plan`: what the parent does first, then init's steps."""
        return [str(step) for step in self.first_steps() + self.steps]

    def first_steps(self) -> list[Step]:
        """What the parent does, which no function of `runtime.steps` stands for: only to be told."""
        new = [name for name, (flag, _) in abi.NAMESPACES.items() if self.clone_flags & flag]
        first = [Step("clone3", "linux.namespaces", new=new, join=[f"{kind}:{path}" for kind, path in self.joins])]
        if self.uid_mappings:
            maps = [f"{inside}->{outside}*{size}" for inside, outside, size in self.uid_mappings]
            first.append(Step("write_id_maps", "linux.uidMappings", uids=maps))
        if self.oom_score_adj is not None:
            first.append(Step("oom_score_adj", "process.oomScoreAdj", score=str(self.oom_score_adj)))
        return first


def cgroup_steps(paths: dict[str, str]) -> list[Step]:
    """What making the container's cgroups is called, for who is told."""
    return [Step("make_cgroup", "linux.cgroupsPath", path=path) for path in dict.fromkeys(paths.values())]


class Wishes:
    """What the caller adds to the spec: where the bundle is, who mounts the rootfs, how the process talks to us."""

    __slots__ = (
        "bundle", "cgroup_paths", "console_size", "container_id", "fifo", "limits", "no_new_keyring", "no_pivot",
        "preserve_fds", "rootfs_mounts", "seccomp", "seccomp_flags", "terminal",
    )  # fmt: skip

    def __init__(
        self,
        container_id: str,
        bundle: str,
        rootfs_mounts: list[dict[str, Any]] | None = None,
        cgroup_paths: dict[str, str] | None = None,
        terminal: bool = False,
        console_size: tuple[int, int] | None = None,
        seccomp: bytes | None = None,
        seccomp_flags: int = 0,
        preserve_fds: int = 0,
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        limits: Sequence[tuple[str, int, int]] = (),
    ) -> None:
        self.container_id = container_id
        self.bundle = bundle
        self.rootfs_mounts = rootfs_mounts or []
        self.cgroup_paths = cgroup_paths or {}
        self.terminal = terminal
        self.console_size = console_size
        self.seccomp = seccomp
        self.seccomp_flags = seccomp_flags
        self.preserve_fds = preserve_fds
        self.no_pivot = no_pivot
        self.no_new_keyring = no_new_keyring
        self.limits = limits
        """(name, soft, hard) of rlimits for a process whose spec does not name them."""


def limit_steps(resources: Any) -> list[Step]:
    """What setting a spec's limits is called, for who is told."""
    return [
        Step("limit", f"linux.resources.{name}", name=name, set=value) for name, value in resources.items() if value
    ]


def rootfs_path(spec: Spec, bundle: str) -> str:
    """The absolute path of the rootfs on the host."""
    path = spec["root"]["path"]
    return clean(path if path.startswith("/") else f"{bundle}/{path}")


def plan_container(spec: Spec, wishes: Wishes, host: HostFacts) -> Plan:
    """The plan for a new container. `spec` has passed `oci.spec.validate`. Errors: InvalidArgument."""
    plan = Plan()
    linux = spec.get("linux", {})
    if linux.get("intelRdt"):
        # No host that the tests run on has resctrl; a limit that nobody has seen held is not promised.
        raise Unimplemented(
            "linux.intelRdt: intelRdt is specified in config, but Intel RDT is not supported or enabled"
        )
    process = spec.get("process", {})
    kinds = _namespaces(plan, linux)
    _check_devices(linux, kinds)
    _process_limits(plan, process)
    if "user" in kinds and not kinds["user"]:
        _check_mapped(plan, process.get("user", {}))
    plan.hooks = {name: hooks for name, hooks in spec.get("hooks", {}).items() if hooks}
    steps = plan.steps
    steps += _joining(plan, kinds, linux, wishes)
    if "mount" not in kinds:
        # runc makes all its mounts on the host then; nobody who wants a container wants that.
        raise Unimplemented("linux.namespaces: a container without a mount namespace is not supported")
    steps += _root_file_system(spec, linux, wishes, host, kinds)
    steps += _identity(spec, linux, host)
    steps += process_steps(process, wishes, bool(spec.get("hooks", {}).get("startContainer")))
    return plan


def plan_exec(process: Process, kinds: dict[str, str], wishes: Wishes, host: HostFacts) -> Plan:
    """The plan for one more process in a container whose namespaces are `kinds`. Errors: InvalidArgument."""
    plan = Plan()
    _process_limits(plan, process)
    steps = plan.steps
    steps += _cpu_affinity(process, "initial")
    steps.append(Step("join_cgroups", "linux.cgroupsPath"))
    steps += _cpu_affinity(process, "final")
    steps.append(Step("join_container", "linux.namespaces", namespaces=[kind for kind in kinds if kind != "pid"]))
    if "user" in kinds:
        steps.append(Step("become_namespace_root", "linux.uidMappings"))
    steps.append(Step("new_session", "process"))
    if not wishes.no_new_keyring:
        steps.append(Step("session_keyring", "process", name=f"_ses.{wishes.container_id}"))
    steps.append(Step("open_root", "root.path"))
    if wishes.terminal:
        steps.append(Step("console", "process.terminal", size=wishes.console_size, device=False))
    if process.get("apparmorProfile") or process.get("selinuxLabel"):
        steps.append(Step("open_proc", "process"))
        steps += _labels(process, host)
    steps += process_steps(process, wishes, False)
    return plan


def _namespaces(plan: Plan, linux: Linux) -> dict[str, str]:
    kinds: dict[str, str] = {}
    for namespace in linux.get("namespaces", []):
        kind, path = namespace["type"], namespace.get("path", "")
        kinds[kind] = path
        if path:
            plan.joins.append((kind, path))
        elif kind not in ("cgroup", "time"):
            # A cgroup namespace is rooted where its maker is, so it comes after the move into the cgroup; a
            # time namespace takes its offsets only before anybody is in it.
            plan.clone_flags |= abi.NAMESPACES[kind][0]
    # setns keeps a process out of a mount namespace unless it may already act in its user namespace.
    plan.joins.sort(key=lambda join: join[0] == "user", reverse=True)
    for name, target in (("uidMappings", plan.uid_mappings), ("gidMappings", plan.gid_mappings)):
        for mapping in linux.get(name, []):  # type: ignore[attr-defined]
            target.append((mapping.get("containerID", 0), mapping.get("hostID", 0), mapping.get("size", 0)))
    return kinds


def _check_devices(linux: Linux, kinds: dict[str, str]) -> None:
    devices = linux.get("netDevices") or {}
    if devices and "network" not in kinds:
        raise InvalidArgument("linux.netDevices: unable to move network devices without a NET namespace")
    for name, entry in devices.items():
        for one in (name, entry.get("name") or name):
            if not 0 < len(one) < 16 or one in (".", "..") or set(one) & set("/: \t\n"):
                raise InvalidArgument(f'linux.netDevices: invalid network device name "{one}"')


def _check_mapped(plan: Plan, user: Any) -> None:
    for name, mappings in (("uid", plan.uid_mappings), ("gid", plan.gid_mappings)):
        wanted = user.get(name, 0)
        if not any(inside <= wanted < inside + size for inside, _, size in mappings):
            raise InvalidArgument(
                f"unable to start container process: unable to setup user: cannot set {name} to unmapped user in user "
                "namespace"
            )


def _process_limits(plan: Plan, process: Process) -> None:
    plan.oom_score_adj = process.get("oomScoreAdj")
    seen: set[str] = set()
    for index, limit in enumerate(process.get("rlimits", [])):
        name = limit["type"]
        if name not in abi.RLIMITS:
            raise InvalidArgument(f"process.rlimits[{index}].type: invalid rlimit value: {name}")
        if name in seen:
            raise InvalidArgument(f"process.rlimits[{index}].type: duplicated rlimit {name}")
        seen.add(name)
        plan.rlimits.append((name, limit.get("soft", 0), limit.get("hard", 0)))


def _joining(plan: Plan, kinds: dict[str, str], linux: Linux, wishes: Wishes) -> list[Step]:
    steps: list[Step] = []
    if wishes.cgroup_paths:
        steps.append(Step("join_cgroups", "linux.cgroupsPath"))
    inside = [kind for kind, _ in plan.joins if kind not in ("pid", "time")]
    if "user" in kinds and not kinds["user"]:
        steps.append(Step("await_id_maps", "linux.uidMappings"))
        steps.append(Step("become_namespace_root", "linux.uidMappings"))
    if inside:
        steps.append(Step("join_namespaces", "linux.namespaces", namespaces=inside))
    if kinds.get("user"):
        steps.append(Step("become_namespace_root", "linux.namespaces"))
    if "cgroup" in kinds and not kinds["cgroup"]:
        steps.append(Step("unshare", "linux.namespaces", flags=abi.CLONE_NEWCGROUP))
    steps.append(Step("new_session", "process"))
    if not wishes.no_new_keyring:
        steps.append(Step("session_keyring", "process", name=f"_ses.{wishes.container_id}"))
    if "network" in kinds and not kinds["network"]:
        steps.append(Step("loopback_up", "linux.namespaces"))
    return steps


def _root_file_system(spec: Spec, linux: Linux, wishes: Wishes, host: HostFacts, kinds: dict[str, str]) -> list[Step]:
    steps: list[Step] = []
    root = rootfs_path(spec, wishes.bundle)
    propagation = linux.get("rootfsPropagation", "")
    if propagation and propagation not in PROPAGATION:
        raise InvalidArgument(f"linux.rootfsPropagation: rootfsPropagation={propagation} is not supported")
    kind = PROPAGATION[propagation][0] if propagation else abi.MS_SLAVE
    steps.append(Step("host_propagation", "linux.rootfsPropagation", flags=kind, rootfs=root))
    for index, mount in enumerate(wishes.rootfs_mounts):
        options = parse_options(list(mount.get("options") or []))
        target = mount.get("target") or ""
        steps.append(
            Step(
                "rootfs_mount", f"rootfs[{index}]", type=mount.get("type", ""), source=mount.get("source", ""),
                target=clean(f"{root}/{target}"), data=options.data, bind=options.bind, attributes=options.value,
            )
        )  # fmt: skip
    steps.append(Step("root", "root.path", path=root))
    late: list[Step] = []
    for index, entry in enumerate(spec.get("mounts", [])):
        cause = f"mounts[{index}]"
        if entry.get("type") in ("cgroup", "cgroup2"):
            steps += _cgroup_mount(entry, cause, host, wishes, "cgroup" in kinds)
            continue
        steps += plan_mount(entry, cause, wishes.bundle, label=linux.get("mountLabel", ""))
        late += late_attributes(entry, cause)
    # mknod makes no device anywhere but in the first user namespace.
    devices = _devices(spec, linux, "user" in kinds or host.user_namespace, host.kcore)
    steps += devices
    if any(spec.get("hooks", {}).get(name) for name in ("prestart", "createRuntime")):
        steps.append(Step("parent_hooks", "hooks.createRuntime"))
    for index, hook in enumerate(spec.get("hooks", {}).get("createContainer", [])):
        steps.append(Step("hook", f"hooks.createContainer[{index}]", name="createContainer", index=index, hook=hook))
    steps.append(Step("pivot_root", "root.path", move=wishes.no_pivot))
    if devices:
        steps.append(Step("null_streams", "config-linux.md#default-devices"))
    if propagation:
        steps.append(
            Step("root_propagation", "linux.rootfsPropagation", flags=kind, recursive=PROPAGATION[propagation][1])
        )
    if wishes.terminal:
        steps.append(Step("console", "process.terminal", size=wishes.console_size, device=True))
    process = spec.get("process", {})
    if process.get("cwd", "/") != "/":
        steps.append(Step("make_working_directory", "process.cwd", path=process["cwd"]))
    steps += late
    if spec["root"].get("readonly"):
        steps.append(Step("read_only_root", "root.readonly"))
    return steps


def _cgroup_mount(entry: Any, cause: str, host: HostFacts, wishes: Wishes, own_namespace: bool) -> list[Step]:
    options = parse_options(entry.get("options", []))
    destination = clean(entry["destination"])
    if host.rootless and not wishes.cgroup_paths:
        # No cgroup of its own to be shown: the host's, which it cannot write.
        shown: Mount = {"destination": entry["destination"], "type": "bind", "source": "/sys/fs/cgroup",
                        "options": ["rbind", "rro"]}  # fmt: skip
        return plan_mount(shown, cause, "/")
    if host.cgroup_mode == "unified" or entry["type"] == "cgroup2":
        source = wishes.cgroup_paths.get("", "")
        return [
            Step(
                "cgroup2_mount", cause, destination=destination, attributes=options.value, source=source,
                propagation=options.propagation,
            )
        ]  # fmt: skip
    trees: list[dict[str, Any]] = []
    for hierarchy in host.hierarchies:
        if hierarchy.version == 1:
            keys = hierarchy.keys()
            trees.append(
                {
                    "name": hierarchy.mount_point.rpartition("/")[2],
                    "keys": list(keys),
                    "source": next((wishes.cgroup_paths[key] for key in keys if key in wishes.cgroup_paths), ""),
                }
            )
    return [
        Step(
            "cgroup1_mount", cause, destination=destination, attributes=options.value, trees=trees,
            own_namespace=own_namespace,
        )
    ]  # fmt: skip


def _devices(spec: Spec, linux: Linux, in_userns: bool, kcore: bool) -> list[Step]:
    for entry in spec.get("mounts", []):
        if clean(entry["destination"]) == "/dev" and ("bind" in entry.get("options", []) or entry.get("type") == "bind"
                                                      or "rbind" in entry.get("options", [])):  # fmt: skip
            return []  # the host's /dev is there already, and nothing may be made or linked in it
    steps: list[Step] = []
    given: set[str] = set()
    for index, device in enumerate(linux.get("devices", [])):
        path = clean(device["path"])
        given.add(path)
        steps.append(
            Step(
                "device", f"linux.devices[{index}]", path=path, kind=device["type"], major=device.get("major", 0),
                minor=device.get("minor", 0), mode=device.get("fileMode", 0o666) & 0o7777, uid=device.get("uid", 0),
                gid=device.get("gid", 0), bind=in_userns,
            )
        )  # fmt: skip
    defaults = [
        Step("device", "config-linux.md#default-devices", path=path, kind="c", major=major, minor=minor, mode=0o666,
             uid=0, gid=0, bind=in_userns)
        for path, major, minor in DEFAULT_DEVICES
        if path not in given
    ]  # fmt: skip
    links = [
        Step("symlink", "runtime-linux.md#dev-symbolic-links", target=target, path=path)
        for target, path in [*DEFAULT_LINKS, *([("/proc/kcore", "/dev/core")] if kcore else [])]
    ]
    ptmx = Step("symlink", "config-linux.md#default-devices", target="pts/ptmx", path="/dev/ptmx", replace=True)
    return [*defaults, *steps, ptmx, *links]


def _identity(spec: Spec, linux: Linux, host: HostFacts) -> list[Step]:
    steps: list[Step] = []
    if spec.get("hostname"):
        steps.append(Step("hostname", "hostname", name=spec["hostname"]))
    if spec.get("domainname"):
        steps.append(Step("domainname", "domainname", name=spec["domainname"]))
    process = spec.get("process", {})
    sysctls = linux.get("sysctl", {})
    if sysctls or process.get("apparmorProfile") or process.get("selinuxLabel"):
        steps.append(Step("open_proc", "linux.sysctl" if sysctls else "process"))
    steps += _labels(process, host)
    steps += [Step("sysctl", f'linux.sysctl["{key}"]', key=key, value=value) for key, value in sysctls.items()]
    steps += [
        Step("read_only_path", f"linux.readonlyPaths[{index}]", path=clean(path))
        for index, path in enumerate(linux.get("readonlyPaths", []))
    ]
    steps += [
        Step("mask_path", f"linux.maskedPaths[{index}]", path=clean(path))
        for index, path in enumerate(linux.get("maskedPaths", []))
    ]
    if linux.get("personality"):
        steps.append(_personality(linux["personality"]))
    if linux.get("memoryPolicy"):
        steps.append(_memory_policy(linux["memoryPolicy"]))
    return steps


def _labels(process: Process, host: HostFacts) -> list[Step]:
    steps: list[Step] = []
    if process.get("selinuxLabel") and not host.selinux:
        raise InvalidArgument("selinux label is specified in config, but selinux is disabled or not supported")
    if process.get("apparmorProfile"):
        steps.append(Step("apparmor", "process.apparmorProfile", profile=process["apparmorProfile"]))
    if process.get("selinuxLabel"):
        steps.append(Step("selinux", "process.selinuxLabel", label=process["selinuxLabel"]))
    return steps


def _limits(process: Process, wishes: Wishes) -> list[Step]:
    """The spec's limits, and before them the caller's own where the spec has none."""
    asked = process.get("rlimits", [])
    named = {limit["type"] for limit in asked}
    steps = [
        Step("rlimit", "process", name=name, soft=soft, hard=hard)
        for name, soft, hard in wishes.limits
        if name not in named
    ]
    for index, limit in enumerate(asked):
        soft, hard = limit.get("soft", 0), limit.get("hard", 0)
        steps.append(Step("rlimit", f"process.rlimits[{index}]", name=limit["type"], soft=soft, hard=hard))
    return steps


def process_steps(process: Process, wishes: Wishes, start_hooks: bool) -> list[Step]:
    """The steps from privileges to execve: the same for a container's first process and for a later one."""
    steps: list[Step] = []
    no_new_privileges = bool(process.get("noNewPrivileges"))
    if no_new_privileges:
        steps.append(Step("no_new_privileges", "process.noNewPrivileges"))
    if process.get("scheduler"):
        steps.append(_scheduler(process))
    if process.get("ioPriority"):
        steps.append(_io_priority(process))
    user = process.get("user", {})
    steps += _limits(process, wishes)
    steps.append(Step("stdio_owner", "process.user", uid=user.get("uid", 0)))
    steps.append(Step("close_descriptors", "process", preserve=wishes.preserve_fds))
    load = Step("seccomp", "linux.seccomp", program=wishes.seccomp or b"", flags=wishes.seccomp_flags)
    # Without no_new_privs the kernel takes a filter only from CAP_SYS_ADMIN, which the next steps may drop. With it
    # the filter comes last, and need not allow what we still do; but a listener must reach our parent before "ready".
    late = no_new_privileges and not wishes.seccomp_flags & abi.SECCOMP_FILTER_FLAG_NEW_LISTENER
    if wishes.seccomp and not late:
        steps.append(load)
    sets: dict[str, list[str]] = process.get("capabilities", {})  # type: ignore[assignment]
    masks = {
        name: capability_mask(sets.get(name, []))
        for name in ("bounding", "effective", "permitted", "inheritable", "ambient")
    }
    steps.append(Step("bounding_set", "process.capabilities.bounding", keep=masks.pop("bounding")))
    steps.append(
        Step(
            "user", "process.user", uid=user.get("uid", 0), gid=user.get("gid", 0), umask=user.get("umask", 0o022),
            groups=list(dict.fromkeys(user.get("additionalGids", []))), cwd=process["cwd"],
        )
    )  # fmt: skip
    steps.append(Step("capabilities", "process.capabilities", **masks))
    environment = environment_of(process.get("env", []))
    steps.append(Step("environment", "process.env", env=environment, uid=user.get("uid", 0)))
    steps.append(Step("find_program", "process.args[0]", name=process["args"][0]))
    steps.append(Step(READY, "process"))
    if wishes.seccomp and late:
        steps.append(load)
    if start_hooks:
        steps.append(Step("start_hooks", "hooks.startContainer"))
    steps.append(Step("execve", "process.args", args=list(process["args"])))
    return steps


def capability_mask(names: list[str]) -> int:
    """The mask of the names the kernel's table knows; runc, too, passes over one that it does not know."""
    total = 0
    for name in names:
        try:
            total |= 1 << capabilities.bit(name)
        except KeyError:
            continue
    return total


def environment_of(entries: list[str]) -> dict[str, str]:
    """The variables of "process.env"; of two for the same name the last wins. Errors: InvalidArgument."""
    found: dict[str, str] = {}
    for index, entry in enumerate(entries):
        name, equals, value = entry.partition("=")
        if not equals or not name:
            what = "environment variable name can't be empty" if equals else "invalid environment variable"
            raise InvalidArgument(f'process.env[{index}]: {what}: "{entry}"')
        found[name] = value
    return found


def _scheduler(process: Process) -> Step:
    scheduler = process["scheduler"]
    policy = scheduler.get("policy", "")
    if policy not in abi.SCHED_POLICIES:
        raise InvalidArgument(f"process.scheduler.policy: invalid scheduler policy: {policy}")
    flags = 0
    for index, name in enumerate(scheduler.get("flags", [])):
        if name not in abi.SCHED_FLAGS:
            raise InvalidArgument(f"process.scheduler.flags[{index}]: invalid scheduler flag: {name}")
        flags |= abi.SCHED_FLAGS[name]
    return Step(
        "scheduler", "process.scheduler", policy=abi.SCHED_POLICIES[policy], nice=scheduler.get("nice", 0),
        priority=scheduler.get("priority", 0), flags=flags, runtime=scheduler.get("runtime", 0),
        deadline=scheduler.get("deadline", 0), period=scheduler.get("period", 0),
    )  # fmt: skip


def _io_priority(process: Process) -> Step:
    wanted = process["ioPriority"]
    name = wanted.get("class", "IOPRIO_CLASS_BE")
    if name not in abi.IOPRIO_CLASSES:
        raise InvalidArgument(f"process.ioPriority.class: invalid ioPriority.Class: {name}")
    if not 0 <= wanted.get("priority", 0) <= 7:
        raise InvalidArgument(f"process.ioPriority.priority: invalid ioPriority.Priority: {wanted['priority']}")
    return Step(
        "io_priority", "process.ioPriority", ioclass=abi.IOPRIO_CLASSES[name], priority=wanted.get("priority", 0)
    )


def _personality(wanted: dict[str, Any]) -> Step:
    domains = {"LINUX": abi.PER_LINUX, "LINUX32": abi.PER_LINUX32}
    if wanted.get("domain") not in domains:
        raise InvalidArgument(f"linux.personality.domain: invalid personality domain {wanted.get('domain', '')}")
    return Step("personality", "linux.personality", persona=domains[wanted["domain"]])


def _memory_policy(wanted: dict[str, Any]) -> Step:
    mode = wanted.get("mode", "")
    if mode not in abi.MPOL_MODES:
        raise InvalidArgument(f'linux.memoryPolicy.mode: invalid memory policy mode "{mode}"')
    flags = 0
    for index, name in enumerate(wanted.get("flags") or []):
        if name not in abi.MPOL_FLAGS:
            raise InvalidArgument(f'linux.memoryPolicy.flags[{index}]: invalid memory policy flag "{name}"')
        flags |= abi.MPOL_FLAGS[name]
    nodes = _numbers(wanted.get("nodes", ""), "linux.memoryPolicy.nodes: invalid memory policy nodes")
    return Step("memory_policy", "linux.memoryPolicy", mode=abi.MPOL_MODES[mode] | flags, nodes=nodes)


def _cpu_affinity(process: Process, moment: str) -> list[Step]:
    """The step that pins an exec'd process before ("initial") or after ("final") it joins the container's cgroup."""
    cause = f"process.execCPUAffinity.{moment}"
    text = process.get("execCPUAffinity", {}).get(moment, "")
    return [Step("cpu_affinity", cause, cpus=_numbers(text, f"{cause}: invalid CPU list"))] if text else []


def _numbers(text: str, problem: str) -> list[int]:
    """The numbers of a list like "0-3,7", the kernel's format of CPUs and nodes. Errors: InvalidArgument."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, hyphen, last = part.strip().partition("-")
        last = last if hyphen else first
        if not (first.isdecimal() and last.isdecimal() and len(last) < 6) or int(last) > _MAX_NUMBER:
            raise InvalidArgument(f'{problem} "{text}"')
        found += range(int(first), int(last) + 1)
    return found
