"""GET /containers/{id}/stats: the kernel's counters as Docker's document."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from sampan.engine.containers.model import Container, time_text
from sampan.engine.containers.room import Room
from sampan.engine.timestamps import ZERO
from sampan.errors import Error

_EMPTY_CPU: Mapping[str, Any] = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}

_BLKIO = (
    ("io_service_bytes_recursive", "ioServiceBytesRecursive"),
    ("io_serviced_recursive", "ioServicedRecursive"),
    ("io_queue_recursive", "ioQueueRecursive"),
    ("io_service_time_recursive", "ioServiceTimeRecursive"),
    ("io_wait_time_recursive", "ioWaitTimeRecursive"),
    ("io_merged_recursive", "ioMergedRecursive"),
    ("io_time_recursive", "ioTimeRecursive"),
    ("sectors_recursive", "sectorsRecursive"),
)


async def sample(room: Room, reference: str, previous: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One ContainerStatsResponse; `previous` is the sample before it in a stream. NotFound.

    A container that does not run has the empty document, as in Docker."""
    record = room.store.get(reference)
    now = time.time_ns()
    found: dict[str, Any] = {
        "name": f"/{record.name}",
        "id": record.id,
        "read": time_text(now) if record.has_task else ZERO,
        "preread": previous["read"] if previous else ZERO,
        "num_procs": 0,
        "storage_stats": {},
        "precpu_stats": previous["cpu_stats"] if previous else dict(_EMPTY_CPU),
        "cpu_stats": dict(_EMPTY_CPU),
        "pids_stats": {},
        "blkio_stats": {name: None for name, _ in _BLKIO},
        "memory_stats": {},
    }
    if not record.has_task:
        return found
    try:
        data = await room.core.tasks.stats(record.id)
    except Error:
        # It ended between the two looks.
        return found
    found["cpu_stats"] = _cpu(data.get("cpu") or {}, room.facts.cpus)
    found["pids_stats"] = _pids(data.get("pids") or {}, room.facts.cgroup_version)
    found["memory_stats"] = _memory(data.get("memory") or {}, room.facts.memory)
    found["blkio_stats"] = _blkio(data.get("blkio") or {})
    networks = _networks(record)
    if networks:
        found["networks"] = networks
    return found


def system_ticks() -> int:
    """CPU time of the whole machine in nanoseconds since boot (proc_stat(5), line "cpu")."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = file.readline().split()[1:9]
    return sum(map(int, fields)) * (10**9 // os.sysconf("SC_CLK_TCK"))


def _cpu(data: Mapping[str, Any], cpus: int) -> dict[str, Any]:
    usage, throttling = data.get("usage") or {}, data.get("throttling") or {}
    found: dict[str, Any] = {
        "cpu_usage": {
            "total_usage": usage.get("total", 0),
            "usage_in_kernelmode": usage.get("kernel", 0),
            "usage_in_usermode": usage.get("user", 0),
        },
        "system_cpu_usage": system_ticks(),
        "online_cpus": cpus,
        "throttling_data": {
            "periods": throttling.get("periods", 0),
            "throttled_periods": throttling.get("throttledPeriods", 0),
            "throttled_time": throttling.get("throttledTime", 0),
        },
    }
    if usage.get("percpu"):
        found["cpu_usage"]["percpu_usage"] = usage["percpu"]
    return found


def _pids(data: Mapping[str, Any], cgroup_version: int) -> dict[str, Any]:
    found = {"current": data.get("current", 0)}
    # No limit is Go's largest uint64 with cgroup v2, and left out with v1: containerd's readers differ.
    if data.get("limit") or cgroup_version == 2:
        found["limit"] = data.get("limit") or 2**64 - 1
    return found


def _memory(data: Mapping[str, Any], total: int) -> dict[str, Any]:
    usage = data.get("usage") or {}
    limit = usage.get("limit", 0)
    found: dict[str, Any] = {
        "usage": usage.get("usage", 0),
        "stats": data.get("raw") or {},
        "limit": min(limit, total) if limit else total,
    }
    if usage.get("max"):
        found["max_usage"] = usage["max"]
    if usage.get("failcnt"):
        found["failcnt"] = usage["failcnt"]
    return found


def _blkio(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: data.get(key) or None for name, key in _BLKIO}


def _networks(record: Container) -> dict[str, dict[str, int]]:
    """Each interface but the loopback, from the container's own /proc/net/dev."""
    if record.host_config.network_mode == "host":
        return {}
    try:
        with open(f"/proc/{record.pid}/net/dev", encoding="ascii") as file:
            return parse_net_dev(file.readlines()[2:])
    except OSError:
        return {}


def parse_net_dev(lines: Sequence[str]) -> dict[str, dict[str, int]]:
    """The lines of proc_net_dev(5) below the titles."""
    found = {}
    for line in lines:
        name, _, rest = line.partition(":")
        counters = [int(field) for field in rest.split()]
        if name.strip() == "lo" or len(counters) < 16:
            continue
        found[name.strip()] = {
            "rx_bytes": counters[0],
            "rx_packets": counters[1],
            "rx_errors": counters[2],
            "rx_dropped": counters[3],
            "tx_bytes": counters[8],
            "tx_packets": counters[9],
            "tx_errors": counters[10],
            "tx_dropped": counters[11],
        }
    return found
