"""`sampan/host`: the machine's own root as a read-only image that needs no download."""

from __future__ import annotations

import os

import pytest
from tests.peers.client import Docker

pytestmark = pytest.mark.sampan_only("sampan/host is sampan's own image")


def test_it_runs_without_a_pull_and_shows_the_machine_s_own_files(bare_docker: Docker) -> None:
    with open("/etc/os-release") as file:
        expected = file.read()
    outcome = bare_docker("run", "--rm", "--network", "none", "sampan/host", "cat", "/etc/os-release")
    assert (outcome.status, outcome.out) == (0, expected)


def test_what_is_written_stays_in_the_container(bare_docker: Docker) -> None:
    path = f"/var/tmp/sampan-host-{os.getpid()}"
    bare_docker.ok(
        "run", "--name", "writer", "sampan/host", "sh", "-c", f"echo x > {path}; rm /etc/hostname; ls {path}"
    )
    assert not os.path.exists(path) and os.path.exists("/etc/hostname")
    assert bare_docker("run", "--rm", "sampan/host", "ls", path).status != 0


def test_submounts_of_the_machine_are_not_seen(bare_docker: Docker) -> None:
    out = bare_docker.ok(
        "run", "--rm", "sampan/host", "sh", "-c", "grep -c . /proc/mounts; ls /sys/fs/cgroup; hostname"
    )
    assert out
    rows = bare_docker.ok("run", "--rm", "sampan/host", "cat", "/proc/mounts").splitlines()
    assert rows[0].split()[:3] == ["overlay", "/", "overlay"]


def test_it_is_listed_and_inspected_like_any_image(bare_docker: Docker) -> None:
    assert bare_docker.ok("images", "-q", "sampan/host") != ""
    seen = bare_docker.inspect("image", "sampan/host")
    assert seen["Os"] == "linux" and "sampan/host:latest" in seen["RepoTags"]


def test_a_container_of_it_has_the_usual_confinement(bare_docker: Docker) -> None:
    out = bare_docker.ok("run", "--rm", "sampan/host", "grep", "-E", "CapEff|Seccomp:", "/proc/self/status")
    assert out.split() == ["CapEff:", "00000000a80425fb", "Seccomp:", "2"]
