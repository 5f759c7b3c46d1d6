"""runc's command line: global flags, the verbs, its way of reporting errors and its exit codes.

Each verb is a function of (flags, arguments, options) here that parses its own flags and calls the plain function in
the verb's module, imported only then. Source: runc 1.1 to 1.5, `runc --help` and main.go.
"""

from __future__ import annotations

import os

from sampan import errors
from sampan.runtime.flags import BOOL, INT, STRING, Flag, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

GLOBAL = [
    Flag("debug", BOOL, "enable debug logging"),
    Flag("log", STRING, "set the log file to write runc logs to (default is '/dev/stderr')"),
    Flag("log-format", STRING, "set the log format ('text' (default), or 'json')", "text"),
    Flag("root", STRING, "root directory for storage of container state (this should be located in tmpfs)"),
    Flag("criu", STRING, "(obsoleted; do not use)"),
    Flag("systemd-cgroup", BOOL, "enable systemd cgroup support, expects cgroupsPath to be of form slice:prefix:name"),
    Flag("rootless", STRING, "ignore cgroup permission errors ('true', 'false', or 'auto')", "auto"),
    Flag("help, h", BOOL, "show help"),
    Flag("version, v", BOOL, "print the version"),
]

HELP = Flag("help, h", BOOL, "show help")

BUNDLE = [
    Flag("bundle, b", STRING, "path to the root of the bundle directory, defaults to the current directory"),
    Flag("console-socket", STRING, "path to an AF_UNIX socket which will receive a file descriptor referencing the "
         "master end of the console's pseudoterminal"),
    Flag("pid-file", STRING, "specify the file to write the process id to"),
    Flag("no-pivot", BOOL, "do not use pivot root to jail process inside rootfs"),
    Flag("no-new-keyring", BOOL, "do not create a new session keyring for the container"),
    Flag("preserve-fds", INT, "Pass N additional file descriptors to the container"),
    Flag("explain", BOOL, "print each step and the field of the spec that asks for it"),
    Flag("plan", BOOL, "print the steps and do none of them"),
]  # fmt: skip


class Options:
    """The global flags: `root` is absolute."""

    __slots__ = ("debug", "log", "log_format", "root")

    def __init__(self, values: dict[str, Any]) -> None:
        self.debug = values["debug"]
        self.log = values["log"]
        self.log_format = values["log-format"]
        self.root = os.path.abspath(values["root"]) if values["root"] else default_root()


def default_root() -> str:
    """/run/runc's place of ours, or below XDG_RUNTIME_DIR for a user without privileges."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.geteuid() != 0 and runtime:
        return f"{runtime}/sampan-runc"
    return "/run/sampan-runc"


def main(arguments: list[str]) -> NoReturn:
    """Run the command line `arguments` (without the program's name) and exit with its code."""
    options: Options | None = None
    try:
        values, rest = parse(arguments, GLOBAL, reorder=False)
        if values["version"]:
            from sampan.runtime import features

            leave(0, features.version_text())
        if values["help"] or not rest or rest[0] in ("help", "h"):
            from sampan.runtime import usage

            leave(0, usage.overview(GLOBAL, VERBS))
        options = Options(values)
        if options.log_format not in ("text", "json"):
            raise errors.InvalidArgument("invalid log-format: " + options.log_format)
        if options.root == "/":
            raise errors.InvalidArgument("Option --root argument should not be set to '/'")
        code = _verb(rest[0], rest[1:], options)
    except errors.Error as error:
        fatal(str(error), options)
    except OSError as error:
        fatal(_os_text(error), options)
    except KeyboardInterrupt:
        leave(130)
    leave(code)


def _os_text(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)


def leave(code: int, text: str = "") -> NoReturn:
    """Write `text` and end at once: tearing an interpreter down takes 2 ms and does nothing that the kernel does not."""
    if text:
        out(text)
    os._exit(code)


def out(text: str) -> None:
    """To standard output, whole."""
    data = memoryview(text.encode("utf-8", "surrogateescape"))
    while data:
        data = data[os.write(1, data) :]


def fatal(message: str, options: Options | None, code: int = 1) -> NoReturn:
    """runc's report of an error: a log line on stderr, or in the log file with the bare message on stderr."""
    import time

    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if options is not None and options.log_format == "json":
        from sampan.runtime import document

        line = document.text_of({"level": "error", "msg": message, "time": stamp})
    else:
        line = f"time={_quoted(stamp)} level=error msg={_quoted(message)}"
    data = f"{line}\n".encode("utf-8", "surrogateescape")
    if options is not None and options.log:
        try:
            fd = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_SYNC | os.O_CLOEXEC, 0o644)
            os.write(fd, data)
        except OSError as error:
            message = f"open {options.log}: {error.strerror}: {message}"
        data = f"{message}\n".encode("utf-8", "surrogateescape")
    os.write(2, data)
    os._exit(code)


def _quoted(text: str) -> str:
    """As logrus quotes: Go's %q for anything but plain words."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(letter, letter) for letter in text) + '"'


def _verb(name: str, arguments: list[str], options: Options) -> int:
    verb = VERBS.get(name)
    if verb is None:
        fatal(f"No help topic for '{name}'\n", options, 3)
    known = [*verb.flags, HELP]
    try:
        values, rest = parse(arguments, known, verb.reorder)
    except errors.InvalidArgument as error:
        from sampan.runtime import usage

        out(f"Incorrect Usage: {error}\n\n{usage.of_verb(name, verb)}")
        raise
    if values["help"]:
        from sampan.runtime import usage

        leave(0, usage.of_verb(name, verb))
    low, high = verb.count
    if not low <= len(rest) <= high:
        from sampan.runtime import usage

        out(f"Incorrect Usage.\n\n{usage.of_verb(name, verb)}")
        wanted = (
            f"exactly {low}" if low == high else f"a minimum of {low}" if len(rest) < low else f"a maximum of {high}"
        )
        raise errors.InvalidArgument(f'runc: "{name}" requires {wanted} argument(s)')
    return verb.do(values, rest, options)


class Verb:
    """`do` takes (flag values, arguments, options) and returns the exit code; `count` is how many arguments it takes."""

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
    if values["plan"] or values["explain"]:
        from sampan.runtime import explain

        out(explain.plan_text(rest[0], bundle, no_pivot=values["no-pivot"], no_new_keyring=values["no-new-keyring"]))
        if values["plan"]:
            return 0
    from sampan.runtime import create

    try:
        return create.run(
            rest[0], bundle, options.root, create_only=name == "create", detach=values.get("detach", False),
            keep=values.get("keep", False), console_socket=_absolute(values["console-socket"]),
            pid_file=_absolute(values["pid-file"]), preserve_fds=values["preserve-fds"], no_pivot=values["no-pivot"],
            no_new_keyring=values["no-new-keyring"],
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
    kill.kill(options.root, found, kill.parse_signal(rest[1] if len(rest) > 1 else "SIGTERM"), values["all"])
    return 0


def _delete(values: dict[str, Any], rest: list[str], options: Options) -> int:
    from sampan.runtime import delete

    delete.delete(options.root, rest[0], values["force"])
    return 0


VERBS: dict[str, Verb] = {
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
    "start": Verb(_start, "executes the user defined process in a created container", "<container-id>", (1, 1), []),
    "state": Verb(_state, "output the state of a container", "<container-id>", (1, 1), []),
}  # fmt: skip
