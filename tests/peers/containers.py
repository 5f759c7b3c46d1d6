"""Container cores that ctr drives in a machine of our own: Debian's containerd (the reference) and ours."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys

from tests.peers import newer
from tests.peers.client import Outcome
from tests.peers.machine import Machine
from tests.peers.waiting import eventually


def newer_tools(scratch: str) -> str:
    """A directory with containerd 2.1, its ctr and its shim, and nothing else of what came with them; "" where there is
    none (scripts/peers)."""
    directory = f"{scratch}/newer"
    for name in ("containerd", "containerd-shim-runc-v2", "ctr"):
        path = newer.command(name, "containerd")
        if path is None:
            return ""
        os.makedirs(directory, exist_ok=True)
        if not os.path.lexists(f"{directory}/{name}"):
            os.symlink(os.path.realpath(path), f"{directory}/{name}")
    return directory


# Whatever a script waits for, it says so and goes on when that does not come.
AWAIT = """await() { for _ in $(seq 150); do eval "$1" && return; sleep 0.1; done; echo "never: $1" >&2; return 1; }
"""


class Core:
    """One core's process over directories that outlive it. `kind` is "containerd" or "sampan"; `tools` is a directory
    whose commands go before those of the machine, for the core and for its clients."""

    kind = ""

    def __init__(self, machine: Machine, scratch: str, tools: str = "") -> None:
        self.machine, self.scratch = machine, scratch
        # Debian stable's criu does not know this kernel: both cores have sid's.
        path = newer.environment("criu")["PATH"]
        self.path = f"{tools}:{path}" if tools else path
        self.address, self.root, self.state = f"{scratch}/c.sock", f"{scratch}/root", f"{scratch}/state"
        self.log = f"{scratch}/core.log"
        self.work = f"{scratch}/work"
        os.makedirs(self.work, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    def argv(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self._process = self.machine.spawn(["env", f"PATH={self.path}", *self.argv()], log=log)
        eventually(self._answers, what=f"{self.kind} listens")

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(self.address) == 0

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=10)

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=20)

    def shell(self, namespace: str, script: str, within: float = 60) -> Outcome:
        """Runs a shell script in the machine whose `ctr` talks to this core in the containerd namespace;
        `await CONDITION` waits until that shell line is true."""
        environment = {
            **os.environ,
            "PATH": self.path,
            "CONTAINERD_ADDRESS": self.address,
            "CONTAINERD_NAMESPACE": namespace,
        }
        done = subprocess.run(
            self.machine.entering(["sh", "-c", AWAIT + script]),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within,
            env=environment,
            cwd=self.work,
            stdin=subprocess.DEVNULL,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def plain(self, namespace: str, text: str) -> list[str]:
        """Output without what differs from run to run: times, pids, speeds, directories, the namespace's name."""
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)
        text = re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.]+( \+0000 UTC|Z|\+00:00)?", "TIME", text)
        text = re.sub(rf"{re.escape(self.scratch)}/(root|state)[^ =,:]*/(\d+)/(fs|work)", r"SNAPSHOT/\3", text)
        text = text.replace(self.work, "WORK").replace(namespace, "NAMESPACE")
        text = re.sub(r"\d+(\.\d+)? ?(milli|micro)?(seconds?|ms|µs|s)\b|Less than a second", "AGE", text)
        text = re.sub(r"(?<=[\d.]) ?[KM]?i?B?/s\b|\([^()]*/s\)", "SPEED", text)
        text = re.sub(r"/run/containerd/fifo/\d+/", "FIFOS/", text)
        text = re.sub(r'"(seconds|nanos)":\d+', r'"\1":NUMBER', text)
        text = re.sub(r"(?<=[ :])\d{3,7}(?=[ ,\n}])", "NUMBER", text)
        # Between containerd 1.6 and 2.1 these changed: the kind is no longer written out behind every error, and
        # `index=off` comes last among the options.
        text = re.sub(r": unknown(?=[\n\"]|$)", "", text).replace("not found: not found", "not found")
        text = re.sub(r"index=off,|,index=off\b", "", re.sub(r'"index=off",|,"index=off"', "", text))
        return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()]


class Containerd(Core):
    kind = "containerd"

    def argv(self) -> list[str]:
        with open(f"{self.scratch}/config.toml", "w") as file:
            file.write('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        return ["containerd", "--config", f"{self.scratch}/config.toml", "--address", self.address,
                "--root", self.root, "--state", self.state]  # fmt: skip


class SampanContainerd(Core):
    kind = "sampan"

    def argv(self) -> list[str]:
        return [sys.executable, "-m", "sampan.containerd", "--address", self.address,
                "--root", self.root, "--state", self.state]  # fmt: skip
