"""How `sampan-runc` speaks: output, runc's error lines, exit codes, and the global flags that govern them."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class Options:
    """The global flags: `root` is absolute."""

    __slots__ = ("criu", "debug", "log", "log_format", "root", "rootless", "systemd")

    def __init__(self, values: dict[str, Any]) -> None:
        self.criu = values["criu"]
        self.debug = values["debug"]
        self.log = os.path.abspath(values["log"]) if values["log"] else ""
        self.rootless: bool | None = None
        """Whether errors of cgroups are passed over; None is for what the caller's privileges say."""
        self.systemd = values["systemd-cgroup"]
        """Whether `create` and `run` have systemd make the cgroups; the other verbs know it of the state."""
        self.log_format = values["log-format"]
        self.root = os.path.abspath(values["root"]) if values["root"] else default_root()

    def report(self, level: str, message: str, **fields: object) -> None:
        """Write a log line, "debug" only when asked for; `fields` are logrus' further ones. Errors: OSError."""
        if level != "debug" or self.debug:
            _write_log(self, _line(self, level, message, fields))


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
    line = _line(options, "error", message, {})
    if options is not None and options.log:
        try:
            _write_log(options, line)
        except OSError as error:
            message = f"open {options.log}: {error.strerror}: {message}"
        line = message
    os.write(2, f"{line}\n".encode("utf-8", "surrogateescape"))
    os._exit(code)


def _write_log(options: Options, line: str) -> None:
    data = f"{line}\n".encode("utf-8", "surrogateescape")
    if not options.log:
        os.write(2, data)
        return
    fd = open_log(options.log)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def open_log(path: str) -> int:
    """The log file, for one line: left open it could be taken for one of --preserve-fds. Errors: OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_SYNC | os.O_CLOEXEC, 0o644)


def _line(options: Options | None, level: str, message: str, fields: dict[str, object]) -> str:
    """A log line in logrus' text or JSON form."""
    import time

    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if options is not None and options.log_format == "json":
        from sampan.runtime import document

        return document.text_of(dict(sorted({"level": level, "msg": message, "time": stamp, **fields}.items())))
    more = "".join(f" {name}={_quoted(str(value))}" for name, value in fields.items())
    return f"time={_quoted(stamp)} level={level} msg={_quoted(message)}{more}"


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t",
            "\v": "\\v"}  # fmt: skip


def _quoted(text: str) -> str:
    """As logrus quotes: a plain word stays as it is, anything else becomes Go's %q."""
    if all(letter.isascii() and (letter.isalnum() or letter in "-._/@^+") for letter in text):
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(letter: str) -> str:
    number = ord(letter)
    if letter in _ESCAPES:
        return _ESCAPES[letter]
    if letter.isprintable():
        return letter
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is not UTF-8, as surrogateescape holds it
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x80 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
