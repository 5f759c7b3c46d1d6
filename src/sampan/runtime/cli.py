"""runc's command line: global flags, the verbs, its way of reporting errors and its exit codes.

Source: runc 1.1 to 1.5, `runc --help` and main.go.
"""

from __future__ import annotations

import os

from sampan import errors
from sampan.runtime.flags import BOOL, FALSE, STRING, TRUE, Flag, parse
from sampan.runtime.report import Options, fatal, leave, open_log, out
from sampan.runtime.verbs import VERBS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

GLOBAL = [
    Flag("debug", BOOL, "enable debug logging"),
    Flag("log", STRING, "set the log file to write runc logs to (default is '/dev/stderr')"),
    Flag("log-format", STRING, "set the log format ('text' (default), or 'json')", "text"),
    Flag("root", STRING, "root directory for storage of container state (this should be located in tmpfs)"),
    Flag("criu", STRING, "path to the criu binary used for checkpoint and restore", "criu"),
    Flag("systemd-cgroup", BOOL, "enable systemd cgroup support, expects cgroupsPath to be of form slice:prefix:name"),
    Flag("rootless", STRING, "ignore cgroup permission errors ('true', 'false', or 'auto')", "auto"),
    Flag("help, h", BOOL, "show help"),
    Flag("version, v", BOOL, "print the version"),
]

HELP = Flag("help, h", BOOL, "show help")


def main(arguments: list[str]) -> NoReturn:
    """Run the command line `arguments` (without the program's name) and exit with its code."""
    options: Options | None = None
    try:
        try:
            values, rest = parse(arguments, GLOBAL, reorder=False)
        except errors.InvalidArgument as error:
            out(f"Incorrect Usage. {error}\n\n{_overview()}")
            raise
        if values["version"]:
            from sampan.runtime import features

            leave(0, features.version_text())
        if values["help"] or not rest:
            leave(0, _overview())
        options = _checked(values)
        code = _verb(rest[0], rest[1:], options)
    except errors.Error as error:
        fatal(str(error), options)
    except OSError as error:
        fatal(_os_text(error), options)
    except KeyboardInterrupt:
        leave(130)
    except Exception as error:
        # A mistake of ours; callers read one line and a code, and a traceback is neither.
        fatal(f"{type(error).__name__}: {error}", options)
    leave(code)


def _checked(values: dict[str, Any]) -> Options:
    """The global flags. Errors: sampan.errors, also when the log file cannot be written."""
    options = Options(values)
    if options.log_format not in ("text", "json"):
        raise errors.InvalidArgument("invalid log-format: " + options.log_format)
    if options.log:
        try:
            os.close(open_log(options.log))
        except OSError as error:
            raise errors.Error(f"open {options.log}: {_lowered(error)}") from None
    if options.root == "/":
        raise errors.InvalidArgument("Option --root argument should not be set to '/'")
    if values["rootless"] not in ("", "auto"):
        if values["rootless"] not in (*TRUE, *FALSE):
            raise errors.InvalidArgument(f'strconv.ParseBool: parsing "{values["rootless"]}": invalid syntax')
        options.rootless = values["rootless"] in TRUE
    return options


def _overview() -> str:
    from sampan.runtime import features, usage

    return usage.overview(GLOBAL, VERBS, features.version_text())


def _os_text(error: OSError) -> str:
    """Go's way: the object, and the system's words in lower case."""
    return f"{error.filename}: {_lowered(error)}" if error.filename else _lowered(error)


def _lowered(error: OSError) -> str:
    reason = str(error.strerror or error)
    return reason[:1].lower() + reason[1:]


def _verb(name: str, arguments: list[str], options: Options) -> int:
    if name in ("help", "h"):
        if not arguments:
            leave(0, _overview())
        name, arguments = arguments[0], ["--help"]
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
