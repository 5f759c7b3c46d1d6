from __future__ import annotations

import os
import select
from pathlib import Path
from typing import Any

from sampan.runtime.hook_runner import HookRunner


def hook(script: str) -> dict[str, Any]:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}


def outcome(runner: HookRunner) -> str:
    while (text := runner.step()) is None:
        assert select.select([runner.fd], [], [], 20)[0], "no hook says anything"
    return text


def test_hooks_run_in_order_and_read_the_state(tmp_path: Path) -> None:
    work = [("prestart", 0, hook(f"cat > {tmp_path}/x")), ("createRuntime", 0, hook(f"echo 2 >> {tmp_path}/x"))]
    assert outcome(HookRunner(work, '{"id": "boat"}\n')) == ""
    assert (tmp_path / "x").read_text() == '{"id": "boat"}\n2\n'


def test_the_first_hook_that_fails_is_the_last_and_is_told_whole(tmp_path: Path) -> None:
    long = "head -c 300000 /dev/zero | tr '\\0' x; exit 3"
    work = [("prestart", 0, hook(long)), ("prestart", 1, hook(f"touch {tmp_path}/x"))]
    text = outcome(HookRunner(work, "{}"))
    assert text.startswith("error running prestart hook #0: exit status 3, stdout: xxx") and text.count("x") >= 300000
    assert not (tmp_path / "x").exists()


def test_a_step_does_not_wait(tmp_path: Path) -> None:
    runner = HookRunner([("prestart", 0, hook(f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done"))], "{}")
    assert runner.step() is None
    (tmp_path / "go").touch()
    assert outcome(runner) == ""


def test_the_end_takes_the_hook_and_what_it_started_with_it(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    runner = HookRunner([("prestart", 0, hook(f"exec 9>{fifo}; sleep 1000 & sleep 1000"))], "{}")
    with open(fifo, "rb") as held:
        runner.end()
        assert select.select([held], [], [], 10)[0] and held.read() == b"", "a writer lives"
