"""The README's first command, from a fresh copy of the tree on a machine without an engine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.scenarios.conftest import LAUNCHER

pytestmark = pytest.mark.sampan_only("it is about our own launcher")

TREE = os.path.dirname(os.path.realpath(LAUNCHER))
# What of the tree the launcher needs; the rest of a fresh clone is not asked for.
PARTS = ("sampan", "scripts", "bin", "src", "pyproject.toml", "README.md")

# A machine of its own: no network, nothing below /run/sampan and /var/lib/sampan, and every process ends with it.
ALONE = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]
PREPARE = """
ip link set lo up
mkdir -p /run/sampan /var/lib/sampan
mount -t tmpfs run /run/sampan
mount -t tmpfs lib /var/lib/sampan
"""


def test_two_commands_do_all_the_set_up(tmp_path: Path) -> None:
    copy = tmp_path / "fresh"
    copy.mkdir()
    for name in PARTS:
        source = f"{TREE}/{name}"
        if os.path.isdir(source):
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, copy / name)
    environment = {name: value for name, value in os.environ.items() if name not in ("DOCKER_HOST", "SAMPAN_HOST")}

    first = subprocess.run(["./sampan", "--version"], cwd=copy, env=environment, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert "first use: installing" in first.stderr

    script = PREPARE + "for i in 1 2; do ./sampan run --rm sampan/host cat /etc/os-release; done"
    run = subprocess.run(
        [*ALONE, script],
        cwd=copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert run.returncode == 0, run.stderr
    with open("/etc/os-release") as file:
        assert run.stdout == file.read() * 2
    assert run.stderr.count("starting sampand in the background") == 1
