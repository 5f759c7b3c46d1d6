from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import InvalidArgument
from sampan.runtime.cgroup import v1

FILES = {
    "memory": ["limit_in_bytes", "memsw.limit_in_bytes", "soft_limit_in_bytes", "swappiness", "oom_control"],
    "cpu": ["shares", "cfs_quota_us", "cfs_period_us"],
    "pids": ["max"],
}


@pytest.fixture
def trees(tmp_path: Path) -> dict[str, str]:
    """Directories that look like cgroups: plain files take what is written."""
    for controller, names in FILES.items():
        (tmp_path / controller).mkdir()
        for name in names:
            (tmp_path / controller / f"{controller}.{name}").write_text("")
    return {controller: str(tmp_path / controller) for controller in FILES}


def written(trees: dict[str, str]) -> dict[str, str]:
    found = {}
    for directory in trees.values():
        for name in os.listdir(directory):
            text = Path(directory, name).read_text()
            if text:
                found[name] = text
    return found


def test_limits_go_to_the_files_of_their_controllers(trees: dict[str, str]) -> None:
    resources: Any = {
        "memory": {"limit": 100, "swap": 200, "reservation": 50, "swappiness": 60, "disableOOMKiller": True},
        "cpu": {"shares": 512, "quota": 5, "period": 10},
        "pids": {"limit": 7},
    }
    v1.apply(trees, resources, update=False)
    assert written(trees) == {
        "memory.limit_in_bytes": "100", "memory.memsw.limit_in_bytes": "200", "memory.soft_limit_in_bytes": "50",
        "memory.swappiness": "60", "memory.oom_control": "1", "cpu.shares": "512", "cpu.cfs_quota_us": "5",
        "cpu.cfs_period_us": "10", "pids.max": "7",
    }  # fmt: skip


def test_nothing_given_writes_nothing(trees: dict[str, str]) -> None:
    v1.apply(trees, {"memory": {}, "cpu": {}, "pids": {}}, update=False)
    assert written(trees) == {}


def test_no_limit_of_memory_is_none_of_swap_either(trees: dict[str, str]) -> None:
    v1.apply(trees, {"memory": {"limit": -1}}, update=False)
    assert written(trees) == {"memory.limit_in_bytes": "-1", "memory.memsw.limit_in_bytes": "-1"}


@pytest.mark.parametrize(
    ("resources", "field"),
    [
        ({"network": {"classID": 5}}, "linux.resources.network.classID"),
        ({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}, "linux.resources.hugepageLimits[0]"),
        ({"cpu": {"cpus": "0"}}, "linux.resources.cpu.cpus"),
        ({"blockIO": {"weight": 100}}, "linux.resources.blockIO.weight"),
        ({"unified": {"memory.max": "1"}}, "linux.resources.unified"),
        ({"memory": {"swappiness": 101}}, "linux.resources.memory.swappiness"),
    ],
)
def test_what_the_host_lacks_is_refused_by_the_fields_name(trees: dict[str, str], resources: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        v1.apply(trees, resources, update=False)
    assert field in str(refused.value)


def test_a_new_cpuset_takes_its_parents_share(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    for name, share in (("cpuset.cpus", "0-1"), ("cpuset.mems", "0")):
        (tmp_path / name).write_text(share + "\n")
        (tmp_path / "a" / name).write_text("")
        (inner / name).write_text("")
    v1.inherit_cpuset(str(inner))
    assert (inner / "cpuset.cpus").read_text() == "0-1"
    assert (tmp_path / "a" / "cpuset.mems").read_text() == "0"
