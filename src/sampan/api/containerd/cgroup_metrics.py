"""A task's figures as io.containerd.cgroups.v1.Metrics: the table, and what of runc's `events --stats` goes where.

`message(stats)` is what clients get: this one, or on a host with cgroup v2 alone that of `cgroup2_metrics`. What the
figures do not have stays unset.
"""

from __future__ import annotations

from sampan.api.containerd import cgroup2_metrics
from sampan.wire import protobuf
from sampan.wire.protobuf import STRING, UINT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from sampan.wire.protobuf import Table

TYPE = "io.containerd.cgroups.v1.Metrics"

_STAT_NAMES = (
    "cache", "rss", "rss_huge", "mapped_file", "dirty", "writeback", "pg_pg_in", "pg_pg_out", "pg_fault",
    "pg_maj_fault", "inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable",
    "hierarchical_memory_limit", "hierarchical_swap_limit", "total_cache", "total_rss", "total_rss_huge",
    "total_mapped_file", "total_dirty", "total_writeback", "total_pg_pg_in", "total_pg_pg_out", "total_pg_fault",
    "total_pg_maj_fault", "total_inactive_anon", "total_active_anon", "total_inactive_file", "total_active_file",
    "total_unevictable",
)  # fmt: skip
# memory.stat's own words to the message's.
_STAT = {"pgpgin": "pg_pg_in", "pgpgout": "pg_pg_out", "pgfault": "pg_fault", "pgmajfault": "pg_maj_fault",
         "hierarchical_memsw_limit": "hierarchical_swap_limit", "total_pgpgin": "total_pg_pg_in",
         "total_pgpgout": "total_pg_pg_out", "total_pgfault": "total_pg_fault",
         "total_pgmajfault": "total_pg_maj_fault"}  # fmt: skip
_ENTRIES = {"usage": "usage", "swap": "swap", "kernel": "kernel", "kernelTCP": "kernel_tcp"}
_BLKIO = {
    "ioServiceBytesRecursive": "io_service_bytes_recursive",
    "ioServicedRecursive": "io_serviced_recursive",
    "ioQueueRecursive": "io_queued_recursive",
    "ioServiceTimeRecursive": "io_service_time_recursive",
    "ioWaitTimeRecursive": "io_wait_time_recursive",
    "ioMergedRecursive": "io_merged_recursive",
    "ioTimeRecursive": "io_time_recursive",
    "sectorsRecursive": "sectors_recursive",
}


def _numbers(*names: str) -> Table:
    return {number: (name, UINT) for number, name in enumerate(names, 1)}


_ENTRY = _numbers("limit", "usage", "max", "failcnt")
_BLKIO_ENTRY: Table = {
    1: ("op", STRING),
    2: ("device", STRING),
    3: ("major", UINT),
    4: ("minor", UINT),
    5: ("value", UINT),
}
METRICS: Table = {
    1: ("hugetlb", [{**_numbers("usage", "max", "failcnt"), 4: ("pagesize", STRING)}]),
    2: ("pids", _numbers("current", "limit")),
    3: (
        "cpu",
        {
            1: ("usage", {**_numbers("total", "kernel", "user"), 4: ("per_cpu", [UINT])}),
            2: ("throttling", _numbers("periods", "throttled_periods", "throttled_time")),
        },
    ),
    4: (
        "memory",
        {
            **_numbers(*_STAT_NAMES),
            **{len(_STAT_NAMES) + at: (name, _ENTRY) for at, name in enumerate(_ENTRIES.values(), 1)},
        },
    ),
    5: ("blkio", {number: (name, [_BLKIO_ENTRY]) for number, name in enumerate(_BLKIO.values(), 1)}),
}


def message(stats: Mapping[str, Any]) -> tuple[str, bytes]:
    """(type, bytes) of the message for `stats`: that of cgroup v2 when memory.stat speaks v2's words."""
    if "anon" in ((stats.get("memory") or {}).get("raw") or {}):
        return cgroup2_metrics.TYPE, protobuf.encode(cgroup2_metrics.METRICS, cgroup2_metrics.metrics(stats))
    return TYPE, protobuf.encode(METRICS, metrics(stats))


def metrics(stats: Mapping[str, Any]) -> dict[str, Any]:
    """The message's value."""
    pids, cpu = stats.get("pids") or {}, stats.get("cpu") or {}
    usage, throttling = cpu.get("usage") or {}, cpu.get("throttling") or {}
    blkio = stats.get("blkio") or {}
    return {
        "hugetlb": [
            {"pagesize": size, **{key: found.get(key, 0) for key in ("usage", "max", "failcnt")}}
            for size, found in (stats.get("hugetlb") or {}).items()
        ],
        "pids": {key: pids.get(key, 0) for key in ("current", "limit")},
        "cpu": {
            "usage": {
                **{key: usage.get(key, 0) for key in ("total", "kernel", "user")},
                "per_cpu": usage.get("percpu") or (),
            },
            "throttling": {
                "periods": throttling.get("periods", 0),
                "throttled_periods": throttling.get("throttledPeriods", 0),
                "throttled_time": throttling.get("throttledTime", 0),
            },
        },
        "memory": _memory(stats.get("memory") or {}),
        "blkio": {
            name: [{key: one[key] for key in ("op", "major", "minor", "value") if key in one} for one in found]
            for key, name in _BLKIO.items()
            if (found := blkio.get(key))
        },
    }


def _memory(found: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {
        name: {field: entry.get(field, 0) for field in ("limit", "usage", "max", "failcnt")}
        for key, name in _ENTRIES.items()
        if (entry := found.get(key) or {}) is not None
    }
    for key, value in (found.get("raw") or {}).items():
        name = _STAT.get(key, key)
        if name in _STAT_NAMES:
            made[name] = value
    return made
