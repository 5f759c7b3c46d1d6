"""docker checkpoint and start --checkpoint: an experimental engine saves a container by CRIU and goes on from there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from tests.conftest import leave_out
from tests.peers import newer
from tests.peers.client import Docker
from tests.peers.engines import Engine
from tests.peers.waiting import eventually
from tests.scenarios.conftest import remove_containers

COUNT = "i=0; while :; do i=$((i+1)); echo $i; usleep 20000; done"


def down(engine: Engine) -> None:
    """All its processes: sampand's keepers go when they keep nothing, dockerd's containerd stays until `end`."""
    engine.end() if engine.kind == "dockerd" else engine.stop()


@pytest.fixture
def experimental(engine: Engine, stocked: None) -> Iterator[Engine]:
    """The engine, experimental now, and with CRIU on the PATH of all its processes."""
    if newer.command("criu") is None:
        leave_out("needs criu (scripts/peers unpacks it from Debian sid)")
    down(engine)
    before, engine.environment = engine.environment, {**engine.environment, **newer.environment("criu")}
    engine.flags = ("--experimental",)
    engine.start()
    yield engine
    remove_containers(engine)
    down(engine)
    engine.flags, engine.environment = (), before
    engine.start()


@pytest.fixture
def official(engine: Engine, scratch: str) -> Docker:
    """The docker command: our own has no checkpoints."""
    binary = shutil.which("docker")
    assert binary
    return Docker(binary, engine.uri, f"{scratch}/checkpoint-home")


def counted(docker: Docker, name: str) -> list[int]:
    return [int(word) for word in docker.ok("logs", name).split()]


def test_the_command_asks_for_an_experimental_engine(official: Docker, engine: Engine) -> None:
    refused = official("checkpoint", "create", "one", "first")
    assert refused.status == 1
    assert "is only supported on a Docker daemon with experimental features enabled" in refused.err
    assert engine.request("GET", "/containers/one/checkpoints")[0] == 501
    status, _, body = engine.request("POST", "/containers/one/start?checkpoint=first")
    assert (status, body) == (400, b'{"message":"checkpoint is only supported in experimental mode"}\n')


def test_a_container_goes_on_from_its_checkpoint(official: Docker, experimental: Engine) -> None:
    made = official.ok("run", "-d", "--name", "one", "busybox", "sh", "-c", COUNT)
    eventually(lambda: len(counted(official, "one")) > 3)
    official.ok("checkpoint", "create", "--leave-running", "one", "first")
    reached = counted(official, "one")[-1]
    eventually(lambda: counted(official, "one")[-1] > reached, what="it goes on beside its checkpoint")
    official.ok("checkpoint", "create", "one", "second")
    eventually(lambda: not official.running("one"))
    assert official.state("one")["ExitCode"] == 137
    assert official.ok("checkpoint", "ls", "one").split()[2:] == ["first", "second"]
    reached = counted(official, "one")[-1]
    experimental.collect()
    official.ok("start", "--checkpoint", "second", "one")
    eventually(lambda: counted(official, "one")[-1] > reached + 3)
    numbers = counted(official, "one")
    # One that began anew would have counted from 1 again; one of the first checkpoint would repeat itself.
    assert numbers == list(range(1, len(numbers) + 1))
    address = official.inspect("one")["NetworkSettings"]["IPAddress"]
    assert address and address in official.ok("exec", "one", "cat", "/proc/net/fib_trie")
    official.ok("checkpoint", "rm", "one", "first")
    assert official.ok("checkpoint", "ls", "one").split()[2:] == ["second"]
    official.ok("rm", "-f", "one")
    assert not os.path.exists(f"{experimental.root}/containers/{made}")


def test_what_makes_no_sense_is_refused_in_dockers_words(official: Docker, experimental: Engine) -> None:
    official.ok("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    official.ok("create", "--name", "made", "busybox", "true")
    official.ok("checkpoint", "create", "--leave-running", "one", "first")
    for words, text in (
        (
            ("checkpoint", "create", "one", "first"),
            "cannot checkpoint container one: checkpoint with name first already exists for container one",
        ),
        (("checkpoint", "create", "one", "-"), "Invalid checkpoint ID (-), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        (("checkpoint", "create", "made", "first"), "Container made not running"),
        (("checkpoint", "create", "nonesuch", "first"), "No such container: nonesuch"),
        (("checkpoint", "rm", "one", "other"), "checkpoint other does not exist for container one"),
        (("start", "--checkpoint", "other", "made"), "checkpoint other does not exist for container /made"),
    ):
        refused = official(*words)
        assert refused.status == 1 and f"Error response from daemon: {text}" in refused.err, words
    assert official.running("one") and official.state("made")["Status"] == "created"


@pytest.mark.sampan_only("dockerd makes a checkpoint elsewhere and then refuses to start from it")
def test_a_checkpoint_may_be_kept_elsewhere(official: Docker, experimental: Engine, scratch: str) -> None:
    elsewhere = f"{scratch}/kept"
    official.ok("run", "-dt", "--name", "one", "busybox", "sh", "-c", f"stty rows 33; {COUNT}")
    eventually(lambda: len(counted(official, "one")) > 3)
    official.ok("checkpoint", "create", "--checkpoint-dir", elsewhere, "one", "first")
    assert os.listdir(elsewhere) == ["first"]
    assert official.ok("checkpoint", "ls", "one").split()[2:] == []
    reached = counted(official, "one")[-1]
    official.ok("start", "--checkpoint", "first", "--checkpoint-dir", elsewhere, "one")
    eventually(lambda: counted(official, "one")[-1] > reached + 3)
    assert counted(official, "one").count(1) == 1
