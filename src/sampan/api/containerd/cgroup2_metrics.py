"""A task's figures on a host with cgroup v2 alone, as io.containerd.cgroups.v2.Metrics: the table, and what goes where.

Of runc's `events --stats`, whose words are v1's: nanoseconds become microseconds again, and block I/O has one entry a
device. What the figures do not have stays unset.
"""

from __future__ import annotations

from sampan.wire.protobuf import STRING, UINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sampan.wire.protobuf import Table

TYPE = "io.containerd.cgroups.v2.Metrics"

# memory.stat's own words, in the message's order.
_STAT_NAMES = (
    "anon", "file", "kernel_stack", "slab", "sock", "shmem", "file_mapped", "file_dirty", "file_writeback", "anon_thp",
    "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable", "slab_reclaimable",
    "slab_unreclaimable", "pgfault", "pgmajfault", "workingset_refault", "workingset_activate",
    "workingset_nodereclaim", "pgrefill", "pgscan", "pgsteal", "pgactivate", "pgdeactivate", "pglazyfree",
    "pglazyfreed", "thp_fault_alloc", "thp_collapse_alloc",
)  # fmt: skip
_DEVICE = {("ioServiceBytesRecursive", "Read"): "rbytes", ("ioServiceBytesRecursive", "Write"): "wbytes",
           ("ioServicedRecursive", "Read"): "rios", ("ioServicedRecursive", "Write"): "wios"}  # fmt: skip


def _numbers(*names: str) -> Table:
    return {number: (name, UINT) for number, name in enumerate(names, 1)}


METRICS: Table = {
    1: ("pids", _numbers("current", "limit")),
    2: ("cpu", _numbers("usage_usec", "user_usec", "system_usec", "nr_periods", "nr_throttled", "throttled_usec")),
    4: ("memory", _numbers(*_STAT_NAMES, "usage", "usage_limit", "swap_usage", "swap_limit", "max_usage")),
    6: ("io", {1: ("usage", [_numbers("major", "minor", "rbytes", "wbytes", "rios", "wios")])}),
    7: ("hugetlb", [{**_numbers("current", "max"), 3: ("pagesize", STRING)}]),
}


def metrics(stats: Mapping[str, Any]) -> dict[str, Any]:
    """The message's value."""
    pids, cpu, memory = stats.get("pids") or {}, stats.get("cpu") or {}, stats.get("memory") or {}
    usage, throttling = cpu.get("usage") or {}, cpu.get("throttling") or {}
    used, swap, raw = memory.get("usage") or {}, memory.get("swap") or {}, memory.get("raw") or {}
    return {
        "pids": {key: pids.get(key, 0) for key in ("current", "limit")},
        "cpu": {
            "usage_usec": usage.get("total", 0) // 1000,
            "user_usec": usage.get("user", 0) // 1000,
            "system_usec": usage.get("kernel", 0) // 1000,
            "nr_periods": throttling.get("periods", 0),
            "nr_throttled": throttling.get("throttledPeriods", 0),
            "throttled_usec": throttling.get("throttledTime", 0) // 1000,
        },
        "memory": {
            **{name: raw[name] for name in _STAT_NAMES if name in raw},
            "usage": used.get("usage", 0),
            "usage_limit": used.get("limit", 0),
            "swap_usage": swap.get("usage", 0),
            "swap_limit": swap.get("limit", 0),
            "max_usage": used.get("max", 0),
        },
        "io": {"usage": _devices(stats.get("blkio") or {})},
        "hugetlb": [
            {"pagesize": size, "current": found.get("usage", 0), "max": found.get("max", 0)}
            for size, found in (stats.get("hugetlb") or {}).items()
        ],
    }


def _devices(blkio: Mapping[str, Any]) -> list[dict[str, int]]:
    made: dict[tuple[int, int], dict[str, int]] = {}
    for table, operation in _DEVICE:
        for one in blkio.get(table) or ():
            if one.get("op") == operation:
                numbers = (one.get("major", 0), one.get("minor", 0))
                device = made.setdefault(numbers, {"major": numbers[0], "minor": numbers[1]})
                device[_DEVICE[table, operation]] = one.get("value", 0)
    return list(made.values())
