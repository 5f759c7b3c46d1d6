"""A smaller cross-check with Debian's own 20.10 client, API 1.41."""

from __future__ import annotations

import json
import os

import pytest
from tests.conftest import leave_out
from tests.peers.client import Docker
from tests.peers.engines import Engine
from tests.peers.shelf import Shelf
from tests.peers.waiting import eventually

BINARY = "/usr/bin/docker"


@pytest.fixture
def old(engine: Engine, docker: Docker, scratch: str) -> Docker:
    if not os.path.exists(BINARY):
        leave_out("needs Debian's docker client in /usr/bin (package docker.io)")
    return Docker(BINARY, engine.uri, f"{scratch}/old-home")


def test_run_gives_output_streams_and_status(old: Docker) -> None:
    assert old("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3") == (3, "out\n", "err\n")
    assert old("run", "--rm", "-i", "busybox", "cat", stdin="through\n").out == "through\n"
    assert old("run", "--rm", "busybox", "no-such-program").status == 127


def test_it_on_a_terminal_with_detach_and_attach(old: Docker) -> None:
    with old.terminal("run", "--name", "kept", "-it", "busybox", "sh") as terminal:
        terminal.expect("# ")
        terminal.type("\x10\x11")
        assert terminal.end() == 0
    assert old.running("kept")
    with old.terminal("attach", "kept") as terminal:
        terminal.type("exit 4\n")
        assert terminal.end() == 4


def test_the_listing_and_inspecting_commands_understand_the_engine(old: Docker) -> None:
    old.ok("run", "-d", "--name", "going", "-p", "8090:80", "busybox", "sleep", "100")
    assert old.ok("ps", "--format", "{{.Names}} {{.Ports}}").startswith("going 0.0.0.0:8090->80/tcp")
    assert "busybox" in old.ok("images")
    assert old.inspect("going")["State"]["Running"] is True
    assert old.inspect("image", "busybox")["Os"] == "linux"
    assert "bridge" in old.ok("network", "ls")
    assert json.loads(old.ok("version", "--format", "{{json .}}"))["Server"]["Os"] == "linux"
    assert "Containers: 1" in old.ok("info")
    old.ok("volume", "ls")


def test_pull_tag_and_rmi(old: Docker, shelf: Shelf) -> None:
    product = shelf.product("layered")
    assert f"Digest: {product.digest}" in old.ok("pull", product.reference)
    old.ok("tag", product.reference, "renamed")
    old.ok("rmi", product.reference, "renamed")


def test_exec_logs_stop_and_rm(old: Docker) -> None:
    old.ok("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo said; exec sleep 100")
    assert old("exec", "box", "sh", "-c", "exit 5").status == 5
    eventually(lambda: old.ok("logs", "box") == "said")
    old.ok("stop", "-t", "0", "box")
    assert old.ok("wait", "box") == "137"
    old.ok("rm", "box")
