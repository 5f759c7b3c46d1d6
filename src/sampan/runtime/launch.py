"""Making a container's process: what the parent does before, during and after clone3. For keeper and one-shot alike.

    launched = launch(spec, container_id=..., bundle=..., root=..., host=host_facts(), ...)
    poll launched.channel, then: event = launched.step()     None | ("console", fd)
                                                             | ("ready",) | ("running",) | ("failed", kind, text)
    launched.proceed()                                       after ("ready",): execve

`launch` returns when the process exists; it plans, makes the cgroups and forks, which takes about 2 ms, and never waits
for the process. The caller must be single-threaded. `step` never blocks. After ("failed", ...) the process has ended or
is about to; the caller reaps it through `pidfd` and calls `discard`.
"""

from __future__ import annotations

import os

from sampan.errors import Error, InvalidArgument
from sampan.linux import abi, process, procfs
from sampan.oci import spec as oci_spec
from sampan.runtime import cgroup, document, handshake, profile, state
from sampan.runtime.conversation import Launch as Launch
from sampan.runtime.plan import Wishes, cgroup_steps, plan_container, plan_exec, rootfs_path
from sampan.runtime.spawn import fork_into, spawn
from sampan.runtime.steps.situation import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from sampan.linux.packets import PacketSocket
    from sampan.oci.spec import Linux, Process, Spec
    from sampan.runtime.cgroup.unit import UnitPlan
    from sampan.runtime.host import HostFacts
    from sampan.runtime.plan import Plan
    from sampan.runtime.steps.situation import Situation

    Tell = Callable[[str], object]


def launch(
    spec: Spec,
    *,
    container_id: str,
    bundle: str,
    root: str,
    host: HostFacts,
    rootfs_mounts: list[dict[str, Any]] | None = None,
    stdio: tuple[int, int, int] | None = None,
    terminal: bool | None = None,
    console_size: tuple[int, int] | None = None,
    keep_fds: Sequence[int] = (),
    fifo: int = -1,
    no_pivot: bool = False,
    no_new_keyring: bool = False,
    limits: Sequence[tuple[str, int, int]] = (),
    tell: Tell | None = None,
    unit: UnitPlan | None = None,
) -> Launch:
    """Make the first process of a container. `spec` is validated here; `bundle` is absolute.

    `stdio` are descriptors for 0, 1, 2 (None: ours); with `terminal` (None: the spec's) init makes a pty and sends its
    master. `keep_fds` become 3, 4, ... of the program. `fifo`, a descriptor open for both directions, is where init
    waits instead of for `proceed`. `limits`, (rlimit, soft, hard), are set where the spec names none. `tell` is given
    each step as text before it is done, ours at once and init's by `Launch.step`. `unit` has systemd make
    the cgroups. The caller removes them (`cgroup.remove(state["cgroup_paths"], state["config"]["cgroups"])`) when the
    process has ended, and on an error of this function nothing is left. Errors: sampan.errors, OSError.
    """
    oci_spec.validate(spec)
    if "process" not in spec:
        raise Error("process property must not be empty")
    linux = spec.get("linux", {})
    if terminal is None:
        terminal = bool(spec["process"].get("terminal"))
    paths = unit.paths if unit else cgroup.paths(host, linux.get("cgroupsPath", ""), container_id)
    if host.rootless and not unit:
        paths = cgroup.writable(paths)
    if host.euid and not any(one["type"] == "user" for one in linux.get("namespaces", [])):
        raise InvalidArgument("rootless container requires user namespaces")
    program, flags = profile.program_of(linux.get("seccomp"), root)
    size = console_size or _console_size(spec["process"])
    wishes = Wishes(container_id, bundle, rootfs_mounts, paths, terminal, size, program, flags, len(keep_fds),
                    no_pivot, no_new_keyring, limits)  # fmt: skip
    plan = plan_container(spec, wishes, host)
    if tell:
        for step in [*cgroup_steps(paths), *plan.first_steps()]:
            tell(str(step))
    unit.start() if unit else cgroup.create(paths)
    try:
        kept = {"id": container_id, "rootfs": rootfs_path(spec, bundle), "bundle": bundle, "paths": paths}
        kept["cgroups"] = unit.settings if unit else {"path": linux.get("cgroupsPath", "")}
        made = _clone(spec, plan, kept, stdio if not terminal else None, keep_fds, fifo, tell)
        made.state["external_descriptors"] = [] if terminal else state.stream_names(stdio or (0, 1, 2))
        return made
    except BaseException:
        cgroup.remove(paths, unit.settings if unit else None)
        raise
    finally:
        if unit:
            unit.settle()


def _console_size(wanted: Process) -> tuple[int, int] | None:
    size = wanted.get("consoleSize")
    return (size["height"], size["width"]) if size else None


def _clone(
    spec: Spec,
    plan: Plan,
    kept: dict[str, Any],
    stdio: tuple[int, int, int] | None,
    keep_fds: Sequence[int],
    fifo: int,
    tell: Tell | None,
) -> Launch:
    def prepare(situation: Situation, held: list[int]) -> None:
        situation.fifo = fifo
        situation.hooks = plan.hooks  # type: ignore[assignment]
        if plan.joins or plan.uid_mappings or any(step.do == "bind" and step.with_["idmap"] for step in plan.steps):
            _open(plan, spec.get("linux", {}), situation, held)
        if any(plan.hooks.get(name) for name in ("createContainer", "startContainer")):
            situation.states = _hook_states(spec, kept)

    def fork(situation: Situation, unified: int | None) -> tuple[int, int]:
        return fork_into(plan.clone_flags, unified, situation, spec)

    # Without root nobody is cloned out of the cgroup that we are in: the manager moves it.
    joins = {} if kept["cgroups"].get("Rootless") else kept["paths"]
    pid, pidfd, sock = spawn(plan, joins, stdio, keep_fds, tell, prepare, fork)
    return _parent(spec, plan, kept, pid, pidfd, sock, tell)


def _open(plan: Plan, linux: Linux, situation: Situation, held: list[int]) -> None:
    from sampan.runtime import sources  # not for the plain container, which needs none

    situation.sources = sources.open_sources(plan, linux)
    held += sources.opened(situation.sources)
    for kind, path in plan.joins:
        situation.namespaces[kind] = sources.open_namespace(kind, path)
        held.append(situation.namespaces[kind])
        if kind == "network":
            sources.check_sysctls(linux, situation.namespaces[kind])


def _hook_states(spec: Spec, kept: dict[str, Any]) -> dict[str, str]:
    """The state for init's own hooks, by the hook's name; in its pid namespace init is process 1."""
    namespaces = {n["type"] for n in spec.get("linux", {}).get("namespaces", [])}
    made = {"id": kept["id"], "bundle": kept["bundle"], "spec": spec, "init_process_pid": 0,
            "config": {"version": spec.get("ociVersion", "")}}  # fmt: skip
    pid = 1 if "pid" in namespaces else None
    return {
        "createContainer": document.text_of(state.oci_state(made, "creating", pid)),
        "startContainer": document.text_of(state.oci_state(made, "created", pid)),
    }


def _parent(
    spec: Spec, plan: Plan, kept: dict[str, Any], pid: int, pidfd: int, sock: PacketSocket, tell: Tell | None
) -> Launch:
    made = Launch(pid, pidfd, sock, {}, plan, tell)
    try:
        _have_moved(kept["cgroups"], pid)
        if plan.uid_mappings:
            from sampan.runtime import idmap

            _raise_hard_limits(pid, plan.rlimits)
            idmap.write(pid, plan.uid_mappings, plan.gid_mappings)
            handshake.send(sock, handshake.MAPPED)
        if plan.oom_score_adj is not None:
            _set_oom_score(pid, plan.oom_score_adj)
        if spec.get("linux", {}).get("netDevices"):
            _move_devices(spec["linux"], pid)
        made.state = state.new(kept["id"], spec, kept["bundle"], kept["rootfs"], kept["paths"], pid,
                               procfs.start_time(pid), kept["cgroups"])  # fmt: skip
        resources = spec.get("linux", {}).get("resources", {})
        if kept["paths"]:
            # As in runc: without a rule only the devices that every container has.
            resources = {"devices": [], **resources}
        if resources:
            made.limit(kept["paths"], resources)
    except BaseException:
        _end(made)
        raise
    return made


def _have_moved(settings: dict[str, Any], pid: int) -> None:
    """Have a user's own manager of units put a process into the container's unit."""
    if settings.get("Rootless"):
        from sampan.runtime.cgroup import unit

        unit.attach(settings, pid)


def _move_devices(linux: Linux, pid: int) -> None:
    from sampan.runtime import net_devices, sources

    path = next(one.get("path", "") for one in linux["namespaces"] if one["type"] == "network")
    netns = sources.open_namespace("network", path) if path else procfs.open_namespace(pid, "network")
    try:
        net_devices.move(linux["netDevices"], netns)
    finally:
        os.close(netns)


def _raise_hard_limits(pid: int, rlimits: list[tuple[str, int, int]]) -> None:
    """Give init room to set its own limits: from inside a user namespace it cannot raise one."""
    for name, _, hard in rlimits:
        soft, allowed = process.getrlimit(pid, abi.RLIMITS[name])
        if hard > allowed:
            try:
                process.prlimit(pid, abi.RLIMITS[name], soft, hard)
            except PermissionError:
                pass  # init's own attempt fails in a moment, with the right words


def _set_oom_score(pid: int, score: int) -> None:
    proc = procfs.open_proc()
    try:
        procfs.set_oom_score_adj(proc, pid, score)
    except OSError as error:
        if os.geteuid() and isinstance(error, PermissionError):
            return  # as runc: a rootless caller may not lower it
        raise Error(f"unable to start container process: write /proc/{pid}/oom_score_adj: {words(error)}") from None
    finally:
        os.close(proc)


def launch_exec(
    container: dict[str, Any],
    wanted: Process,
    *,
    host: HostFacts,
    root: str = "",
    stdio: tuple[int, int, int] | None = None,
    terminal: bool | None = None,
    console_size: tuple[int, int] | None = None,
    keep_fds: Sequence[int] = (),
    cgroup_paths: dict[str, str] | None = None,
    limits: Sequence[tuple[str, int, int]] = (),
    tell: Tell | None = None,
) -> Launch:
    """Make one more process in the running container whose loaded state is `container`. Otherwise as `launch`.

    `wanted` is a runtime-spec process object. Errors: sampan.errors; NotFound when init has gone.
    """
    oci_spec.validate_process(wanted)
    spec: Spec = container["spec"]
    linux = spec.get("linux", {})
    if terminal is None:
        terminal = bool(wanted.get("terminal"))
    program, flags = profile.program_of(linux.get("seccomp"), root)
    paths = cgroup_paths or _entrance(container, host)
    size = console_size or _console_size(wanted)
    wishes = Wishes(container["id"], container["bundle"], None, paths, terminal, size, program, flags, len(keep_fds),
                    limits=limits)  # fmt: skip
    kinds = {n["type"]: n.get("path", "") for n in linux.get("namespaces", [])}
    plan = plan_exec(wanted, kinds, wishes, host)
    made = _clone_beside(container, plan, paths, kinds, stdio if not terminal else None, keep_fds, tell)
    try:
        _have_moved(container["config"].get("cgroups", {}), made.pid)
        if plan.oom_score_adj is not None:
            _set_oom_score(made.pid, plan.oom_score_adj)
    except BaseException:
        _end(made)
        raise
    return made


def _entrance(container: dict[str, Any], host: HostFacts) -> dict[str, str]:
    try:
        return cgroup.entrance(container["cgroup_paths"], container["init_process_pid"], host)
    except OSError:
        raise Error("cannot exec in a stopped container") from None


def _clone_beside(
    container: dict[str, Any],
    plan: Plan,
    paths: dict[str, str],
    kinds: dict[str, str],
    stdio: tuple[int, int, int] | None,
    keep_fds: Sequence[int],
    tell: Tell | None,
) -> Launch:
    def prepare(situation: Situation, held: list[int]) -> None:
        situation.container_pidfd = _pidfd_of(container)
        held.append(situation.container_pidfd)
        situation.in_user_namespace = os.geteuid() != 0 and "user" in kinds
        for kind in ("pid", "time"):
            if kind in kinds and not situation.in_user_namespace:
                situation.namespaces[kind] = procfs.open_namespace(container["init_process_pid"], kind)
                held.append(situation.namespaces[kind])

    def fork(situation: Situation, unified: int | None) -> tuple[int, int]:
        if not situation.in_user_namespace:
            return fork_into(0, unified, situation, {})
        from sampan.runtime import rootless

        flags = (abi.NAMESPACES[kind][0] for kind in ("pid", "time") if kind in kinds)
        return rootless.fork(situation.container_pidfd, sum(flags))

    pid, pidfd, sock = spawn(plan, paths, stdio, keep_fds, tell, prepare, fork)
    return Launch(pid, pidfd, sock, container, plan, tell)


def _end(made: Launch) -> None:
    """Kill and reap what could not be finished."""
    made.discard()
    os.waitid(os.P_PIDFD, made.pidfd, os.WEXITED)
    os.close(made.pidfd)


def _pidfd_of(container: dict[str, Any]) -> int:
    """A pidfd of the container's init, made sure of by its start time. Errors: Error."""
    try:
        pidfd = process.pidfd_open(container["init_process_pid"])
    except OSError:
        raise Error("cannot exec in a stopped container") from None
    if not state.alive(container):
        os.close(pidfd)
        raise Error("cannot exec in a stopped container")
    return pidfd
