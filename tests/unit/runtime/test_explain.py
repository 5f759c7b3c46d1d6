from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import InvalidArgument, NotFound
from sampan.runtime import explain, spec
from sampan.runtime.steps.table import PLACES


def written(folder: Path, **change: Any) -> str:
    """A bundle with the example spec, its members changed."""
    document = spec.example()
    document["root"]["path"] = str(folder)
    for name, value in change.items():
        document[name] = {**document[name], **value} if isinstance(value, dict) and name in document else value
    (folder / "config.json").write_text(json.dumps(document))
    return str(folder)


def test_every_step_has_its_sentence() -> None:
    assert set(PLACES) <= {*explain._SENTENCES, "open_root", "join_container"}


def test_the_example_is_told_on_one_screen_with_a_field_behind_each_sentence(tmp_path: Path) -> None:
    text = explain.explained("boat", written(tmp_path))
    lines = text.splitlines()
    assert len(lines) < 60
    assert max(len(line) for line in lines) < 125
    sentences = [line for line in lines if line.startswith("  ") and not line.startswith("      ")]
    assert all("  " in line[3:].strip() for line in sentences), sentences
    assert lines[0] == "on the host"
    order = [text.index(part) for part in ("make the cgroups", "mount proc on /proc", "make the rootfs the root",
                                           "cover with nothing", "become user 0", "become the program")]  # fmt: skip
    assert order == sorted(order)


def test_steps_of_one_list_are_one_sentence(tmp_path: Path) -> None:
    text = explain.explained("boat", written(tmp_path, linux={"maskedPaths": ["/proc/a", "/proc/b", "/proc/c"]}))
    row = next(line for line in text.splitlines() if "cover with nothing" in line)
    assert row.split("  ")[1] == "cover with nothing: /proc/a, /proc/b, /proc/c"
    assert row.endswith("linux.maskedPaths[0..2]")


def test_the_parents_part_stands_where_the_process_waits_for_it(tmp_path: Path) -> None:
    hook = [{"path": "/bin/before"}]
    bundle = written(
        tmp_path,
        hooks={"createRuntime": hook, "poststart": [{"path": "/bin/after"}]},
        linux={"resources": {"pids": {"limit": 5}}},
    )
    text = explain.explained("boat", bundle)
    parts = ["the parent limits pids", "wait while the parent runs the hooks", "the parent runs /bin/before",
             "make the rootfs the root", "become the program", "on the host again", "/bin/after"]  # fmt: skip
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)


def test_the_list_has_the_steps_with_their_arguments(tmp_path: Path) -> None:
    lines = explain.listed("boat", written(tmp_path)).splitlines()
    assert "mount type=proc source=proc destination=/proc  # mounts[0]" in lines
    assert lines[-1] == "execve args=sh  # process.args"


def test_no_value_of_a_variable_is_shown(tmp_path: Path) -> None:
    bundle = written(tmp_path, process={"env": ["PATH=/bin", "PASSWORD=swordfish"]})
    for text in (explain.explained("boat", bundle), explain.listed("boat", bundle)):
        assert "PASSWORD" in text
        assert "swordfish" not in text


def test_what_create_refuses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        explain.explained("boat", str(tmp_path))
    with pytest.raises(InvalidArgument):
        explain.explained("boat", written(tmp_path, process={"args": []}))


def test_with_systemd_the_cgroups_are_those_of_the_unit(tmp_path: Path) -> None:
    bundle = written(tmp_path, linux={"cgroupsPath": "harbour.slice:sampan:boat"})
    text = explain.explained("boat", bundle, systemd=True)
    assert "have systemd make the unit sampan-boat.scope in harbour.slice" in text
    assert "/harbour.slice/sampan-boat.scope" in text.partition("make the cgroups")[2].partition("\n  ")[0]
    with pytest.raises(InvalidArgument):
        explain.listed("boat", written(tmp_path, linux={"cgroupsPath": "/no/unit"}), systemd=True)
