"""The verbs of runc's command line: each a row of the table with its flags and a function that parses nothing more.

A function takes (flag values, arguments, options), calls the plain function of the verb's own module, which is imported
only then, and returns the exit code.
"""

from __future__ import annotations

import os

from sampan import errors
from sampan.runtime.flags import BOOL, INT, LIST, STRING, Flag
from sampan.runtime.report import fatal, out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.runtime.report import Options

BUNDLE = [
    Flag("bundle, b", STRING, "path to the root of the bundle directory, defaults to the current directory"),
    Flag("console-socket", STRING, "path to an AF_UNIX socket which will receive a file descriptor referencing the "
         "master end of the console's pseudoterminal"),
    Flag("pidfd-socket", STRING, "path to an AF_UNIX socket which will receive a file descriptor referencing the "
         "init process"),
    Flag("pid-file", STRING, "specify the file to write the process id to"),
    Flag("no-pivot", BOOL, "do not use pivot root to jail process inside rootfs"),
    Flag("no-new-keyring", BOOL, "do not create a new session keyring for the container"),
    Flag("preserve-fds", INT, "Pass N additional file descriptors to the container"),
    Flag("explain", BOOL, "say each step before it is done, and the field of the spec that asks for it"),
    Flag("plan", BOOL, "print the steps with their arguments and do none of them"),
    Flag("dry-run", BOOL, "do nothing; with --explain only say it (needs no root)"),
]  # fmt: skip


class Verb:
    """`do` takes (flag values, arguments, options); `count` is the least and the most arguments."""

    __slots__ = ("arguments", "count", "do", "flags", "reorder", "usage")

    def __init__(
        self,
        do: Callable[[dict[str, Any], list[str], Options], int],
        usage: str,
        arguments: str,
        count: tuple[int, int],
        flags: list[Flag],
        reorder: bool = True,
    ) -> None:
        self.do = do
        self.usage = usage
        self.arguments = arguments
        self.count = count
        self.flags = flags
        self.reorder = reorder


def _run_or_create(name: str, values: dict[str, Any], rest: list[str], options: Options) -> int:
    bundle = os.path.abspath(values["bundle"] or ".")
    from sampan.runtime import create

    try:
        if values["plan"] or values["explain"] or values["dry-run"]:
            from sampan.runtime import explain

            said = explain.explained if values["explain"] else explain.listed
            flags = {"no_pivot": values["no-pivot"], "no_new_keyring": values["no-new-keyring"]}
            out(said(rest[0], bundle, **flags, systemd=options.systemd))
            if values["plan"] or values["dry-run"]:
                return 0
        return create.run(
            rest[0], bundle, options.root, create_only=name == "create", detach=values.get("detach", False),
            keep=values.get("keep", False), console_socket=_absolute(values["console-socket"]),
            pid_file=_absolute(values["pid-file"]), preserve_fds=values["preserve-fds"], no_pivot=values["no-pivot"],
            no_new_keyring=values["no-new-keyring"], pidfd_socket=_absolute(values["pidfd-socket"]),
            rootless=options.rootless, systemd=options.systemd, report=options.report, verbose=options.debug,
        )  # fmt: skip
    except errors.Error as error:
        raise type(error)(f"runc {name} failed: {error}") from None


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path else ""


def _create(values: dict[str, Any], rest: list[str], options: Options) -> int:
    return _run_or_create("create", values, rest, options)


def _run(values: dict[str, Any], rest: list[str], options: Options) -> int:
    return _run_or_create("run", values, rest, options)


def _start(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import start, state

    start.start(options.root, state.load(options.root, rest[0]))
    return 0


def _state(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import document, state

    found = state.described(options.root, state.load(options.root, rest[0]))
    out(document.text_of(found, indent=2))
    return 0


def _kill(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import kill, state

    found = state.load(options.root, rest[0])
    kill.kill(
        options.root, found, kill.parse_signal(rest[1] if len(rest) > 1 and rest[1] else "SIGTERM"), values["all"]
    )
    return 0


def _delete(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import delete

    for problem in delete.delete(options.root, rest[0], values["force"]):
        options.report("error", problem)
    return 0


def _exec(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import exec, state

    try:
        found = state.load(options.root, rest[0])
        exec.check_status(options.root, found, values["ignore-paused"])
        if values["process"]:
            process = exec.process_from_file(found, values["process"])
        elif len(rest) < 2:
            raise errors.InvalidArgument("process args cannot be empty")
        else:
            process = exec.process_from_flags(found, rest[1:], values)
        return exec.run_exec(
            options.root, found, process, detach=values["detach"], console_socket=_absolute(values["console-socket"]),
            pid_file=_absolute(values["pid-file"]), preserve_fds=values["preserve-fds"], cgroup_below=values["cgroup"],
            pidfd_socket=_absolute(values["pidfd-socket"]), report=options.report, verbose=options.debug,
        )  # fmt: skip
    except (errors.Error, OSError) as error:
        # 255, so that a caller can tell our failure from most exit codes of the process.
        fatal(f"exec failed: {error}", options, 255)


def _list(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import document, list

    if values["format"] not in ("table", "json"):
        raise errors.InvalidArgument("invalid format option")
    found = list.containers(options.root)
    if values["quiet"]:
        out("".join(f"{one['id']}\n" for one in found))
    elif values["format"] == "json":
        out(document.text_of(found or None) + "\n")
    else:
        out(list.table(found))
    return 0


def _pause(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import pause, state

    pause.pause(options.root, state.load(options.root, rest[0]))
    return 0


def _resume(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import pause, state

    pause.resume(options.root, state.load(options.root, rest[0]))
    return 0


def _ps(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import document, ps, state

    if values["format"] not in ("table", "json"):
        raise errors.InvalidArgument("invalid format option")
    found = state.load(options.root, rest[0])
    if values["format"] == "json":
        out(document.text_of(ps.pids(found) or None) + "\n")
    else:
        out(ps.table(found, rest[1:]))
    return 0


def _update(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import state, update
    from sampan.runtime.plan import warnings

    found = state.load(options.root, rest[0])
    source = values["resources"]
    resources = update.resources_from(source) if source else update.resources_of(values)
    if values["kernel-memory"] or values["kernel-memory-tcp"] or warnings.kernel_memory(resources):
        options.report("warning", warnings.KERNEL_MEMORY)
    update.update(options.root, found, resources)
    return 0


def _events(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import document, events, state, update

    found = state.load(options.root, rest[0])
    if values["stats"]:
        out(document.text_of(events.stats_event(options.root, found)) + "\n")
        return 0
    seconds = update.parse_duration(values["interval"])
    if seconds <= 0:
        raise errors.InvalidArgument("duration interval must be greater than 0")
    for event in events.watch(options.root, found, seconds):
        out(document.text_of(event) + "\n")
    return 0


def _checkpoint(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import checkpoint, state
    from sampan.runtime.criu import wishes

    found = state.load(options.root, rest[0])
    for problem in checkpoint.checkpoint(options.root, found, wishes.of_flags(values, options.criu)):
        options.report("error", problem)
    return 0


def _restore(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import restore
    from sampan.runtime.criu import wishes

    return restore.run(
        rest[0], os.path.abspath(values["bundle"] or "."), options.root, wishes.of_flags(values, options.criu),
        detach=values["detach"], console_socket=_absolute(values["console-socket"]),
        pid_file=_absolute(values["pid-file"]), systemd=options.systemd,
    )  # fmt: skip


def _spec(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import spec

    spec.write(os.path.abspath(values["bundle"] or "."), values["rootless"])
    return 0


def _features(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import document, features, host

    out(document.text_of(features.document(host.host_facts()), indent=4) + "\n")
    return 0


_FORMAT = Flag("format, f", STRING, "select one of: table or json", "table")

EXEC = [
    Flag("console-socket", STRING, "path to an AF_UNIX socket which will receive a file descriptor referencing the "
         "master end of the console's pseudoterminal"),
    Flag("pidfd-socket", STRING, "path to an AF_UNIX socket which will receive a file descriptor referencing the "
         "exec process"),
    Flag("cwd", STRING, "current working directory in the container"),
    Flag("env, e", LIST, "set environment variables"),
    Flag("tty, t", BOOL, "allocate a pseudo-TTY"),
    Flag("user, u", STRING, "UID (format: <uid>[:<gid>])"),
    Flag("additional-gids, g", LIST, "additional gids"),
    Flag("process, p", STRING, "path to the process.json"),
    Flag("detach, d", BOOL, "detach from the container's process"),
    Flag("pid-file", STRING, "specify the file to write the process id to"),
    Flag("process-label", STRING, "set the asm process label for the process commonly used with selinux"),
    Flag("apparmor", STRING, "set the apparmor profile for the process"),
    Flag("no-new-privs", BOOL, "set the no new privileges value for the process"),
    Flag("cap, c", LIST, "add a capability to the bounding set for the process"),
    Flag("preserve-fds", INT, "pass N additional file descriptors to the container"),
    Flag("cgroup", LIST, "run the process in an (existing) sub-cgroup(s)"),
    Flag("ignore-paused", BOOL, "allow exec in a paused container"),
]  # fmt: skip

UPDATE = [
    Flag("resources, r", STRING, "path to the file containing the resources to update or '-' to read from stdin"),
    Flag("blkio-weight", INT, "per cgroup block IO weight"),
    Flag("pids-limit", INT, "Maximum number of pids allowed in the container"),
    *(
        Flag(name, STRING, usage)
        for name, usage in (
            ("cpu-period", "CPU CFS period to be used for hardcapping (in usecs)"),
            ("cpu-quota", "CPU CFS hardcap limit (in usecs)"),
            ("cpu-burst", "CPU CFS hardcap burst limit (in usecs)"),
            ("cpu-share", "CPU shares (relative weight vs. other containers)"),
            ("cpu-rt-period", "CPU realtime period to be used for hardcapping (in usecs)"),
            ("cpu-rt-runtime", "CPU realtime hardcap limit (in usecs)"),
            ("cpu-idle", "set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE"),
            ("cpuset-cpus", "CPU(s) to use"),
            ("cpuset-mems", "Memory node(s) to use"),
            ("memory", "Memory limit (in bytes)"),
            ("memory-reservation", "Memory reservation or soft_limit (in bytes)"),
            ("memory-swap", "Total memory usage (memory + swap); set '-1' to enable unlimited swap"),
            ("kernel-memory", "(obsolete)"),
            ("kernel-memory-tcp", "(obsolete)"),
            ("l3-cache-schema", "The string of Intel RDT/CAT L3 cache schema"),
            ("mem-bw-schema", "The string of Intel RDT/MBA memory bandwidth schema"),
        )
    ),
]

CRIU = [
    Flag("image-path", STRING, "path for saving criu image files, or to those to restore"),
    Flag("work-path", STRING, "path for saving work files and logs"),
    Flag("tcp-established", BOOL, "allow open tcp connections"),
    Flag("ext-unix-sk", BOOL, "allow external unix sockets"),
    Flag("shell-job", BOOL, "allow shell jobs"),
    Flag("file-locks", BOOL, "handle file locks, for safety"),
    Flag("manage-cgroups-mode", STRING, "cgroups mode: 'soft' (default), 'full', 'strict' and 'ignore'"),
    Flag("empty-ns", LIST, "create a namespace, but don't restore its properties"),
    Flag("auto-dedup", BOOL, "enable auto deduplication of memory images"),
    Flag("lazy-pages", BOOL, "use userfaultfd to lazily restore memory pages"),
]

CHECKPOINT = [
    Flag("parent-path", STRING, "path for previous criu image files in pre-dump"),
    Flag("leave-running", BOOL, "leave the process running after checkpointing"),
    Flag("tcp-skip-in-flight", BOOL, "skip in-flight tcp connections"),
    Flag("link-remap", BOOL, "remap unlinked files back by hard-linking them"),
    Flag("status-fd", INT, "criu writes \\0 to this FD once lazy-pages is ready", -1),
    Flag("page-server", STRING, "ADDRESS:PORT of the page server"),
    Flag("pre-dump", BOOL, "dump container's memory information only, leave the container running after this"),
]

RESTORE = [
    Flag("console-socket", STRING, "path to an AF_UNIX socket which will receive a file descriptor referencing the "
         "master end of the console's pseudoterminal"),
    Flag("bundle, b", STRING, "path to the root of the bundle directory"),
    Flag("detach, d", BOOL, "detach from the container's process"),
    Flag("pid-file", STRING, "specify the file to write the process id to"),
    Flag("no-subreaper", BOOL, "disable the use of the subreaper used to reap reparented processes"),
    Flag("no-pivot", BOOL, "do not use pivot root to jail process inside rootfs"),
    Flag("lsm-profile", STRING, "Specify an LSM profile to be used during restore in the form of TYPE:NAME."),
    Flag("lsm-mount-context", STRING, "Specify an LSM mount context to be used during restore."),
]  # fmt: skip

_MANY = 1 << 30

VERBS: dict[str, Verb] = {
    "checkpoint": Verb(
        _checkpoint, "checkpoint a running container", "<container-id>", (1, 1), [*CRIU, *CHECKPOINT],
    ),
    "create": Verb(_create, "create a container", "<container-id>", (1, 1), BUNDLE),
    "delete": Verb(
        _delete, "delete any resources held by the container often used with detached container", "<container-id>",
        (1, 1), [Flag("force, f", BOOL, "Forcibly deletes the container if it is still running (uses SIGKILL)")],
    ),
    "kill": Verb(
        _kill, "kill sends the specified signal (default: SIGTERM) to the container's init process",
        "<container-id> [signal]", (1, 2), [Flag("all, a", BOOL, "send the signal to all processes")],
    ),
    "run": Verb(
        _run, "create and run a container", "<container-id>", (1, 1),
        [
            *BUNDLE,
            Flag("detach, d", BOOL, "detach from the container's process"),
            Flag("keep", BOOL, "do not delete the container after it exits"),
            Flag("no-subreaper", BOOL, "disable the use of the subreaper used to reap reparented processes"),
        ],
    ),
    "events": Verb(
        _events, "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
        "<container-id>", (1, 1),
        [
            Flag("interval", STRING, "set the stats collection interval", "5s"),
            Flag("stats", BOOL, "display the container's stats then exit"),
        ],
    ),
    "exec": Verb(
        _exec, "execute new process inside the container", "<container-id> <command> [command options] || -p "
        "process.json <container-id>", (1, _MANY), EXEC, reorder=False,
    ),
    "features": Verb(_features, "show the enabled features", "", (0, 0), []),
    "list": Verb(
        _list, "lists containers started by runc with the given root", "", (0, 0),
        [_FORMAT, Flag("quiet, q", BOOL, "display only container IDs")],
    ),
    "pause": Verb(_pause, "pause suspends all processes inside the container", "<container-id>", (1, 1), []),
    "ps": Verb(
        _ps, "ps displays the processes running inside a container", "<container-id> [ps options]", (1, _MANY),
        [_FORMAT], reorder=False,
    ),
    "restore": Verb(
        _restore, "restore a container from a previous checkpoint", "<container-id>", (1, 1), [*CRIU, *RESTORE],
    ),
    "resume": Verb(
        _resume, "resumes all processes that have been previously paused", "<container-id>", (1, 1), [],
    ),
    "spec": Verb(
        _spec, "create a new specification file", "", (0, 0),
        [
            Flag("bundle, b", STRING, "path to the root of the bundle directory"),
            Flag("rootless", BOOL, "generate a configuration for a rootless container"),
        ],
    ),
    "update": Verb(_update, "update container resource constraints", "<container-id>", (1, 1), UPDATE),
    "start": Verb(_start, "executes the user defined process in a created container", "<container-id>", (1, 1), []),
    "state": Verb(_state, "output the state of a container", "<container-id>", (1, 1), []),
}  # fmt: skip
