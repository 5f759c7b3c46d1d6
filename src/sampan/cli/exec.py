"""`exec`: a further process in a running container."""

from __future__ import annotations

import os

from sampan.cli.create_request import environment
from sampan.cli.flags import Flag, Refusal
from sampan.cli.terminal import RawMode, Session, follow_window, window_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.main import Context

FLAGS = (
    Flag("detach d", "bool", "Detached mode: run command in the background"),
    Flag("detach-keys", help="Override the key sequence for detaching a container"),
    Flag("env e", "list", "Set environment variables"),
    Flag("env-file", "list", "Read in a file of environment variables"),
    Flag("interactive i", "bool", "Keep STDIN open even if not attached"),
    Flag("privileged", "bool", "Give extended privileges to the command"),
    Flag("tty t", "bool", "Allocate a pseudo-TTY"),
    Flag("user u", help="Username or UID (format: <name|uid>[:<group|gid>])"),
    Flag("workdir w", help="Working directory inside the container"),
)


def exec_(context: Context, words: list[str]) -> int:
    options = context.parse(FLAGS, words, least=2)
    detach, tty = options["detach"], options["tty"]
    stdin = options["interactive"] and not detach
    if tty and stdin and not os.isatty(0):
        raise Refusal("the input device is not a TTY")
    api = context.api()
    body = {
        "AttachStdin": stdin,
        "AttachStdout": not detach,
        "AttachStderr": not detach,
        "Tty": tty,
        "ConsoleSize": list(window_size(1)) if tty else None,
        "DetachKeys": options["detach-keys"],
        "Env": environment(options),
        "Cmd": options.args[1:],
        "Privileged": options["privileged"],
        "User": options["user"],
        "WorkingDir": options["workdir"],
    }
    identity = api.call("POST", f"/containers/{options.args[0]}/exec", None, body)["Id"]
    if detach:
        api.call("POST", f"/exec/{identity}/start", None, {"Detach": True, "Tty": tty})
        return 0
    begin = {"Detach": False, "Tty": tty, "ConsoleSize": body["ConsoleSize"]}
    stream = api.request("POST", f"/exec/{identity}/start", None, begin, upgrade=True)
    if tty:
        follow_window(api, f"/exec/{identity}/resize")
    with RawMode(0 if tty and stdin else -1):
        Session(stream, tty=tty, stdin=stdin).copy()
    stream.close()
    result = api.get(f"/exec/{identity}/json")
    return 0 if result["Running"] else int(result["ExitCode"])
