from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import AlreadyExists, InvalidArgument, NotFound
from sampan.linux import procfs
from sampan.runtime import state


def made(pid: int) -> dict[str, Any]:
    spec: Any = {"ociVersion": "1.2.0", "annotations": {"a": "b"}, "linux": {"namespaces": [{"type": "pid"}]}}
    return state.new("c", spec, "/bundle", "/bundle/rootfs", {}, pid, procfs.start_time(os.getpid()))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    root = str(tmp_path)
    state.reserve(root, "c")
    state.save(root, made(os.getpid()))
    assert state.load(root, "c") == state.load(root, "c") | made(os.getpid()) | {
        "created": state.load(root, "c")["created"]
    }
    assert os.stat(f"{root}/c/state.json").st_mode & 0o777 == 0o600
    assert os.listdir(f"{root}/c") == ["state.json"]


def test_an_id_is_taken_once_until_it_is_removed(tmp_path: Path) -> None:
    root = str(tmp_path / "deep" / "root")
    state.reserve(root, "c")
    with pytest.raises(AlreadyExists, match="container with given ID already exists"):
        state.reserve(root, "c")
    state.remove(root, "c")
    state.remove(root, "c")
    state.reserve(root, "c")


@pytest.mark.parametrize("name", [".", "..", "a/b", "a b", "ä", "a\n"])
def test_a_name_that_could_lead_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    for verb in (state.load, state.reserve, state.remove):
        with pytest.raises(InvalidArgument, match="invalid container ID format"):
            verb(str(tmp_path), name)


def test_nobody_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="container does not exist"):
        state.load(str(tmp_path), "nobody")


def test_a_reused_pid_is_not_the_container(tmp_path: Path) -> None:
    mine = made(os.getpid())
    assert state.status(str(tmp_path), mine) == "running"
    mine["init_process_start"] -= 1
    assert state.status(str(tmp_path), mine) == "stopped"


def test_created_is_running_that_still_waits_at_its_fifo(tmp_path: Path) -> None:
    root = str(tmp_path)
    folder = state.reserve(root, "c")
    os.mkfifo(f"{folder}/{state.FIFO}")
    assert state.status(root, made(os.getpid())) == "created"


def test_the_oci_state_has_a_pid_only_while_there_is_one() -> None:
    found = made(os.getpid())
    assert state.oci_state(found, "running") == {
        "ociVersion": "1.2.0", "id": "c", "status": "running", "bundle": "/bundle", "pid": os.getpid(),
        "annotations": {"a": "b"},
    }  # fmt: skip
    assert "pid" not in state.oci_state(found, "stopped")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1_500_000_000, "1970-01-01T00:00:01.5Z"), (1, "1970-01-01T00:00:00.000000001Z")],
)
def test_a_timestamp_is_gos_rfc3339nano(nanoseconds: int, text: str) -> None:
    assert state.timestamp(nanoseconds) == text
