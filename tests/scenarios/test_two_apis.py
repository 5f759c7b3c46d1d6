"""One sampand serves Docker's API and containerd's: each client finds what is its own and leaves the other's alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest
from tests.peers.client import Docker
from tests.peers.engines import Sampand
from tests.peers.machine import Machine
from tests.peers.shelf import Shelf
from tests.peers.waiting import eventually

pytestmark = [pytest.mark.sampan_only("dockerd's containerd is a process of its own"), pytest.mark.needs("ctr")]


class SampandWithBoth(Sampand):
    """sampand with containerd's API on `address`."""

    @property
    def address(self) -> str:
        return f"{self._scratch}/c.sock"

    def argv(self) -> list[str]:
        return [*super().argv(), "--containerd-address", self.address, "--bridge", "sampan1", "--bip", "172.30.98.1/24"]

    def end(self) -> None:
        """Ends this sampand and its own keepers; the session's engine has others in the same machine."""
        self.stop()
        keepers = self.keepers()
        for pid in keepers:
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: not set(keepers) & set(self.machine.processes()), what="its keepers end")

    def ctr(self, *arguments: str) -> str:
        """Standard output of a ctr command that must succeed."""
        done = subprocess.run(
            self.machine.entering(["ctr", "-a", self.address, *arguments]), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def both(machine: Machine, scratch: str, shelf: Shelf) -> Iterator[SampandWithBoth]:
    top = f"{scratch}/both"
    os.makedirs(top, exist_ok=True)
    engine = SampandWithBoth(machine, top, {})
    engine.start()
    yield engine
    engine.end()


def test_docker_and_ctr_use_one_engine_without_disturbing_each_other(both: SampandWithBoth, shelf: Shelf) -> None:
    docker = Docker(shutil.which("docker") or "docker", both.uri, f"{both.root}/../home")
    reference = f"{shelf.product('busybox').reference}:latest"
    docker.ok("pull", reference)
    docker.ok("run", "-d", "--name", "dockers", reference, "sleep", "100")
    assert reference in both.ctr("-n", "moby", "images", "ls", "-q")

    both.ctr("-n", "theirs", "images", "pull", "--plain-http", reference)
    assert both.ctr("-n", "theirs", "run", "--rm", reference, "brief", "echo", "said by ctr") == "said by ctr\n"
    both.ctr("-n", "theirs", "run", "-d", "--null-io", reference, "ctrs", "sleep", "100")
    assert "ctrs" not in docker.ok("ps", "-a")
    assert docker.ok("inspect", "-f", "{{.State.Running}}", "dockers") == "true"

    both.kill()
    both.start()
    assert "RUNNING" in both.ctr("-n", "theirs", "task", "ls")
    assert docker.ok("exec", "dockers", "echo", "here") == "here"
    both.ctr("-n", "theirs", "task", "kill", "-s", "9", "ctrs")
    docker.ok("rm", "-f", "dockers")
    both.ctr("-n", "theirs", "task", "rm", "-f", "ctrs")
    both.ctr("-n", "theirs", "c", "rm", "ctrs")
