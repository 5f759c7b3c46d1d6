"""docker compose, unmodified: two services with a network, names, health, a volume and a published port."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import leave_out
from tests.peers import newer
from tests.peers.client import Docker
from tests.peers.machine import Machine, network_of
from tests.peers.waiting import eventually

COMPOSE = f"{newer.CACHE}/docker-compose/usr/libexec/docker/cli-plugins/docker-compose"
PORT = 18080
PROJECT = f"""
services:
  web:
    image: busybox
    command: sh -c "mkdir -p /www; echo hello > /www/index.html; exec httpd -f -p 80 -h /www"
    ports: ["{PORT}:80"]
    volumes: ["data:/data"]
    stop_signal: KILL
    healthcheck: {{test: ["CMD", "true"], interval: 1s}}
    networks: [back]
  client:
    image: busybox
    command: sh -c "nslookup -type=a web; echo $$MODE > /data/mode; exec sleep 1000"
    depends_on: {{web: {{condition: service_healthy}}}}
    environment: {{MODE: afloat}}
    volumes: ["data:/data"]
    stop_signal: KILL
    networks: {{back: {{aliases: [caller]}}}}
volumes: {{data: {{}}}}
networks: {{back: {{}}}}
"""


class Compose:
    """`docker compose` on one project."""

    def __init__(self, docker: Docker, directory: Path) -> None:
        self._environment, self._directory = docker.environment, directory
        (directory / "compose.yaml").write_text(PROJECT)

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMPOSE, "--progress", "quiet", "-p", "fleet", *words],
            cwd=self._directory, env=self._environment, capture_output=True, text=True, timeout=60,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def ok(self, *words: str) -> str:
        done = self(*words)
        assert done.returncode == 0, f"compose {words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()


@pytest.fixture
def compose(docker: Docker, tmp_path: Path) -> Iterator[Compose]:
    if not os.access(COMPOSE, os.X_OK):
        leave_out("docker compose is not there: scripts/peers brings it")
    made = Compose(docker, tmp_path)
    yield made
    made("down", "--volumes", "--timeout", "1")


def test_a_project_comes_up_is_used_and_goes_without_a_trace(
    compose: Compose, docker: Docker, machine: Machine
) -> None:
    compose.ok("up", "--detach")
    rows = [json.loads(line) for line in compose.ok("ps", "--format", "json").splitlines()]
    assert {row["Service"]: row["State"] for row in rows} == {"web": "running", "client": "running"}
    assert next(row["Health"] for row in rows if row["Service"] == "web") == "healthy"
    address = docker.inspect("fleet-web-1")["NetworkSettings"]["Networks"]["fleet_back"]["IPAddress"]
    eventually(lambda: f"Address: {address}" in compose.ok("logs", "client"), what="the client found the server")
    asked = 'printf "GET / HTTP/1.0\\r\\n\\r\\n" | nc web 80'
    assert compose.ok("exec", "-T", "client", "sh", "-c", asked).endswith("hello")
    assert compose.ok("exec", "-T", "web", "cat", "/data/mode") == "afloat"
    assert compose.ok("port", "web", "80") == f"0.0.0.0:{PORT}"
    with network_of(machine.pid):
        done = subprocess.run(["busybox", "wget", "-qO-", f"http://127.0.0.1:{PORT}/"], capture_output=True, text=True)
    assert done.stdout == "hello\n"
    compose.ok("down", "--volumes")
    assert docker.ok("ps", "-aq") == ""
    assert "fleet" not in docker.ok("network", "ls") + docker.ok("volume", "ls")


def test_services_are_scaled_changed_and_run_once(compose: Compose, docker: Docker) -> None:
    compose.ok("up", "--detach", "--scale", "client=3")
    eventually(lambda: len(compose.ok("ps", "-q", "client").split()) == 3, what="three clients")
    found = compose.ok("exec", "-T", "web", "nslookup", "-type=a", "caller")
    assert found.count("Address: ") == 3
    before = docker.inspect("fleet-web-1")["Id"]
    compose.ok("up", "--detach", "--scale", "client=1")
    assert len(compose.ok("ps", "-q", "client").split()) == 1
    assert docker.inspect("fleet-web-1")["Id"] == before  # what has not changed is left alone
    assert compose.ok("run", "--rm", "-T", "client", "echo", "once") == "once"
    compose.ok("restart", "web")
    compose.ok("pause", "web")
    assert docker.state("fleet-web-1")["Paused"]
    compose.ok("unpause", "web")
    compose.ok("kill", "client")
    eventually(lambda: not docker.running("fleet-client-1"), what="the client is dead")
    compose.ok("stop", "--timeout", "1")
    assert docker.ok("ps", "-q") == ""
