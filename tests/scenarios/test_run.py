"""docker run: what each flag does to the process inside."""

from __future__ import annotations

from tests.peers.client import Docker


def test_a_command_runs_and_its_output_comes_back(docker: Docker) -> None:
    assert docker.ok("run", "--rm", "busybox", "echo", "hello", "world") == "hello world"
