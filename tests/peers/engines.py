"""The engines under test, each a daemon in a machine of our own: Debian's dockerd (the reference) and sampand."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from typing import Any

from tests.peers.machine import Machine
from tests.peers.waiting import eventually

BRIDGE_ADDRESS = "172.30.99.1"
BRIDGE_NETWORK = "172.30.99.0/24"


class UnixConnection(http.client.HTTPConnection):
    """http.client over a unix socket."""

    def __init__(self, path: str, timeout: float = 60) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """One engine process over directories that outlive it: `start`, `stop` (SIGTERM) and `kill` (SIGKILL) it.

    `root` is its data, `state` its run-time directory, `socket` the Docker API's unix socket; `uri` names it for
    clients. `kind` is "sampan" or "dockerd"; `flags` are further ones of its command line.
    """

    kind = ""

    def __init__(self, machine: Machine, scratch: str, environment: dict[str, str]) -> None:
        self.machine, self.environment = machine, environment
        self.root, self.state = f"{scratch}/root", f"{scratch}/state"
        self.socket = f"{scratch}/engine.sock"
        self.uri = f"unix://{self.socket}"
        self.log = f"{scratch}/engine.log"
        self.flags: tuple[str, ...] = ()
        self._pidfile = f"{scratch}/engine.pid"
        self._scratch = scratch
        self._process: subprocess.Popen[bytes] | None = None

    def argv(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self._process = self.machine.spawn([*self.argv(), *self.flags], log=log, environment=self.environment)
        eventually(self._answers, within=40, what=f"{self.kind} answers /_ping")

    def _answers(self) -> bool:
        assert self._process is not None
        status = self._process.poll()
        if status is not None:
            raise RuntimeError(f"{self.kind} ended with {status}: {self.tail()}")
        try:
            connection = UnixConnection(self.socket, timeout=2)
            connection.request("GET", "/_ping")
            answer = connection.getresponse()
            answer.read()
            connection.close()
        except OSError:
            return False
        return answer.status == 200

    def tail(self) -> str:
        """The last 3000 characters the daemon wrote."""
        with open(self.log, errors="replace") as log:
            return log.read()[-3000:]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> int:
        """Ends the daemon politely and yields its exit status."""
        assert self._process is not None
        self._process.terminate()
        status = self._process.wait(timeout=40)
        self._process = None
        return status

    def kill(self) -> None:
        """SIGKILL: what a crash or the kernel's OOM killer does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=10)
        self._process = None

    def end(self) -> None:
        """Ends the daemon and whatever it keeps running beside itself."""
        if self._process is not None:
            self.stop()

    @property
    def up(self) -> bool:
        """Whether this object has a daemon running."""
        return self._process is not None

    def passing_files(self) -> tuple[str, ...]:
        """Beginnings of paths below its directories where this engine is known to clean up late."""
        return ()

    def collect(self) -> None:
        """Have it drop what nothing refers to, where it does so late."""

    def request(
        self, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One raw API request: status, headers with lower-case names, body."""
        connection = UnixConnection(self.socket)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()


class Dockerd(Engine):
    """Debian's dockerd beside a containerd of its own, as Debian's units run them; live restore on, as sampan
    always behaves."""

    kind = "dockerd"

    def __init__(self, machine: Machine, scratch: str, environment: dict[str, str]) -> None:
        super().__init__(machine, scratch, environment)
        self._containerd: subprocess.Popen[bytes] | None = None
        self._address = f"{scratch}/containerd.sock"

    def argv(self) -> list[str]:
        return [
            "dockerd", "-H", self.uri, "--data-root", self.root, "--exec-root", self.state,
            "--pidfile", self._pidfile, "--bip", f"{BRIDGE_ADDRESS}/24", "--storage-driver", "overlay2",
            "--live-restore", "--config-file", f"{self._scratch}/daemon.json", "--containerd", self._address,
        ]  # fmt: skip

    def containerd_argv(self) -> list[str]:
        return ["containerd", "--config", f"{self._scratch}/containerd.toml", "--address", self._address,
                "--root", f"{self._scratch}/containerd", "--state", f"{self._scratch}/containerd-state"]  # fmt: skip

    def start(self) -> None:
        if self._containerd is None:
            self._start_containerd()
        super().start()

    def _start_containerd(self) -> None:
        with open(f"{self._scratch}/daemon.json", "w") as file:
            file.write("{}")
        with open(f"{self._scratch}/containerd.toml", "w") as file:
            file.write('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        with open(f"{self._scratch}/containerd.log", "ab") as log:
            self._containerd = self.machine.spawn(self.containerd_argv(), log=log, environment=self.environment)

        def answers() -> bool:
            with socket.socket(socket.AF_UNIX) as connection:
                return connection.connect_ex(self._address) == 0

        eventually(answers, what="containerd listens")

    def end(self) -> None:
        super().end()
        # a dockerd that is killed between create and record leaves a shim that no daemon knows any more
        for pid, line in self.machine.processes().items():
            if "containerd-shim" in line and self._address in line:
                os.kill(pid, signal.SIGKILL)
        if self._containerd is not None:
            self._containerd.terminate()
            self._containerd.wait(timeout=20)
            self._containerd = None

    def collect(self) -> None:
        """dockerd 20.10 sends containerd a checkpoint that it still has."""
        for verb in (("create", "--id", "passing"), ("delete", "--sync", "passing")):
            words = ["ctr", "--address", self._address, "-n", "moby", "leases", *verb]
            subprocess.run(self.machine.entering(words), check=True, capture_output=True)

    def passing_files(self) -> tuple[str, ...]:
        # libnetwork unlinks the names of removed namespaces a minute later
        return (f"{self.state}/netns/",)


class Sampand(Engine):
    """sampand from this tree, run by the interpreter that runs the tests."""

    kind = "sampan"

    def argv(self) -> list[str]:
        return [
            sys.executable, "-m", "sampan.engine", "-H", self.uri, "--root", self.root, "--state", self.state,
            "--bridge", "sampan0", "--bip", f"{BRIDGE_ADDRESS}/24", "--pidfile", self._pidfile,
        ]  # fmt: skip

    def keepers(self) -> list[int]:
        """Pids of the processes that keep containers beside the daemon, from their pid files."""
        found = []
        top = f"{self.state}/keeper"
        for name in os.listdir(top) if os.path.isdir(top) else []:
            try:
                with open(f"{top}/{name}/pid") as file:
                    found.append(int(file.read()))
            except (OSError, ValueError):
                continue  # a keeper that is gone has no pid file
        return found

    def end(self) -> None:
        super().end()
        for pid in self.keepers():
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue
        eventually(lambda: not self.machine_keepers(), what="the keepers end when they are told to")

    def machine_keepers(self) -> dict[int, str]:
        """Keeper processes still in the machine, by pid."""
        return {pid: line for pid, line in self.machine.processes().items() if "sampan" in line}


ENGINES: dict[str, Any] = {"dockerd": Dockerd, "sampan": Sampand}
