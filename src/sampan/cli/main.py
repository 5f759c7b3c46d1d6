"""The `sampan` command: finds the word's module in a table, imports that alone, and maps failures to exit codes."""

from __future__ import annotations

import os
import sys

from sampan import VERSION
from sampan.cli.connection import Api, ApiError, NoEngine, default_host
from sampan.cli.flags import Flag, Refusal, UsageError, parse, usage_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# word -> (module below sampan.cli, function, usage, summary)
COMMANDS: dict[str, tuple[str, str, str, str]] = {
    "run": ("run", "run", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create and run a new container from an image"),
    "create": ("run", "create", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container"),
    "exec": ("exec", "exec_", "[OPTIONS] CONTAINER COMMAND [ARG...]", "Execute a command in a running container"),
    "attach": ("run", "attach", "[OPTIONS] CONTAINER", "Attach to a running container"),
    "start": ("run", "start", "[OPTIONS] CONTAINER [CONTAINER...]", "Start one or more stopped containers"),
    "ps": ("containers", "ps", "[OPTIONS]", "List containers"),
    "stop": ("containers", "stop", "[OPTIONS] CONTAINER [CONTAINER...]", "Stop one or more running containers"),
    "restart": ("containers", "restart", "[OPTIONS] CONTAINER [CONTAINER...]", "Restart one or more containers"),
    "kill": ("containers", "kill", "[OPTIONS] CONTAINER [CONTAINER...]", "Kill one or more running containers"),
    "rm": ("containers", "rm", "[OPTIONS] CONTAINER [CONTAINER...]", "Remove one or more containers"),
    "pause": ("containers", "pause", "CONTAINER [CONTAINER...]", "Pause all processes within containers"),
    "unpause": ("containers", "unpause", "CONTAINER [CONTAINER...]", "Unpause all processes within containers"),
    "wait": ("containers", "wait", "CONTAINER [CONTAINER...]", "Block until containers stop, print exit codes"),
    "rename": ("containers", "rename", "CONTAINER NEW_NAME", "Rename a container"),
    "logs": ("containers", "logs", "[OPTIONS] CONTAINER", "Fetch the logs of a container"),
    "top": ("containers", "top", "CONTAINER [ps OPTIONS]", "Display the running processes of a container"),
    "port": ("containers", "port", "CONTAINER [PRIVATE_PORT[/PROTO]]", "List port mappings of a container"),
    "inspect": ("inspect", "inspect", "[OPTIONS] NAME|ID [NAME|ID...]", "Low-level information on objects"),
    "pull": ("images", "pull", "[OPTIONS] NAME[:TAG|@DIGEST]", "Download an image from a registry"),
    "push": ("images", "push", "[OPTIONS] NAME[:TAG]", "Upload an image to a registry"),
    "images": ("images", "images", "[OPTIONS] [REPOSITORY[:TAG]]", "List images"),
    "tag": ("images", "tag", "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", "Create a tag that refers to an image"),
    "rmi": ("images", "rmi", "[OPTIONS] IMAGE [IMAGE...]", "Remove one or more images"),
    "history": ("images", "history", "[OPTIONS] IMAGE", "Show the history of an image"),
    "save": ("archives", "save", "[OPTIONS] IMAGE [IMAGE...]", "Save one or more images to a tar archive"),
    "load": ("archives", "load", "[OPTIONS]", "Load an image from a tar archive or STDIN"),
    "import": ("archives", "import_", "[OPTIONS] FILE|- [REPOSITORY[:TAG]]", "Make an image of a tar's files"),
    "export": ("archives", "export", "[OPTIONS] CONTAINER", "Export a container's filesystem as a tar archive"),
    "commit": ("archives", "commit", "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]", "Make an image of a container"),
    "diff": ("archives", "diff", "CONTAINER", "Inspect changes to files on a container's filesystem"),
    "login": ("images", "login", "[OPTIONS] [SERVER]", "Authenticate to a registry"),
    "logout": ("images", "logout", "[SERVER]", "Log out from a registry"),
    "version": ("system", "version", "[OPTIONS]", "Show the version information"),
    "info": ("system", "info", "[OPTIONS]", "Display system-wide information"),
    "events": ("system", "events", "[OPTIONS]", "Get real time events from the engine"),
    "container prune": ("prune", "containers", "[OPTIONS]", "Remove all stopped containers"),
    "image prune": ("prune", "images", "[OPTIONS]", "Remove unused images"),
    "volume ls": ("volumes", "ls", "[OPTIONS]", "List volumes"),
    "volume create": ("volumes", "create", "[OPTIONS] [VOLUME]", "Create a volume"),
    "volume rm": ("volumes", "rm", "[OPTIONS] VOLUME [VOLUME...]", "Remove one or more volumes"),
    "volume inspect": ("inspect", "volume", "[OPTIONS] VOLUME [VOLUME...]", "Display information on volumes"),
    "volume prune": ("volumes", "prune", "[OPTIONS]", "Remove unused local volumes"),
    "network ls": ("networks", "ls", "[OPTIONS]", "List networks"),
    "network create": ("networks", "create", "[OPTIONS] NETWORK", "Create a network"),
    "network rm": ("networks", "rm", "NETWORK [NETWORK...]", "Remove one or more networks"),
    "network inspect": ("inspect", "network", "[OPTIONS] NETWORK [NETWORK...]", "Display information on networks"),
    "network connect": ("networks", "connect", "[OPTIONS] NETWORK CONTAINER", "Connect a container to a network"),
    "network disconnect": ("networks", "disconnect", "[OPTIONS] NETWORK CONTAINER", "Disconnect a container"),
}
# The management form of a plain word: `sampan container ls` is `sampan ps`.
ALIASES: dict[str, str] = {
    **{f"container {word}": word for word in ("run", "create", "exec", "attach", "start", "stop", "restart", "kill")},
    **{f"container {word}": word for word in ("rm", "pause", "unpause", "wait", "rename", "logs", "top", "port")},
    **{f"container {word}": word for word in ("export", "commit", "diff")},
    **{f"container {word}": "ps" for word in ("ls", "ps", "list")},
    "container inspect": "inspect --type container",
    **{f"image {word}": word for word in ("pull", "push", "tag", "history", "save", "load", "import")},
    **{f"image {word}": "images" for word in ("ls", "list")},
    **{f"image {word}": "rmi" for word in ("rm", "remove")},
    "image inspect": "inspect --type image",
    "system info": "info",
    "system events": "events",
    "volume list": "volume ls",
    "network list": "network ls",
    "volume remove": "volume rm",
    "network remove": "network rm",
}
GROUPS = ("container", "image", "volume", "network", "system")
GLOBAL_FLAGS = (
    Flag("host H", help="Engine to connect to: unix:///path or tcp://host:port"),
    Flag("version v", "bool", "Print version information and quit"),
    Flag("help h", "bool", "Print usage"),
)
_FLAG_CODE = 125
"""Of every command whose flags are wrong, and of a `run` that failed: a container's own codes are below."""


class CountError(UsageError):
    """Too few or too many words: exit code 1, as docker's."""


class Context:
    """What a command works with: the engine, and its own name and usage for messages."""

    def __init__(self, host: str, given: bool, name: str) -> None:
        self.host = host
        self.given = given
        self.name = name

    def api(self) -> Api:
        """The engine. When nobody named an address and nothing answers there, `sampand` is started first."""
        api = Api(self.host)
        if not self.given:
            try:
                api.connect().close()
            except NoEngine:
                from sampan.cli.engine_start import start_engine

                start_engine(self.host)
        return api

    def parse(self, flags: Sequence[Flag], words: Sequence[str], least: int = 0, most: int | None = None) -> Options:
        """Flags and words of this command; `--help` prints its page and ends."""
        one_program = self.name in ("run", "create", "exec", "top")
        options = parse((*flags, Flag("help", "bool", "Print usage")), words, interspersed=not one_program)
        if options["help"]:
            print(f"Usage:  sampan {self.name} {COMMANDS[self.name][2]}\n\n{COMMANDS[self.name][3]}\n")
            print(f"Options:\n{usage_lines(flags)}" if flags else "")
            raise SystemExit(0)
        count = len(options.args)
        if count < least or (most is not None and count > most):
            exact = least == most
            words_of = "argument" if least == 1 else "arguments"
            need = f"{'' if exact else 'at least '}{least} {words_of}" if count < least or exact else "fewer arguments"
            raise CountError(f"'sampan {self.name}' requires {need}")
        return options


if TYPE_CHECKING:
    from sampan.cli.flags import Options


def _usage() -> str:
    lines = ["Usage:  sampan [OPTIONS] COMMAND", "", "Containers in Python: Docker's commands on sampan's engine", ""]
    lines += ["Commands:"]
    lines += [f"  {name:<20}{entry[3]}" for name, entry in sorted(COMMANDS.items())]
    return "\n".join([*lines, "", "Options:", usage_lines(GLOBAL_FLAGS)])


def find(words: list[str]) -> tuple[str, list[str]]:
    """The command's name and the words left for it. UsageError for an unknown one."""
    two = " ".join(words[:2])
    if two in ALIASES:
        name, *more = ALIASES[two].split()
        if f"{name} {' '.join(more)}" in COMMANDS:
            return f"{name} {' '.join(more)}", words[2:]
        return name, [*more, *words[2:]]
    if two in COMMANDS:
        return two, words[2:]
    if words[0] in COMMANDS:
        return words[0], words[1:]
    if words[0] in GROUPS:
        names = sorted({n for n in (*COMMANDS, *ALIASES) if n.startswith(words[0] + " ")})
        if len(words) < 2 or words[1] in ("--help", "help"):
            print(f"Usage:  sampan {words[0]} COMMAND\n\nCommands:\n  " + "\n  ".join(n.split()[1] for n in names))
            raise SystemExit(0)
        raise UsageError(f"unknown command: sampan {two}")
    raise UsageError(f"'{words[0]}' is not a sampan command.\nSee 'sampan --help'")


def _dispatch(words: list[str]) -> int:
    options = parse(GLOBAL_FLAGS, words, interspersed=False)
    if options["version"]:
        print(f"sampan version {VERSION}")
        return 0
    if options["help"] or not options.args or options.args == ["help"]:
        print(_usage())
        return 0
    name, rest = find(options.args)
    host = options["host"] or default_host()
    given = bool(options["host"] or os.environ.get("SAMPAN_HOST") or os.environ.get("DOCKER_HOST"))
    module, function, _, _ = COMMANDS[name]
    code = _FLAG_CODE if name == "run" else 1
    try:
        command = getattr(__import__(f"sampan.cli.{module}", fromlist=[function]), function)
        return int(command(Context(host, given, name), rest) or 0)
    except UsageError as err:
        print(
            f"sampan: {err}\n\nUsage:  sampan {name} {COMMANDS[name][2]}\n\n"
            f"Run 'sampan {name} --help' for more information",
            file=sys.stderr,
        )
        return 1 if isinstance(err, CountError) else _FLAG_CODE
    except Refusal as err:
        print(err, file=sys.stderr)
        return 1
    except ApiError as err:
        text = f"Error response from daemon: {err}"
        if name == "run":
            text = f"sampan: {text}\n\nRun 'sampan run --help' for more information"
        print(text, file=sys.stderr)
        return code
    except NoEngine as err:
        print(f"sampan: {err}", file=sys.stderr)
        return code


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; its exit code."""
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except UsageError as err:
        print(f"sampan: {err}", file=sys.stderr)
        return 125 if "unknown flag" in str(err) else 1
    except BrokenPipeError:
        # `sampan ps | head`: the reader has seen enough. What is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        return 130
