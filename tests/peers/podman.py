"""podman in a machine of ours, over a runtime of the caller's choice, with storage and state of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.peers.client import Outcome, Terminal
from tests.peers.machine import Machine

CONFIGURATION = """
[containers]
# The default asks for more open files than this kind of machine may have, whatever the runtime.
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
events_logger = "file"
"""


class Podman:
    """Call it with podman's arguments. `runtime` is the path of an OCI runtime."""

    def __init__(self, machine: Machine, scratch: str, runtime: str) -> None:
        self.machine, self.scratch = machine, scratch
        os.makedirs(scratch, exist_ok=True)
        with open(f"{scratch}/containers.conf", "w") as file:
            file.write(CONFIGURATION)
        self.environment = {**os.environ, "CONTAINERS_CONF": f"{scratch}/containers.conf", "TERM": "xterm"}
        self._argv = [
            "podman", "--root", f"{scratch}/root", "--runroot", f"{scratch}/run", "--tmpdir", f"{scratch}/tmp",
            "--network-config-dir", f"{scratch}/net", "--cgroup-manager", "cgroupfs", "--storage-driver", "overlay",
            "--runtime", runtime,
        ]  # fmt: skip

    def argv(self, *arguments: str) -> list[str]:
        return self.machine.entering([*self._argv, *arguments])

    def __call__(self, *arguments: str, stdin: str = "", within: float = 60) -> Outcome:
        out, err = f"{self.scratch}/stdout", f"{self.scratch}/stderr"
        with open(out, "wb") as out_file, open(err, "wb") as err_file:
            # Files, because conmon outlives the command and keeps its streams.
            done = subprocess.run(
                self.argv(*arguments), input=stdin.encode(), stdout=out_file, stderr=err_file, env=self.environment,
                timeout=within,
            )  # fmt: skip
        with open(out, errors="replace") as out_text, open(err, errors="replace") as err_text:
            return Outcome(done.returncode, out_text.read(), err_text.read())

    def ok(self, *arguments: str, stdin: str = "") -> str:
        done = self(*arguments, stdin=stdin)
        assert done.status == 0, f"podman {' '.join(arguments)} → {done.status}\n{done.out}\n{done.err}"
        return done.out.removesuffix("\n")

    @contextmanager
    def terminal(self, *arguments: str, rows: int = 24, columns: int = 80) -> Iterator[Terminal]:
        with Terminal(self.argv(*arguments), self.environment, rows, columns) as terminal:
            yield terminal

    def tidy(self) -> None:
        """Removes every pod and container."""
        self("pod", "rm", "--all", "--force")
        self("rm", "--all", "--force", "--time", "0")

    def end(self) -> None:
        """Removes everything that is mounted for it."""
        self.tidy()
        for line in reversed(self.machine.mounts()):
            path = line.split(" ", 1)[1]
            if path.startswith(f"{self.scratch}/"):
                self.machine.run(["umount", "-l", path], check=False)
