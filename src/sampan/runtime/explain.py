"""`--explain` and `--plan`: the whole of what a container is, without doing any of it and without root.

`listed` is the plan as it is, a line a step; `explained` says it to a reader, like steps in one sentence:

    inside
      mount proc on /proc                                         mounts[0]
      mount tmpfs on /dev: mode=755 nosuid                        mounts[1]
      cover with nothing: /proc/kcore, /proc/keys                 linux.maskedPaths[0..1]
"""

from __future__ import annotations

from sampan.runtime import cgroup
from sampan.runtime.create import load_spec
from sampan.runtime.host import host_facts
from sampan.runtime.plan import READY, Wishes, cgroup_steps, limit_steps, plan_container
from sampan.runtime.plan.step import Step, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.oci.spec import Spec
    from sampan.runtime.host import HostFacts

_WIDTH = 76
"""Columns of the sentences; behind them stand the fields that ask for it."""

# A step to its sentence. {name} is an argument of the step as `plan.step` shows it. What stands in braces at the end
# may be shared with the steps before and after: those make one sentence with a list.
_SENTENCES = {
    "apparmor": "enter the AppArmor profile {profile} at execve",
    "await_id_maps": "wait for the id maps",
    "become_namespace_root": "become root of the user namespace",
    "bind": "bind {source} on {destination}{: attributes tree_attributes propagation}",
    "bounding_set": "give up for ever all capabilities but {keep}",
    "capabilities": "keep the capabilities {effective}{, inheritable: inheritable}{, ambient: ambient}",
    "cgroup1_mount": "mount its part of each cgroup hierarchy below {destination}{: attributes}",
    "cgroup2_mount": "mount its cgroup on {destination}{: attributes}",
    "clone3": "make a process{ in new namespaces: new}{, to join: join}",
    "close_descriptors": "close at execve every descriptor but the standard streams{ and the next: preserve}",
    "console": "open a terminal of the container's own for the standard streams",
    "cpu_affinity": "run on the processors {cpus}",
    "device": "make the devices |{path}",
    "domainname": "set the domain name {name}",
    "environment": "set the variables {env}",
    "execve": "become the program: {args}",
    "find_program": "find the program {name}",
    "hook": "run in the container's namespaces: |{hook}",
    "host_propagation": "let no mount of ours reach the host",
    "hostname": "set the host name {name}",
    "io_priority": "set the I/O priority {priority} of class {ioclass}",
    "join_cgroups": "join the cgroups",
    "join_namespaces": "join the namespaces {namespaces}",
    "limit": "the parent limits |{name}",
    "loopback_up": "raise the loopback device",
    "make_cgroup": "make the cgroups |{path}",
    "make_unit": "have systemd make the unit {unit} in {slice}",
    "make_working_directory": "make the working directory {path} if it is missing",
    "mask_path": "cover with nothing: |{path}",
    "memory_policy": "set the memory policy {mode}{ of nodes: nodes}",
    "mount": "mount {type} on {destination}{: data attributes propagation}",
    "mount_with_copy": "mount {type} on {destination} with a copy of what is there{: data attributes propagation}",
    "move_device": "move in from the host's network: |{name}",
    "new_session": "lead a new session",
    "no_new_privileges": "let no program gain privileges (no_new_privs)",
    "oom_score_adj": "the parent sets the OOM score adjustment {score}",
    "open_proc": "open a /proc that nothing can be mounted over",
    "parent_hooks": "wait while the parent runs the hooks",
    "personality": "set the personality {persona}",
    "pivot_root": "make the rootfs the root, and drop all mounts of the host",
    "poststart": "the parent runs |{hook}",
    "prestart": "the parent runs |{hook}",
    "read_only_mount": "make read-only: |{destination}",
    "read_only_path": "make read-only: |{path}",
    "null_streams": "let standard streams that are the host's null device be the container's",
    "read_only_root": "make the root read-only",
    READY: "say that all is ready, and wait for start",
    "rlimit": "limit {name} to {soft}, at most {hard}",
    "root": "take {path} for the rootfs",
    "rootfs_mount": "mount the rootfs: {type} on {target}{: data}",
    "root_propagation": "set the propagation of the root",
    "scheduler": "set the scheduler's policy {policy}",
    "seccomp": "filter system calls from now on",
    "selinux": "enter the SELinux label {label} at execve",
    "session_keyring": "have a session keyring of its own",
    "start_hooks": "run the startContainer hooks in the container",
    "stdio_owner": "give the standard streams to the user",
    "symlink": "make the links |{path}",
    "sysctl": "set the sysctls |{key}",
    "unshare": "make a cgroup namespace, rooted in its own cgroups",
    "user": "become user {uid}, group {gid}{, groups: groups} in {cwd}",
    "write_id_maps": "the parent maps the user's ids: {uids}",
}


def listed(
    container_id: str, bundle: str, *, no_pivot: bool = False, no_new_keyring: bool = False, systemd: bool = False
) -> str:
    """The steps that `create` would take for the bundle, with all their arguments. Errors: as `create`."""
    first, inside, after = _steps(container_id, bundle, no_pivot, no_new_keyring, systemd)
    return "".join(f"{step}\n" for step in [*first, *inside, *after])


def explained(
    container_id: str, bundle: str, *, no_pivot: bool = False, no_new_keyring: bool = False, systemd: bool = False
) -> str:
    """The same as sentences for a reader. Errors: as `create`."""
    first, inside, after = _steps(container_id, bundle, no_pivot, no_new_keyring, systemd)
    parts = (("on the host", first), ("the new process", inside), ("on the host again", after))
    return "".join(f"{title}\n{_sentences(steps)}" for title, steps in parts if steps)


def _steps(
    container_id: str, bundle: str, no_pivot: bool, no_new_keyring: bool, systemd: bool
) -> tuple[list[Step], list[Step], list[Step]]:
    """What the parent does first, what the new process does, what the parent does when the program runs."""
    spec = load_spec(bundle)
    host = host_facts()
    linux = spec.get("linux", {})
    wanted = linux.get("cgroupsPath", "")
    unit, paths = _unit(wanted, container_id, host) if systemd else ([], cgroup.paths(host, wanted, container_id))
    terminal = bool(spec.get("process", {}).get("terminal"))
    filtered = b"..." if linux.get("seccomp") else None
    wishes = Wishes(container_id, bundle, [], paths, terminal, None, filtered, 0, 0, no_pivot, no_new_keyring)
    plan = plan_container(spec, wishes, host)
    first = [*unit, *cgroup_steps(paths), *plan.first_steps()]
    return first, _with_the_parents(plan.steps, spec), _hooks(spec, "poststart")


def _unit(wanted: str, container_id: str, host: HostFacts) -> tuple[list[Step], dict[str, str]]:
    """The step that has systemd make the unit, and where its cgroups are. Errors: InvalidArgument for a wrong path."""
    from sampan.runtime.cgroup import systemd, unit

    settings = systemd.settings(wanted, container_id, host.rootless)
    step = Step("make_unit", "linux.cgroupsPath", unit=systemd.unit_name(settings), slice=systemd.slice_of(settings))
    return [step], unit.paths(settings, host)


def _with_the_parents(steps: list[Step], spec: Spec) -> list[Step]:
    """Init's steps, and before each at which it waits what the parent does meanwhile."""
    linux: Any = spec.get("linux", {})
    limits = limit_steps(linux.get("resources", {}))
    devices = [Step("move_device", "linux.netDevices", name=name) for name in linux.get("netDevices") or {}]
    found: list[Step] = []
    for step in steps:
        if step.do in ("parent_hooks", READY):
            found, limits = found + limits, []
        found.append(step)
        if step.do == "parent_hooks":
            found += [*_hooks(spec, "prestart"), *_hooks(spec, "createRuntime")]
        elif step.do == "join_cgroups":
            found += devices
    return found


def _hooks(spec: Spec, name: str) -> list[Step]:
    do = "poststart" if name == "poststart" else "prestart"
    return [
        Step(do, f"hooks.{name}[{index}]", hook=hook) for index, hook in enumerate(spec.get("hooks", {}).get(name, []))
    ]


def _sentences(steps: list[Step]) -> str:
    """Steps with the same beginning and one varying end become one sentence."""
    rows: list[tuple[str, list[str], list[str]]] = []
    for step in steps:
        beginning, bar, end = _SENTENCES[step.do].partition("|")
        text = _filled(beginning, step)
        if bar and rows and rows[-1][0] == text and _list_of(rows[-1][2][0]) == _list_of(step.cause):
            rows[-1][1].append(_filled(end, step))
            rows[-1][2].append(step.cause)
        else:
            rows.append((text, [_filled(end, step)] if bar else [], [step.cause]))
    return "".join(_row(text + ", ".join(items), _causes(causes)) for text, items, causes in rows)


def _filled(pattern: str, step: Step) -> str:
    """`pattern` with the step's arguments; "{words: a b}" is there only when one of them says something."""
    text = ""
    while pattern:
        before, brace, rest = pattern.partition("{")
        text += before
        if not brace:
            break
        inner, _, pattern = rest.partition("}")
        words, colon, names = inner.rpartition(": ")
        values = [shown(name, step.with_.get(name)) for name in names.split() if step.with_.get(name) or not colon]
        if not colon or values:
            text += (f"{words}: " if words or colon else "") + " ".join(value.replace(",", " ") for value in values)
    return text


def _list_of(cause: str) -> str:
    """The list that an entry's path is of, the parent of a member: what may be told together."""
    return cause.partition("[")[0] if "[" in cause else cause.rpartition(".")[0] or cause


def _causes(causes: list[str]) -> str:
    """One for all, or "linux.maskedPaths[0..9]" for neighbours of one list."""
    unique = list(dict.fromkeys(causes))
    if len(unique) == 1:
        return unique[0]
    first, last = (cause.partition("[")[2].rstrip("]") for cause in (unique[0], unique[-1]))
    if first.isdigit() and last.isdigit():
        return f"{_list_of(unique[0])}[{first}..{last}]"
    return _list_of(unique[0]) + ("[...]" if first else "")


def _row(text: str, cause: str) -> str:
    """The sentence, broken at blanks, with its cause behind the first line."""
    lines = ["  "]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) > _WIDTH and lines[-1].strip():
            lines.append("      ")
        lines[-1] += f"{word} "
    lines = [line.rstrip() for line in lines]
    return "\n".join([f"{lines[0].ljust(_WIDTH + 2)}  {cause}", *lines[1:]]) + "\n"
