"""The metrics message of cgroup v2 by table against the library that reads the .proto, from runc's figures."""

from __future__ import annotations

from sampan.api.containerd import cgroup_metrics
from sampan.api.containerd.types.cgroups.v1 import metrics_pb2 as v1
from sampan.api.containerd.types.cgroups.v2 import metrics_pb2 as v2

STATS = {
    "pids": {"current": 3, "limit": 9},
    "cpu": {
        "usage": {"total": 5_000, "kernel": 1_000, "user": 2_999},
        "throttling": {"periods": 1, "throttledPeriods": 2, "throttledTime": 3_000},
    },
    "memory": {
        "usage": {"limit": 2**64 - 1, "usage": 7, "max": 8, "failcnt": 1},
        "swap": {"limit": 6, "usage": 5},
        "raw": {"anon": 4, "pgfault": 9, "unknown_word": 1, "thp_collapse_alloc": 8},
    },
    "blkio": {
        "ioServiceBytesRecursive": [
            {"op": "Read", "major": 8, "minor": 1, "value": 77},
            {"op": "Write", "major": 8, "minor": 1, "value": 78},
            {"op": "Discard", "major": 8, "minor": 1, "value": 79},
            {"op": "Read", "major": 8, "minor": 2, "value": 5},
        ],
        "ioServicedRecursive": [{"op": "Write", "major": 8, "minor": 1, "value": 2}],
    },
    "hugetlb": {"2MB": {"usage": 1, "max": 2}},
}


def test_every_figure_is_where_clients_on_cgroup_v2_look_for_it() -> None:
    kind, raw = cgroup_metrics.message(STATS)
    made = v2.Metrics.FromString(raw)
    assert made.DESCRIPTOR.full_name == kind
    assert (made.pids.current, made.pids.limit) == (3, 9)
    assert (made.cpu.usage_usec, made.cpu.system_usec, made.cpu.user_usec) == (5, 1, 2)
    assert (made.cpu.nr_periods, made.cpu.nr_throttled, made.cpu.throttled_usec) == (1, 2, 3)
    assert (made.memory.anon, made.memory.pgfault, made.memory.thp_collapse_alloc) == (4, 9, 8)
    assert (made.memory.usage, made.memory.usage_limit, made.memory.max_usage) == (7, 2**64 - 1, 8)
    assert (made.memory.swap_usage, made.memory.swap_limit) == (5, 6)
    devices = [(one.major, one.minor, one.rbytes, one.wbytes, one.rios, one.wios) for one in made.io.usage]
    assert devices == [(8, 1, 77, 78, 0, 2), (8, 2, 5, 0, 0, 0)]
    assert [(one.pagesize, one.current, one.max) for one in made.hugetlb] == [("2MB", 1, 2)]


def test_figures_of_cgroup_v1_are_v1_s_message_and_so_are_none() -> None:
    kind, raw = cgroup_metrics.message({**STATS, "memory": {"kernel": {"usage": 1}, "raw": {"cache": 1}}})
    assert kind == v1.Metrics.DESCRIPTOR.full_name
    assert v1.Metrics.FromString(raw).memory.kernel.usage == 1
    assert cgroup_metrics.message({})[0] == kind
