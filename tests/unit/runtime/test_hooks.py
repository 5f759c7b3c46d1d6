from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from sampan.runtime import hooks
from sampan.runtime.steps.situation import StepFailed


def run(script: str, state: str = "{}", **more: Any) -> None:
    hooks.run(
        {"path": "/bin/sh", "args": ["sh", "-c", script], **more}, "poststop", 3, state, {"PATH": "/usr/bin:/bin"}
    )


def test_a_hook_reads_the_state_on_its_standard_input(tmp_path: Path) -> None:
    run(f"cat > {tmp_path}/x", '{"id": "boat"}')
    assert (tmp_path / "x").read_text() == '{"id": "boat"}'


def test_a_hook_that_reads_nothing_does_not_matter() -> None:
    run("exec 0<&-; true", "x" * (1 << 20))


def test_a_failing_hook_is_told_with_its_output() -> None:
    with pytest.raises(StepFailed) as failed:
        run("echo out; echo err >&2; exit 5")
    assert str(failed.value) == "error running poststop hook #3: exit status 5, stdout: out\n, stderr: err\n"


def test_more_output_than_a_pipe_holds_does_not_stop_a_hook() -> None:
    with pytest.raises(StepFailed) as failed:
        run("head -c 300000 /dev/zero | tr '\\0' x; exit 1")
    assert str(failed.value).count("x") >= 300000


def test_a_hook_that_is_missing_is_told_by_its_path() -> None:
    with pytest.raises(StepFailed, match=r"hook #0: fork/exec /nosuch: no such file or directory"):
        hooks.run({"path": "/nosuch"}, "prestart", 0, "{}", {})


def test_a_timeout_kills(tmp_path: Path) -> None:
    before = time.monotonic()
    with pytest.raises(StepFailed, match=r"hook ran past specified timeout of 1\.0s"):
        run("sleep 60", timeout=1)
    assert time.monotonic() - before < 20


def test_a_hook_has_the_environment_it_names_or_the_default(tmp_path: Path) -> None:
    run(f"env > {tmp_path}/x", env=["ONLY=this"])
    assert "ONLY=this" in (tmp_path / "x").read_text().split()
    assert "PATH=/usr/bin:/bin" not in (tmp_path / "x").read_text().split()
    run(f"env > {tmp_path}/y")
    assert "PATH=/usr/bin:/bin" in (tmp_path / "y").read_text().split()


def test_a_daemon_that_a_hook_leaves_behind_does_not_hold_us_up() -> None:
    before = time.monotonic()
    run("sleep 30 & exit 0")
    assert time.monotonic() - before < 20
