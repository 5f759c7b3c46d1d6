"""kill -9 of the engine while containers run: they go on, and nothing they did or said is lost."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest
from tests.peers.client import Docker
from tests.peers.engines import Engine
from tests.peers.waiting import eventually

Crash = Callable[[], None]
COUNTER = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"


@pytest.fixture
def crash(engine: Engine) -> Iterator[Crash]:
    """Kills the engine; when the scenario ends, it runs again in any case."""

    def kill() -> None:
        engine.kill()

    yield kill
    if not engine.up:
        engine.start()


def alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")


def test_containers_go_on_and_their_output_is_not_lost(docker: Docker, engine: Engine, crash: Crash) -> None:
    docker.ok("run", "-d", "--name", "counting", "busybox", "sh", "-c", COUNTER)
    eventually(lambda: docker.ok("logs", "counting").count("\n") > 3)
    pid = docker.state("counting")["Pid"]
    crash()
    assert alive(pid)
    with open(f"/proc/{pid}/root/mark", "w") as mark:  # the world turns while the engine is away
        mark.write("made meanwhile")
    engine.start()
    state = docker.state("counting")
    assert (state["Status"], state["Pid"]) == ("running", pid)
    assert docker.ok("ps", "--format", "{{.Names}}") == "counting"
    seen = len(docker.ok("logs", "counting").splitlines())
    eventually(lambda: len(docker.ok("logs", "counting").splitlines()) > seen + 3)
    lines = docker.ok("logs", "counting").splitlines()
    assert lines == [str(i + 1) for i in range(len(lines))]
    assert docker.ok("exec", "counting", "cat", "/mark") == "made meanwhile"
    docker.ok("stop", "-t", "0", "counting")
    assert docker.state("counting")["ExitCode"] == 137


def test_a_container_that_ended_meanwhile_shows_its_true_exit_code(
    docker: Docker, engine: Engine, crash: Crash
) -> None:
    script = "trap 'echo last words; exit 37' USR1; echo ready; while :; do sleep 0.02; done"
    docker.ok("run", "-d", "--name", "ending", "busybox", "sh", "-c", script)
    docker.ok("run", "-d", "--rm", "--name", "brief", "busybox", "sh", "-c", script)
    docker.ok("run", "-d", "--name", "shot", "busybox", "sleep", "100")
    for name in ("ending", "brief"):
        eventually(lambda name=name: "ready" in docker.ok("logs", name))  # type: ignore[misc]
    pids = {name: docker.state(name)["Pid"] for name in ("ending", "brief", "shot")}
    crash()
    os.kill(pids["ending"], signal.SIGUSR1)
    os.kill(pids["brief"], signal.SIGUSR1)
    os.kill(pids["shot"], signal.SIGKILL)
    eventually(lambda: not any(alive(pid) for pid in pids.values()))
    engine.start()
    eventually(lambda: docker.state("ending")["Status"] == "exited")
    state = docker.state("ending")
    assert (state["ExitCode"], state["Pid"], state["Running"]) == (37, 0, False)
    if engine.kind == "sampan":  # dockerd reads the output itself, and loses what is said while it is away
        assert docker.ok("logs", "ending") == "ready\nlast words"
    eventually(lambda: docker.state("shot")["Status"] == "exited")
    assert docker.state("shot")["ExitCode"] == 137
    eventually(lambda: docker("inspect", "brief").status == 1, what="--rm still removes what ended meanwhile")
    assert docker.ok("wait", "ending") == "37"


def test_exec_attach_stdin_and_network_work_after_a_crash(docker: Docker, engine: Engine, crash: Crash) -> None:
    docker.ok("run", "-di", "--name", "waiting", "-p", "8085:80", "-v", "kept:/kept", "busybox",
              "sh", "-c", "read line; echo got $line; sleep 0.3; exit 12")  # fmt: skip
    address = docker.inspect("waiting")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    crash()
    engine.start()
    assert docker.inspect("waiting")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == address
    assert docker.ok("port", "waiting", "80").splitlines()[0] == "0.0.0.0:8085"
    assert docker.ok("exec", "waiting", "echo", "inside") == "inside"
    client = docker.start("attach", "waiting", stdin=subprocess.PIPE)
    client.write("word\n")
    assert client.line() == "got word"
    client.communicate(timeout=20)
    assert client.returncode == 12
    docker.ok("rm", "-f", "waiting")
    docker.ok("volume", "rm", "kept")


def test_a_terminal_can_be_attached_again_after_a_crash(docker: Docker, engine: Engine, crash: Crash) -> None:
    docker.ok("run", "-dit", "--name", "shell", "busybox", "sh")
    crash()
    engine.start()
    with docker.terminal("attach", "shell", rows=20, columns=70) as terminal:
        terminal.type("echo again-$((1+1))\n")
        terminal.expect(r"again-2\r\n")
        terminal.type("exit 3\n")
        assert terminal.end() == 3


def test_images_volumes_and_stopped_containers_survive_a_crash(docker: Docker, engine: Engine, crash: Crash) -> None:
    docker.ok("volume", "create", "kept")
    docker(
        "run", "--name", "ended", "-v", "kept:/kept", "busybox", "sh", "-c", "echo x > /kept/file; echo said; exit 3"
    )
    before = docker.inspect("ended")
    listed = sorted(docker.ok("images", "--no-trunc").split("\n"))
    crash()
    engine.start()
    after = docker.inspect("ended")
    assert after["State"] == before["State"] and after["Config"] == before["Config"]
    assert sorted(docker.ok("images", "--no-trunc").split("\n")) == listed
    assert docker.ok("logs", "ended") == "said"
    assert docker.ok("run", "--rm", "-v", "kept:/kept", "busybox", "cat", "/kept/file") == "x"
    docker.ok("rm", "ended")
    docker.ok("volume", "rm", "kept")


def test_a_kill_in_the_middle_of_many_starts_loses_no_container(docker: Docker, engine: Engine, crash: Crash) -> None:
    clients = [docker.start("run", "-d", "--name", f"many{i}", "busybox", "sleep", "100") for i in range(6)]
    eventually(lambda: any(client.poll() is not None for client in clients))
    crash()
    for client in clients:
        client.communicate(timeout=30)
    engine.start()
    told = {f"many{i}" for i, client in enumerate(clients) if client.returncode == 0}
    running = set(docker.ok("ps", "--format", "{{.Names}}").split())
    assert told <= running
    for name in docker.ok("ps", "-a", "--format", "{{.Names}}").split():
        docker.ok("rm", "-f", name)
    assert docker.ok("ps", "-aq") == ""


def test_a_polite_stop_of_the_engine_leaves_containers_running_too(
    docker: Docker, engine: Engine, crash: Crash
) -> None:
    docker.ok("run", "-d", "--name", "going", "busybox", "sleep", "100")
    pid = docker.state("going")["Pid"]
    assert engine.stop() == 0
    assert alive(pid)
    engine.start()
    assert docker.state("going")["Pid"] == pid


def test_a_second_engine_on_the_same_directories_is_refused(docker: Docker, engine: Engine) -> None:
    log = f"{engine.log}.second"
    with open(log, "wb") as out:
        second: subprocess.Popen[bytes] = engine.machine.spawn(engine.argv(), log=out)
    assert second.wait(timeout=20) != 0
    assert engine.request("GET", "/_ping")[0] == 200
