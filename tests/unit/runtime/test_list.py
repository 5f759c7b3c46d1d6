from __future__ import annotations

from pathlib import Path

from sampan.runtime.list import containers, owner_name, table

ONE = {"id": "a", "pid": 7, "status": "running", "bundle": "/b", "created": "2024-01-01T00:00:00Z", "owner": "root"}


def test_columns_are_at_least_twelve_wide_and_three_apart() -> None:
    assert table([]) == "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    header, row = table([ONE | {"id": "a-name-of-some-length"}]).splitlines()
    assert row.startswith("a-name-of-some-length   7           running     /b          2024-01-01T00:00:00Z   root")
    assert header.index("PID") == row.index("7")


def test_a_root_that_is_missing_or_holds_other_things_has_no_containers(tmp_path: Path) -> None:
    assert containers(str(tmp_path / "nosuch")) == []
    (tmp_path / ".seccomp").mkdir()
    (tmp_path / "half").mkdir()
    assert containers(str(tmp_path)) == []


def test_an_owner_has_a_name_or_a_number() -> None:
    assert owner_name(0) == "root"
    assert owner_name(3999999) == "#3999999"
