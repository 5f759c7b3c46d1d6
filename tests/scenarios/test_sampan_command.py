"""Our own command against the engine, whichever it is: the same words, answers and exit codes as docker's.

The whole suite runs with it too: `pytest tests/scenarios --client=sampan`.
"""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path

import pytest
from tests.peers.client import Docker
from tests.peers.engines import Engine
from tests.peers.waiting import eventually
from tests.scenarios.conftest import LAUNCHER


@pytest.fixture
def sampan(engine: Engine, stocked: None, scratch: str) -> Docker:
    return Docker(LAUNCHER, engine.uri, f"{scratch}/home-sampan")


def test_run_carries_streams_and_the_exit_code(sampan: Docker) -> None:
    done = sampan("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo err >&2; exit 7", stdin="typed\n")
    assert (done.status, done.out, done.err) == (7, "typed\n", "err\n")


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["run", "--rm", "busybox", "nothere"], 127),
        (["run", "--rm", "busybox", "/etc"], 126),
        (["run", "--bogus"], 125),
        (["run", "--rm", "--memory", "1", "busybox", "true"], 125),
        (["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
        (["inspect", "nothere"], 1),
        (["bogus"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_exit_codes_are_dockers(sampan: Docker, words: list[str], status: int) -> None:
    assert sampan(*words).status == status


def test_a_container_goes_through_its_life(sampan: Docker, docker: Docker) -> None:
    identity = sampan.ok("run", "-d", "--name", "lived", "busybox", "sh", "-c", "echo said; exec sleep 100")
    assert sampan.ok("ps", "-q", "--no-trunc") == identity
    assert sampan.ok("exec", "-e", "A=b", "-w", "/tmp", "lived", "sh", "-c", "echo $A $PWD") == "b /tmp"
    eventually(lambda: sampan.ok("logs", "lived") == "said")
    assert sampan.ok("inspect", "-f", "{{.State.Running}}", "lived") == "true"
    assert sampan.ok("stop", "-t", "0", "lived") == "lived"
    assert sampan.ok("wait", "lived") == "137"
    assert sampan.ok("restart", "lived") == "lived"
    assert sampan.ok("kill", "lived") == "lived"
    assert sampan.ok("rm", "-f", "lived") == "lived"
    assert docker.ok("ps", "-aq") == ""


def test_listings_are_laid_out_as_dockers(sampan: Docker, docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "listed", "busybox", "sleep", "100")
    for words in (["images"], ["network", "ls"], ["volume", "ls"], ["ps", "--format", "{{.Names}} {{.Image}}"]):
        assert sampan.ok(*words) == docker.ok(*words)
    columns = re.split(r"  +", sampan.ok("ps").splitlines()[0])
    assert columns == re.split(r"  +", docker.ok("ps").splitlines()[0])


def test_it_has_a_terminal(sampan: Docker) -> None:
    with sampan.terminal("run", "--rm", "-it", "busybox", "sh", rows=33, columns=77) as terminal:
        terminal.expect("# ")
        terminal.type("stty size; exit 5\n")
        terminal.expect("33 77")
        assert terminal.end() == 5


def test_images_and_volumes(sampan: Docker) -> None:
    sampan.ok("tag", "busybox", "renamed:1")
    assert "renamed:1" in sampan.ok("image", "inspect", "-f", "{{json .RepoTags}}", "renamed:1")
    assert sampan.ok("rmi", "renamed:1").startswith("Untagged: ")
    assert sampan.ok("volume", "create", "kept") == "kept"
    assert sampan.ok("run", "--rm", "-v", "kept:/k", "busybox", "sh", "-c", "echo x > /k/f; cat /k/f") == "x"
    assert sampan.ok("volume", "inspect", "-f", "{{.Name}}", "kept") == "kept"
    assert sampan.ok("volume", "rm", "kept") == "kept"


def test_an_engine_that_is_named_and_not_there_is_not_started(scratch: str) -> None:
    lost = Docker(LAUNCHER, f"unix://{scratch}/nowhere.sock", f"{scratch}/home-sampan")
    done = lost("ps")
    assert done.status == 1 and "Cannot connect to the sampan engine" in done.err
    assert not os.path.exists(f"{scratch}/nowhere.sock")


def test_images_go_out_and_in_as_archives(sampan: Docker, docker: Docker, tmp_path: Path) -> None:
    sampan.ok("tag", "busybox", "travelled:1")
    sampan.ok("save", "-o", f"{tmp_path}/image.tar", "travelled:1")
    docker.ok("rmi", "travelled:1")
    assert sampan.ok("load", "-i", f"{tmp_path}/image.tar") == "Loaded image: travelled:1"
    docker.ok("rmi", "travelled:1")
    with open(f"{tmp_path}/image.tar", "rb") as file:
        assert sampan.ok("load", stdin=file.read()) == "Loaded image: travelled:1"
    sampan.ok("rmi", "travelled:1")
    assert sampan("save", "-o", f"{tmp_path}/none.tar", "nowhere").status == 1
    assert os.listdir(tmp_path) == ["image.tar"]
    done = sampan("load", stdin="no tar at all")
    assert done.status == 1 and "Error response from daemon" in done.err


def test_a_container_s_changes_are_listed_committed_and_exported(
    sampan: Docker, docker: Docker, tmp_path: Path
) -> None:
    docker.ok("run", "--name", "changed", "busybox", "sh", "-c", "echo new > /made; rm /etc/group")
    assert sampan.ok("diff", "changed").splitlines() == docker.ok("diff", "changed").splitlines()
    try:
        made = sampan.ok("commit", "-m", "why", "-a", "who", "-c", "ENV A=b", "changed", "kept:1")
        found = docker.inspect("image", "kept:1")
        assert (found["Id"], found["Author"], found["Comment"]) == (made, "who", "why")
        assert "A=b" in found["Config"]["Env"]
        sampan.ok("export", "-o", f"{tmp_path}/files.tar", "changed")
        with tarfile.open(f"{tmp_path}/files.tar") as archive:
            assert "made" in archive.getnames() and "etc/group" not in archive.getnames()
        made = sampan.ok("import", "-c", "CMD cat /made", f"{tmp_path}/files.tar", "brought:1")
        assert docker.inspect("image", "brought:1")["Id"] == made
        assert docker.ok("run", "--rm", "brought:1") == "new"
    finally:
        docker("rmi", "-f", "kept:1", "brought:1")
