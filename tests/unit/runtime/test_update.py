from __future__ import annotations

import pytest

from sampan.errors import InvalidArgument, Unimplemented
from sampan.runtime.update import merged, parse_duration, parse_size, resources_of


def test_a_part_is_merged_member_by_member() -> None:
    old = {"memory": {"limit": 1, "swap": 2}, "pids": {"limit": 3}}
    assert merged(old, {"memory": {"limit": 9}, "cpu": {"shares": 4}}) == {
        "memory": {"limit": 9, "swap": 2}, "pids": {"limit": 3}, "cpu": {"shares": 4},
    }  # fmt: skip
    assert old["memory"]["limit"] == 1


@pytest.mark.parametrize(
    ("text", "size"),
    [("5", 5), ("64m", 64 << 20), ("64MiB", 64 << 20), ("1.5k", 1536), ("2gb", 2 << 30), ("-1", -1), ("1B", 1)],
)
def test_a_size_has_a_unit_or_none(text: str, size: int) -> None:
    assert parse_size(text, "memory") == size


@pytest.mark.parametrize("text", ["", "m", "5x", "five", "1..2k"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_size(text, "memory")


def test_only_given_flags_become_resources() -> None:
    values = {
        "memory": "64m",
        "memory!": True,
        "pids-limit": "5",
        "pids-limit!": True,
        "cpu-share": "",
        "cpuset-cpus": "0",
    }
    assert resources_of(values) == {"memory": {"limit": 64 << 20}, "pids": {"limit": 5}}
    with pytest.raises(InvalidArgument):
        resources_of({"pids-limit": "many", "pids-limit!": True})


@pytest.mark.parametrize("flag", ["l3-cache-schema", "mem-bw-schema"])
def test_what_only_resctrl_could_hold_is_refused(flag: str) -> None:
    with pytest.raises(Unimplemented, match="is not enabled"):
        resources_of({flag: "x", f"{flag}!": True})


@pytest.mark.parametrize(("text", "seconds"), [("5s", 5.0), ("100ms", 0.1), ("1m", 60.0), ("0.5h", 1800.0)])
def test_a_duration_is_gos(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)
    with pytest.raises(InvalidArgument):
        parse_duration("5")
