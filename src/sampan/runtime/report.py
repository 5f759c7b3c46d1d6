"""How `sampan-runc` speaks: output, runc's error lines, exit codes, and the global flags that govern them."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class Options:
    """The global flags: `root` is absolute."""

    __slots__ = ("debug", "log", "log_format", "root", "rootless")

    def __init__(self, values: dict[str, Any]) -> None:
        self.debug = values["debug"]
        self.log = values["log"]
        self.rootless: bool | None = None
        """Whether errors of cgroups are passed over; None is for what the caller's privileges say."""
        self.log_format = values["log-format"]
        self.root = os.path.abspath(values["root"]) if values["root"] else default_root()


def default_root() -> str:
    """/run/runc's place of ours, or below XDG_RUNTIME_DIR for a user without privileges."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and (os.geteuid() != 0 or (os.environ.get("USER", "root") != "root" and _mapped_root())):
        return f"{runtime}/sampan-runc"
    return "/run/sampan-runc"


def _mapped_root() -> bool:
    from sampan.runtime.host import in_user_namespace

    return in_user_namespace()


def leave(code: int, text: str = "") -> NoReturn:
    """Write `text` and end at once: the kernel tears an interpreter down faster than it does itself (2 ms)."""
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
