"""Running the commands of another OCI runtime: spawned, watched like any child, their errors read from their log."""

from __future__ import annotations

import json
import os

from sampan import errors
from sampan.keeper.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.keeper.loop import Loop
    from sampan.keeper.reaper import Reaper

    Finished = Callable[[Exception | None, bytes], None]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Stdio = tuple[int, int, int]


class Commands:
    """Runs the binary at `path`; `directory` is for its pid files, logs and console sockets."""

    def __init__(self, loop: Loop, reaper: Reaper, directory: str, path: str) -> None:
        self._loop = loop
        self._reaper = reaper
        self._path = path
        self._number = 0
        os.makedirs(directory, 0o700, exist_ok=True)
        for left in os.listdir(directory):
            os.unlink(f"{directory}/{left}")  # of a keeper that was killed: its names come again
        # Short names for a deep directory: a socket's path has at most 107 bytes.
        self._dirfd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._directory = f"/proc/{os.getpid()}/fd/{self._dirfd}"

    def run(self, settings: list[str], arguments: list[str], done: Finished, stdio: Stdio | None = None) -> None:
        """Spawn the runtime with its global flags and a verb; `done` gets its standard output (when `stdio` is not
        given), or its error."""
        log = self.name("log")
        command = [self._path, *settings, "--log", log, "--log-format", "json", *arguments]
        output = _Output(self._loop) if stdio is None else None
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        try:
            wanted = stdio or (null, output.writer if output else null, null)
            pid = os.posix_spawn(
                self._path,
                command,
                {"PATH": os.environ.get("PATH") or PATH},
                # None of ours has a number below 3, so no copy overwrites the source of another.
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(wanted)],
                setsid=True,
                setsigdef=[number for number in range(1, 32) if number not in (9, 19)],
            )
        except OSError as error:
            if output:
                output.close()
            raise errors.Error(f"{self._path}: {error.strerror}") from error
        finally:
            os.close(null)
            if output:
                os.close(output.writer)

        pidfd = os.pidfd_open(pid)

        def ended(status: int) -> None:
            os.close(pidfd)
            text = output.take() if output else b""
            error = errors.Error(last_error(log) or f"{self._path} ended with status {status}") if status else None
            try:
                os.unlink(log)
            except FileNotFoundError:
                pass  # it had nothing to log
            done(error, text)

        self._reaper.watch(pid, pidfd, ended)

    def name(self, what: str) -> str:
        """A new path for a file that a command reads or writes."""
        self._number += 1
        return f"{self._directory}/{what}{self._number}"

    def scratch(self, what: str, content: str) -> str:
        """The path of a new file with `content`; the caller removes it."""
        path = self.name(what)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(content)
        return path


class _Output:
    """A command's standard output, read while it runs so that it never blocks on a full pipe."""

    def __init__(self, loop: Loop) -> None:
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        self._parts: list[bytes] = []
        self._loop = loop
        loop.add(self._reader, READ, self._readable)

    def _readable(self, mask: int) -> None:
        try:
            while part := os.read(self._reader, 65536):
                self._parts.append(part)
        except BlockingIOError:
            return
        self.close()

    def take(self) -> bytes:
        """The command has ended: everything it wrote."""
        if self._reader >= 0:
            self._readable(0)
        self.close()
        return b"".join(self._parts)

    def close(self) -> None:
        if self._reader >= 0:
            self._loop.remove(self._reader)
            os.close(self._reader)
            self._reader = -1


def last_error(path: str) -> str:
    """The last error in a runtime's JSON log; "" when there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal") and entry.get("msg"):
            return str(entry["msg"])
    return ""
