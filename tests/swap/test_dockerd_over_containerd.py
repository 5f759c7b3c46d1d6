"""Debian's dockerd with `--containerd`: what it does on Debian's containerd it does on sampan-containerd.

dockerd keeps images and file systems itself (overlay2); containers, tasks, execs, streams and exits are containerd's.
It hears of every exit by an event alone.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

import pytest
from tests.peers.client import Docker
from tests.peers.engines import Dockerd
from tests.peers.machine import Machine
from tests.peers.waiting import eventually

pytestmark = pytest.mark.needs("dockerd", "docker", "skopeo", "containerd")

IMAGE = "example.org/busybox"
TRAP = 'trap "echo asked; exit 3" TERM; echo up; sleep 1000 & wait'


class OverOurs(Dockerd):
    """The same dockerd over sampan-containerd."""

    def containerd_argv(self) -> list[str]:
        return [sys.executable, "-m", "sampan.containerd", "--address", self._address,
                "--root", f"{self._scratch}/containerd", "--state", f"{self._scratch}/containerd-state"]  # fmt: skip


@pytest.fixture(scope="module", params=[Dockerd, OverOurs], ids=["containerd", "sampan-containerd"])
def engine(request: pytest.FixtureRequest, machine: Machine, scratch: str) -> Iterator[Dockerd]:
    place = f"{scratch}/over-{request.param.__name__.lower()}"
    os.makedirs(place, exist_ok=True)
    made = request.param(machine, place, {})
    made.start()
    yield made
    made.end()


@pytest.fixture(scope="module")
def client(engine: Dockerd, scratch: str, archive: str) -> Docker:
    binary = shutil.which("docker")
    assert binary
    made = Docker(binary, engine.uri, f"{scratch}/home")
    made.ok("load", "-q", "-i", archive)
    return made


@pytest.fixture
def docker(client: Docker) -> Iterator[Docker]:
    yield client
    client.tidy()
    if left := client.ok("ps", "-aq").split():
        client.ok("rm", "-f", *left)


def up(docker: Docker, *flags: str, command: str = TRAP) -> None:
    """A running container named `one`."""
    docker.ok("run", "-d", "--name", "one", *flags, IMAGE, "sh", "-c", command)


def test_run_gives_both_streams_and_the_exit_code(docker: Docker) -> None:
    done = docker("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.status, done.out, done.err) == (42, "out\n", "err\n")


def test_standard_input_reaches_the_container_and_its_end_too(docker: Docker) -> None:
    assert docker.ok("run", "--rm", "-i", IMAGE, "cat", stdin="through") == "through"


def test_a_terminal_has_a_size_that_follows(docker: Docker) -> None:
    with docker.terminal("run", "--rm", "-it", IMAGE, "sh", rows=31, columns=97) as screen:
        screen.expect("# ")
        screen.type("tty; until [ \"$(stty size)\" = '31 97' ]; do usleep 10000; done; echo sized\n")
        screen.expect("/dev/pts/0\r\n")
        screen.expect("(?<!echo )sized\r\n")
        screen.resize(20, 60)
        screen.type("until [ \"$(stty size)\" = '20 60' ]; do usleep 10000; done; echo resized\n")
        screen.expect("(?<!echo )resized\r\n")
        screen.type("exit 7\n")
        assert screen.end() == 7


def test_a_missing_program_is_said_in_the_same_words(docker: Docker) -> None:
    done = docker("run", "--rm", IMAGE, "nonesuch")
    assert done.status == 127
    assert (
        'OCI runtime create failed: runc create failed: unable to start container process: exec: "nonesuch"' in done.err
    )
    up(docker)
    done = docker("exec", "one", "nonesuch")
    assert done.status in (126, 127)
    assert 'OCI runtime exec failed: exec failed: unable to start container process: exec: "nonesuch"' in done.out


def test_stop_asks_before_it_kills_and_logs_keep_what_was_said(docker: Docker) -> None:
    up(docker)
    eventually(lambda: "up" in docker.ok("logs", "one"))
    docker.ok("stop", "one")
    assert docker.state("one")["ExitCode"] == 3
    assert docker.ok("logs", "one") == "up\nasked"


def test_exec_runs_beside_and_has_its_own_exit_code(docker: Docker) -> None:
    up(docker)
    done = docker("exec", "-e", "A=b", "-w", "/tmp", "one", "sh", "-c", "echo $A $PWD; exit 4")
    assert (done.status, done.out) == (4, "b /tmp\n")
    assert docker.ok("exec", "-i", "one", "cat", stdin="through") == "through"
    assert len(docker.ok("top", "one").splitlines()) == 3


def test_pause_restart_kill_and_wait(docker: Docker) -> None:
    up(docker)
    docker.ok("pause", "one")
    assert docker.state("one")["Status"] == "paused"
    docker.ok("unpause", "one")
    docker.ok("restart", "-t", "1", "one")
    assert docker.running("one")
    docker.ok("kill", "one")
    assert docker.ok("wait", "one") == "137"


def test_limits_are_set_updated_and_enforced(docker: Docker) -> None:
    up(docker, "--memory", "40m")
    docker.ok("update", "--memory", "50m", "--memory-swap", "60m", "one")
    assert docker.ok("exec", "one", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes") == "52428800"
    assert "50MiB" in docker.ok("stats", "--no-stream", "--format", "{{.MemUsage}}", "one")
    docker.ok("rm", "-f", "one")
    assert docker("run", "--name", "one", "--memory", "20m", IMAGE, "tail", "/dev/zero").status == 137
    assert docker.state("one")["OOMKilled"]


def test_a_restart_policy_hears_of_every_exit(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "one", "--restart", "on-failure:2", IMAGE, "false")
    eventually(lambda: docker.inspect("one")["RestartCount"] == 2 and not docker.running("one"))


def test_the_network_is_there_when_the_program_starts(docker: Docker) -> None:
    assert "inet " in docker.ok("run", "--rm", IMAGE, "ip", "-4", "address", "show", "eth0")


def test_containers_outlive_a_dockerd_that_is_started_again(docker: Docker, engine: Dockerd) -> None:
    up(docker)
    pid = docker.state("one")["Pid"]
    engine.stop()
    engine.start()
    assert docker.state("one")["Pid"] == pid
    docker.ok("stop", "one")
    assert docker.state("one")["ExitCode"] == 3
