"""What a start that fails half-way, and a container that ends, leave on the machine: nothing."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

import pytest
from tests.peers.client import Docker
from tests.peers.engines import Engine
from tests.peers.machine import Machine
from tests.peers.waiting import eventually


class Census(NamedTuple):
    """Everything an engine can leave: counted by the kernel, not by the engine."""

    mounts: tuple[str, ...]
    cgroups: tuple[str, ...]
    netnses: frozenset[str]
    links: tuple[str, ...]
    firewall: str
    processes: frozenset[str]
    files: frozenset[str]


def census(machine: Machine, engine: Engine) -> Census:
    return Census(
        tuple(sorted(machine.mounts())),
        tuple(machine.cgroups()),
        frozenset(machine.netnses()),
        tuple(machine.links()),
        machine.firewall(),
        frozenset(machine.processes().values()),
        files(engine),
    )


def settled(machine: Machine, engine: Engine) -> Census:
    """A census that five looks in a row agree on: what was there before is torn down in its own time."""
    looks: list[Census] = []

    def still() -> bool:
        looks.append(census(machine, engine))
        return len(looks) >= 5 and all(look == looks[-1] for look in looks[-5:])

    eventually(still, what="the machine is at rest")
    return looks[-1]


def files(engine: Engine) -> frozenset[str]:
    """Paths below the engine's directories, without what lies inside mounted file systems."""
    found: set[str] = set()
    mounted = {line.split(" ", 1)[1] for line in engine.machine.mounts()}
    for top in (engine.root, engine.state):
        for path, directories, names in os.walk(top):
            directories[:] = [name for name in directories if f"{path}/{name}" not in mounted]
            found.update(f"{path}/{name}" for name in (*directories, *names))
    return frozenset(
        path
        for path in found
        if not path.endswith(("-wal", "-shm", "-journal")) and not path.startswith(engine.passing_files() or ("\0",))
    )


def nothing_new(machine: Machine, engine: Engine, before: Census, but: str = "") -> bool:
    """Nothing is there that was not there before; `but` names a field of the census that is let off."""
    after = census(machine, engine)
    for name in ("netnses", "processes", "files"):
        new = getattr(after, name) - getattr(before, name)
        assert name == but or not new, f"{name} left: {sorted(new)}"
    for name in ("mounts", "cgroups", "links", "firewall"):
        assert getattr(after, name) == getattr(before, name), f"{name} changed"
    return True


# None: 125, 126 or 127, which the client reads out of the wording of the error
FAILURES = {
    "no such program": (["busybox", "no-such-program"], 127),
    "not executable": (["busybox", "/etc/not-executable"], 126),
    "no such user": (["-u", "nobody-knows", "busybox", "true"], 125),
    "no such group": (["-u", "root:nobody-knows", "busybox", "true"], 125),
    "missing mount source": (["--mount", "type=bind,src=/no/such/source,dst=/x", "busybox", "true"], 125),
    "mount over a file": (["--mount", "type=bind,src=/etc,dst=/etc/passwd", "busybox", "true"], 125),
    "port taken": (["-p", "8099:80", "busybox", "true"], 125),
    "one of two ports taken": (["-p", "8098:80", "-p", "8099:80", "busybox", "true"], 125),
    "no such runtime": (["--runtime", "nowhere", "busybox", "true"], 125),
    "bad sysctl": (["--sysctl", "net.ipv4.no_such_knob=1", "busybox", "true"], None),
    "working directory is a file": (["-w", "/etc/passwd", "busybox", "true"], None),
    "no such device": (["--device", "/dev/no-such-device", "busybox", "true"], None),
    "hard limit above the host's": (["--ulimit", "nofile=999999999:999999999", "busybox", "true"], 125),
    "bad seccomp profile": (["--security-opt", "seccomp=/etc/hostname", "busybox", "true"], 125),
    "memory limit too small to start": (["-m", "1m", "busybox", "true"], 125),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_start_leaves_nothing(docker: Docker, machine: Machine, engine: Engine, failure: str) -> None:
    arguments, status = FAILURES[failure]
    docker.ok("run", "--rm", "busybox", "true")  # what the first container makes for all is no leftover
    eventually(lambda: docker.ok("ps", "-aq") == "")
    with machine.network(), socket.create_server(("0.0.0.0", 8099)):
        before = settled(machine, engine)
        outcome = docker("run", "--rm", *arguments)
        assert outcome.status == status or (status is None and outcome.status in (125, 126, 127)), outcome
        eventually(lambda: docker.ok("ps", "-aq") == "", what="the container is removed")
        eventually(lambda: nothing_new(machine, engine, before), within=10, what="nothing is left")


def test_a_failed_start_without_rm_keeps_only_the_record(docker: Docker, machine: Machine, engine: Engine) -> None:
    docker.ok("run", "--rm", "busybox", "true")
    eventually(lambda: docker.ok("ps", "-aq") == "")
    before = settled(machine, engine)
    assert docker("run", "--name", "failed", "busybox", "no-such-program").status == 127
    state = docker.state("failed")
    assert (state["Status"], state["ExitCode"], state["Running"]) == ("created", 127, False)
    assert "no-such-program" in state["Error"]
    eventually(lambda: nothing_new(machine, engine, before, but="files"), within=10, what="only the record is left")
    docker.ok("rm", "failed")
    eventually(lambda: nothing_new(machine, engine, before), within=10, what="nothing is left")


def test_containers_of_every_kind_leave_nothing_when_removed(
    docker: Docker, machine: Machine, engine: Engine, tmp_path: str
) -> None:
    docker.ok("run", "--rm", "--init", "-p", "8097:80", "busybox", "true")
    eventually(lambda: docker.ok("ps", "-aq") == "")
    before = settled(machine, engine)
    mounts = ("-v", f"{tmp_path}:/x", "--tmpfs", "/y", "-v", "/z")
    docker.ok("run", "-d", "--name", "one", "-p", "8097:80", *mounts, "-m", "64m", "busybox", "sleep", "100")
    docker.ok("run", "-d", "--name", "two", "--network", "none", "--read-only", "busybox", "sleep", "100")
    docker.ok("run", "-d", "--name", "three", "--network", "container:one", "--init", "busybox", "sleep", "100")
    docker.ok("exec", "one", "true")
    docker.ok("exec", "-d", "one", "sleep", "50")
    docker.ok("restart", "-t", "0", "two")
    docker.ok("kill", "two")
    docker.ok("rm", "-fv", "three", "two", "one")
    eventually(lambda: nothing_new(machine, engine, before), within=15, what="nothing is left")


def test_a_process_that_outlives_its_parent_ends_with_the_container(docker: Docker, machine: Machine) -> None:
    docker.ok("run", "--rm", "busybox", "sh", "-c", "(setsid sleep 3456 &) ; true")
    eventually(lambda: not [line for line in machine.processes().values() if "sleep 3456" in line])


def test_a_client_that_is_killed_leaves_its_container_running_and_its_stream_closed(
    docker: Docker, machine: Machine, engine: Engine
) -> None:
    client = docker.start("run", "--name", "orphaned", "busybox", "sh", "-c", "while :; do echo x; sleep 0.01; done")
    assert client.line() == "x"
    client.kill()
    client.communicate()
    assert docker.running("orphaned")
    before = len(os.listdir(f"/proc/{engine.pid}/fd"))
    for _ in range(3):
        follower = docker.start("logs", "-f", "orphaned")
        assert follower.line() == "x"
        follower.kill()
        follower.communicate()
    eventually(lambda: len(os.listdir(f"/proc/{engine.pid}/fd")) <= before + 2)
