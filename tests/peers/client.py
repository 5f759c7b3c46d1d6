"""The docker command as a user runs it: with pipes, and on a real terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """What a finished command left: exit status (negative: died of that signal), stdout and stderr."""

    status: int
    out: str
    err: str


class Command(subprocess.Popen[bytes]):
    """A docker command that runs beside the test, its pipes unbuffered."""

    def readable(self, within: float = 0.0) -> bool:
        """Whether stdout has something to read, or has ended."""
        assert self.stdout
        return bool(select.select([self.stdout], [], [], within)[0])

    def line(self, within: float = 20) -> str:
        """The next line of stdout without its line feed; raises AssertionError when none comes in time."""
        assert self.stdout
        deadline = time.monotonic() + within
        raw = b""
        while not raw.endswith(b"\n"):
            left = deadline - time.monotonic()
            assert left > 0 and self.readable(left), f"no line of {self.args!r}, only {raw!r}"
            byte = self.stdout.read(1)
            assert byte, f"{self.args!r} ended after {raw!r}"
            raw += byte
        return raw[:-1].decode(errors="replace")

    def write(self, text: str) -> None:
        assert self.stdin
        self.stdin.write(text.encode())


class Docker:
    """A docker binary that talks to one engine, with a configuration directory of its own."""

    def __init__(self, binary: str, uri: str, home: str) -> None:
        self.binary, self.uri, self.home = binary, uri, home
        self._started: list[Command] = []
        os.makedirs(home, exist_ok=True)
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
        self.environment = {**kept, "HOME": home, "DOCKER_CONFIG": home, "DOCKER_HOST": uri, "TERM": "xterm",
                            "DOCKER_CLI_HINTS": "false"}  # fmt: skip

    def __call__(self, *arguments: str, stdin: str | bytes | None = None, within: float = 60) -> Outcome:
        """Runs `docker arguments…`, with no stdin unless given, and yields its outcome."""
        raw = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [self.binary, *arguments],
            input=raw,
            stdin=subprocess.DEVNULL if raw is None else None,
            capture_output=True,
            env=self.environment,
            timeout=within,
        )
        return Outcome(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def ok(self, *arguments: str, stdin: str | bytes | None = None, within: float = 60) -> str:
        """Likewise, but the command must succeed; yields stdout without the last line feed."""
        done = self(*arguments, stdin=stdin, within=within)
        assert done.status == 0, f"docker {' '.join(arguments)} → {done.status}\n{done.out}\n{done.err}"
        return done.out.removesuffix("\n")

    def inspect(self, *arguments: str) -> dict[str, Any]:
        """The first document of an inspect command, such as `inspect("network", "bridge")`; one word: a container."""
        words = ("container", *arguments) if len(arguments) == 1 else arguments
        documents = json.loads(self.ok(words[0], "inspect", *words[1:]))
        assert isinstance(documents[0], dict)
        return documents[0]

    def state(self, container: str) -> dict[str, Any]:
        """`State` of a container."""
        state = self.inspect(container)["State"]
        assert isinstance(state, dict)
        return state

    def running(self, container: str) -> bool:
        return bool(self.state(container)["Running"])

    def start(self, *arguments: str, stdin: int | None = subprocess.DEVNULL) -> Command:
        """Starts `docker arguments…` with stdout and stderr on pipes."""
        command = Command(
            [self.binary, *arguments],
            bufsize=0,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )
        self._started.append(command)
        return command

    def tidy(self) -> None:
        """Ends the commands that `start` started and nobody waited for."""
        while self._started:
            command = self._started.pop()
            if command.poll() is None:
                command.kill()
                command.communicate(timeout=10)

    def terminal(self, *arguments: str, rows: int = 24, columns: int = 80) -> Terminal:
        """Starts `docker arguments…` on a new terminal."""
        return Terminal([self.binary, *arguments], self.environment, rows, columns)


class Terminal:
    """A command on a pseudo-terminal of its own, driven like a person drives one. A context manager."""

    def __init__(self, argv: list[str], environment: dict[str, str], rows: int, columns: int) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *argv], stdin=slave, stdout=slave, stderr=slave, env=environment
        )
        os.close(slave)
        self.screen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=10)
        os.close(self._master)

    def _read(self, wait: float) -> bool:
        if not select.select([self._master], [], [], max(0.0, wait))[0]:
            return True
        try:
            raw = os.read(self._master, 65536)
        except OSError:  # EIO: the last holder of the other end closed it
            return False
        # busybox asks where the cursor is; not answering is allowed, and the question is not text
        self.screen += raw.decode(errors="replace").replace("\x1b[6n", "")
        return bool(raw)

    def expect(self, pattern: str, within: float = 20) -> re.Match[str]:
        """Reads until the screen matches `pattern`, then forgets everything up to the match's end."""
        deadline = time.monotonic() + within
        alive = True
        while True:
            if found := re.search(pattern, self.screen):
                self.screen = self.screen[found.end() :]
                return found
            left = deadline - time.monotonic()
            assert alive and left > 0, f"no {pattern!r} on the screen: {self.screen!r}"
            alive = self._read(left)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Changes the window's size; the kernel tells the foreground process group by SIGWINCH."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, within: float = 20) -> int:
        """Reads what is left until the command ends and yields its exit status."""
        deadline = time.monotonic() + within
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"the command goes on; screen: {self.screen!r}"
            if not self._read(0.05):
                return self.process.wait(timeout=max(0.1, deadline - time.monotonic()))
        while select.select([self._master], [], [], 0)[0] and self._read(0):
            pass
        return self.process.returncode
