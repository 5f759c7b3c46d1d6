from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.runtime.cgroup.v2 import cpu_weight, io_weight, writes


def lines(resources: Any) -> list[tuple[str, str]]:
    return [(name, value) for name, value, _ in writes(resources)]


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(0, 0), (1, 1), (2, 1), (1024, 100), (262144, 10000), (999999, 10000), (512, 59), (2048, 174)],
)
def test_cpu_shares_become_weights_on_runcs_curve(shares: int, weight: int) -> None:
    assert cpu_weight(shares) == weight


@given(st.integers(2, 262144), st.integers(2, 262144))
def test_more_shares_are_never_less_weight(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert 1 <= cpu_weight(low) <= cpu_weight(high) <= 10000


def test_io_weights_cover_the_new_range() -> None:
    assert [io_weight(weight) for weight in (0, 10, 1000)] == [0, 1, 10000]


def test_limits_become_v2s_files() -> None:
    assert lines({
        "memory": {"limit": 100, "swap": 150, "reservation": 50},
        "cpu": {"shares": 1024, "quota": 5, "period": 10, "burst": 2, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 7},
        "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}]},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4}],
        "unified": {"memory.high": "77"},
    }) == [
        ("pids.max", "7"), ("memory.swap.max", "50"), ("memory.max", "100"), ("memory.low", "50"),
        ("cpu.weight", "100"), ("cpu.max", "5 10"), ("cpu.max.burst", "2"), ("cpuset.cpus", "0-1"),
        ("cpuset.mems", "0"),
        ("io.weight", "1"), ("io.max", "8:0 rbps=9"), ("hugetlb.2MB.max", "4"), ("memory.high", "77"),
    ]  # fmt: skip


def test_minus_one_is_no_limit() -> None:
    assert lines({"memory": {"limit": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1}}) == [
        ("pids.max", "max"), ("memory.swap.max", "max"), ("memory.max", "max"), ("cpu.max", "max 100000"),
    ]  # fmt: skip


@pytest.mark.parametrize("memory", [{"swap": 5}, {"swap": 5, "limit": 10}])
def test_memory_plus_swap_below_memory_is_refused(memory: Any) -> None:
    with pytest.raises(InvalidArgument):
        writes({"memory": memory})


@pytest.mark.parametrize("name", ["../x", "a/b"])
def test_a_unified_name_cannot_lead_elsewhere(name: str) -> None:
    with pytest.raises(InvalidArgument):
        writes({"unified": {name: "1"}})
