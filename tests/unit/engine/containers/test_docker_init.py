"""The init of --init, run as it is shipped (not as pid 1: that is tests/scenarios' part)."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import Any

import pytest

from sampan.engine.containers import docker_init

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="built for x86-64")


@pytest.fixture
def init(tmp_path: Any) -> str:
    return docker_init.path(str(tmp_path), "x86_64")


def test_it_is_written_once_and_executable(tmp_path):
    path = docker_init.path(str(tmp_path), "x86_64")
    before = os.stat(path)
    assert before.st_mode & 0o777 == 0o755
    assert docker_init.path(str(tmp_path), "x86_64") == path
    assert os.stat(path).st_ino == before.st_ino


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["sh", "-c", "exit 3"], 3),
        (["sh", "-c", "kill -KILL $$"], 137),
        (["/bin/sh", "-c", "true"], 0),
        (["no-such-program"], 127),
        (["/etc"], 126),
    ],
)
def test_it_ends_with_its_childs_status(init, command, status):
    assert subprocess.run([init, "--", *command], stderr=subprocess.DEVNULL, check=False).returncode == status


def test_a_signal_is_forwarded(init):
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done"
    with subprocess.Popen([init, "--", "sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 9


def test_other_children_are_reaped_without_ending_it(init):
    # `true` is no child of the shell that waits: the first shell leaves it to the init when run as a subreaper, and
    # as an ordinary process to the host. Either way the status is the main child's.
    assert subprocess.run([init, "sh", "-c", "(true &) ; sleep 0.05; exit 4"], check=False).returncode == 4
