"""`run`, `create`, `start` and `attach`: the commands that carry a container's streams."""

from __future__ import annotations

import os
import sys

from sampan.cli.connection import Api, ApiError
from sampan.cli.create_request import FLAGS, request_of
from sampan.cli.flags import Flag, Options, Refusal, UsageError
from sampan.cli.terminal import RawMode, Session, follow_window, proxy_signals, stop_proxying

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.connection import Response
    from sampan.cli.main import Context

RUN_FLAGS = (
    *FLAGS,
    Flag("detach d", "bool", "Run container in background and print container ID"),
    Flag("detach-keys", help="Override the key sequence for detaching a container"),
    Flag("sig-proxy", "bool", "Proxy received signals to the process", default=True),
)


def _create(api: Api, options: Options, body: dict[str, Any]) -> str:
    """Create, pulling the image first when it is not here or always asked for; the id."""
    from sampan.cli.images import pull_image

    image = options.args[0]
    query = {"name": options["name"], "platform": options["platform"]}
    if options["pull"] not in ("always", "missing", "never"):
        choice = options["pull"]
        raise UsageError(f'invalid pull option: \'{choice}\': must be one of "always", "missing" or "never"')
    if options["pull"] == "always":
        pull_image(api, image, options["platform"], quiet=options["quiet"], out=sys.stderr)
    try:
        answer = api.call("POST", "/containers/create", query, body)
    except ApiError as err:
        if err.status != 404 or not str(err).startswith("No such image") or options["pull"] == "never":
            raise
        name = image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"
        if not options["quiet"]:
            print(f"Unable to find image '{name}' locally", file=sys.stderr)
        pull_image(api, image, options["platform"], quiet=options["quiet"], out=sys.stderr)
        answer = api.call("POST", "/containers/create", query, body)
    for warning in answer.get("Warnings") or ():
        print(f"WARNING: {warning}", file=sys.stderr)
    return str(answer["Id"])


def _cidfile(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise UsageError(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        ) from None
    except OSError as err:
        raise UsageError(f"failed to create the container ID file: {err.strerror}") from err


def _make(context: Context, options: Options, attached: bool) -> tuple[Api, str]:
    try:
        body = request_of(options, attached=attached)
    except ValueError as err:
        raise UsageError(str(err)) from err
    cidfile = _cidfile(options["cidfile"]) if options["cidfile"] else -1
    api = context.api()
    try:
        identity = _create(api, options, body)
    except BaseException:
        if cidfile >= 0:
            os.unlink(options["cidfile"])
        raise
    if cidfile >= 0:
        os.write(cidfile, identity.encode())
        os.close(cidfile)
    return api, identity


def create(context: Context, words: list[str]) -> int:
    options = context.parse(FLAGS, words, least=1)
    _, identity = _make(context, options, attached=False)
    print(identity)
    return 0


def exit_code_of(message: str) -> int:
    """docker run's own codes for a start that failed: 127 not found, 126 not executable, else 125."""
    text = message.lower()
    if any(words in text for words in ("executable file not found", "no such file or directory", "system cannot find")):
        return 127
    if any(words in text for words in ("permission denied", "is a directory")):
        return 126
    return 125


def _attach_stream(api: Api, identity: str, keys: str, *, stdin: bool, logs: bool = False) -> Response:
    query = {"stream": True, "stdin": stdin, "stdout": True, "stderr": True, "detachKeys": keys, "logs": logs}
    return api.request("POST", f"/containers/{identity}/attach", query, upgrade=True)


def _wait_result(waiting: Response) -> int:
    answer = waiting.json()
    if answer.get("Error") and answer["Error"].get("Message"):
        print(f"sampan: {answer['Error']['Message']}", file=sys.stderr)
        return 125
    return int(answer["StatusCode"])


def run(context: Context, words: list[str]) -> int:
    options = context.parse(RUN_FLAGS, words, least=1)
    if options["detach"] and options["attach"]:
        raise UsageError("conflicting options: cannot specify both --attach and --detach")
    attached = not options["detach"]
    tty, stdin = options["tty"], options["interactive"]
    if attached and tty and stdin and not os.isatty(0):
        raise Refusal("the input device is not a TTY")
    api, identity = _make(context, options, attached)
    if not attached:
        return _start_detached(api, identity)
    stream = _attach_stream(api, identity, options["detach-keys"], stdin=stdin)
    condition = "removed" if options["rm"] else "next-exit"
    waiting = api.request("POST", f"/containers/{identity}/wait", {"condition": condition})
    if options["sig-proxy"] and not tty:
        proxy_signals(api, identity)
    try:
        api.call("POST", f"/containers/{identity}/start")
    except ApiError as err:
        print(f"sampan: Error response from daemon: {err}", file=sys.stderr)
        return exit_code_of(str(err))
    return _carry(api, identity, stream, waiting, tty=tty, stdin=stdin, keys=options["detach-keys"])


def _start_detached(api: Api, identity: str) -> int:
    try:
        api.call("POST", f"/containers/{identity}/start")
    except ApiError as err:
        print(identity)
        print(f"sampan: Error response from daemon: {err}", file=sys.stderr)
        return exit_code_of(str(err))
    print(identity)
    return 0


def _carry(api: Api, identity: str, stream: Response, waiting: Response, *, tty: bool, stdin: bool, keys: str) -> int:
    """Copy the streams to their end; the exit code, or 0 when the user detached."""
    session = Session(stream, tty=tty, stdin=stdin, detach_keys=keys)
    if tty:
        follow_window(api, f"/containers/{identity}/resize")
    with RawMode(0 if tty and stdin else -1):
        session.copy()
    stop_proxying()
    stream.close()
    if session.detached:
        return 0
    return _wait_result(waiting)


ATTACH_FLAGS = (
    Flag("detach-keys", help="Override the key sequence for detaching a container"),
    Flag("no-stdin", "bool", "Do not attach STDIN"),
    Flag("sig-proxy", "bool", "Proxy all received signals to the process", default=True),
)


def attach(context: Context, words: list[str]) -> int:
    options = context.parse(ATTACH_FLAGS, words, least=1, most=1)
    api, name = context.api(), options.args[0]
    document = api.get(f"/containers/{name}/json")
    if not document["State"]["Running"]:
        raise Refusal("You cannot attach to a stopped container, start it first")
    if document["State"]["Paused"]:
        raise Refusal("You cannot attach to a paused container, unpause it first")
    tty = document["Config"]["Tty"]
    stdin = document["Config"]["OpenStdin"] and not options["no-stdin"]
    if tty and stdin and not os.isatty(0):
        raise Refusal("the input device is not a TTY")
    waiting = api.request("POST", f"/containers/{name}/wait")
    stream = _attach_stream(api, name, options["detach-keys"], stdin=stdin)
    if options["sig-proxy"] and not tty:
        proxy_signals(api, name)
    return _carry(api, name, stream, waiting, tty=tty, stdin=stdin, keys=options["detach-keys"])


START_FLAGS = (
    Flag("attach a", "bool", "Attach STDOUT/STDERR and forward signals"),
    Flag("interactive i", "bool", "Attach container's STDIN"),
    Flag("detach-keys", help="Override the key sequence for detaching a container"),
)


def start(context: Context, words: list[str]) -> int:
    options = context.parse(START_FLAGS, words, least=1)
    api = context.api()
    if not (options["attach"] or options["interactive"]):
        from sampan.cli.containers import each

        return each(options.args, lambda name: api.call("POST", f"/containers/{name}/start"))
    if len(options.args) > 1:
        raise Refusal("you cannot start and attach multiple containers at once")
    name = options.args[0]
    document = api.get(f"/containers/{name}/json")
    tty = document["Config"]["Tty"]
    stdin = options["interactive"] and document["Config"]["OpenStdin"]
    stream = _attach_stream(api, name, options["detach-keys"], stdin=stdin)
    condition = "removed" if document["HostConfig"]["AutoRemove"] else "next-exit"
    waiting = api.request("POST", f"/containers/{name}/wait", {"condition": condition})
    if not tty:
        proxy_signals(api, name)
    api.call("POST", f"/containers/{name}/start")
    return _carry(api, name, stream, waiting, tty=tty, stdin=stdin, keys=options["detach-keys"])
