"""A task's figures for containerd's clients: runc's `events --stats` data as io.containerd.cgroups.v1.Metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sampan.api.containerd.types.cgroups.v1 import metrics_pb2

_ENTRIES = ("usage", "swap", "kernel", "kernel_tcp")
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
# memory.stat's own words to the message's.
_STAT = {"pgpgin": "pg_pg_in", "pgpgout": "pg_pg_out", "pgfault": "pg_fault", "pgmajfault": "pg_maj_fault",
         "hierarchical_memsw_limit": "hierarchical_swap_limit", "total_pgpgin": "total_pg_pg_in",
         "total_pgpgout": "total_pg_pg_out", "total_pgfault": "total_pg_fault",
         "total_pgmajfault": "total_pg_maj_fault"}  # fmt: skip


def message(stats: Mapping[str, Any]) -> metrics_pb2.Metrics:
    """What `stats` does not have stays unset."""
    made = metrics_pb2.Metrics()
    _pids(made, stats.get("pids") or {})
    _cpu(made, stats.get("cpu") or {})
    _memory(made, stats.get("memory") or {})
    for key, name in _BLKIO.items():
        for entry in (stats.get("blkio") or {}).get(key) or ():
            getattr(made.blkio, name).add(
                op=entry.get("op", ""),
                major=entry.get("major", 0),
                minor=entry.get("minor", 0),
                value=entry.get("value", 0),
            )
    for size, found in (stats.get("hugetlb") or {}).items():
        made.hugetlb.add(
            pagesize=size, usage=found.get("usage", 0), max=found.get("max", 0), failcnt=found.get("failcnt", 0)
        )
    return made


def _pids(made: metrics_pb2.Metrics, found: Mapping[str, Any]) -> None:
    made.pids.current = found.get("current", 0)
    made.pids.limit = found.get("limit", 0)


def _cpu(made: metrics_pb2.Metrics, found: Mapping[str, Any]) -> None:
    usage, throttling = found.get("usage") or {}, found.get("throttling") or {}
    made.cpu.usage.total = usage.get("total", 0)
    made.cpu.usage.kernel = usage.get("kernel", 0)
    made.cpu.usage.user = usage.get("user", 0)
    made.cpu.usage.per_cpu.extend(usage.get("percpu") or ())
    made.cpu.throttling.periods = throttling.get("periods", 0)
    made.cpu.throttling.throttled_periods = throttling.get("throttledPeriods", 0)
    made.cpu.throttling.throttled_time = throttling.get("throttledTime", 0)


def _memory(made: metrics_pb2.Metrics, found: Mapping[str, Any]) -> None:
    for name in _ENTRIES:
        entry = found.get("kernelTCP" if name == "kernel_tcp" else name) or {}
        target = getattr(made.memory, name)
        for key in ("limit", "usage", "max", "failcnt"):
            setattr(target, key, entry.get(key, 0))
    names = set(made.memory.DESCRIPTOR.fields_by_name)
    for key, value in (found.get("raw") or {}).items():
        name = _STAT.get(key, key)
        if name in names and name not in _ENTRIES:
            setattr(made.memory, name, value)
