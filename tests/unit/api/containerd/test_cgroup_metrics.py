"""The metrics message by table against the library that reads the .proto."""

from __future__ import annotations

from sampan.api.containerd.cgroup_metrics import METRICS, TYPE, metrics
from sampan.api.containerd.types.cgroups.v1 import metrics_pb2
from sampan.wire import protobuf

STATS = {
    "pids": {"current": 3, "limit": 9},
    "cpu": {
        "usage": {"total": 5, "kernel": 1, "user": 2, "percpu": [1, 2]},
        "throttling": {"periods": 1, "throttledPeriods": 2, "throttledTime": 3},
    },
    "memory": {
        "usage": {"limit": 2**64 - 1, "usage": 7, "max": 8, "failcnt": 1},
        "kernelTCP": {"failcnt": 3},
        "raw": {"cache": 4, "pgfault": 9, "unknown_word": 1, "total_unevictable": 8},
    },
    "blkio": {"sectorsRecursive": [{"op": "Read", "major": 8, "minor": 1, "value": 77}], "ioTimeRecursive": []},
    "hugetlb": {"2MB": {"usage": 1, "max": 2}},
}


def test_every_figure_is_where_containerd_s_clients_look_for_it() -> None:
    made = metrics_pb2.Metrics.FromString(protobuf.encode(METRICS, metrics(STATS)))
    assert made.DESCRIPTOR.full_name == TYPE
    assert (made.pids.current, made.pids.limit) == (3, 9)
    assert (made.cpu.usage.total, made.cpu.usage.kernel, made.cpu.usage.user) == (5, 1, 2)
    assert list(made.cpu.usage.per_cpu) == [1, 2]
    assert made.cpu.throttling.throttled_time == 3
    assert (made.memory.usage.limit, made.memory.kernel_tcp.failcnt) == (2**64 - 1, 3)
    assert (made.memory.cache, made.memory.pg_fault, made.memory.total_unevictable) == (4, 9, 8)
    assert [(one.op, one.major, one.value) for one in made.blkio.sectors_recursive] == [("Read", 8, 77)]
    assert [(one.pagesize, one.usage, one.max) for one in made.hugetlb] == [("2MB", 1, 2)]


def test_no_figures_are_a_message_too() -> None:
    assert metrics_pb2.Metrics.FromString(protobuf.encode(METRICS, metrics({}))).cpu.usage.total == 0
    gone = {"pids": None, "memory": None, "cpu": None, "blkio": None}
    assert metrics_pb2.Metrics.FromString(protobuf.encode(METRICS, metrics(gone))).pids.limit == 0


def test_the_table_has_the_message_s_fields() -> None:
    def compare(table, descriptor) -> None:
        assert {number: name for number, (name, _) in table.items()} == {
            field.number: field.name for field in descriptor.fields
        }
        for number, (_, kind) in table.items():
            inner = kind[0] if isinstance(kind, list) else kind
            if isinstance(inner, dict):
                compare(inner, descriptor.fields_by_number[number].message_type)

    compare(METRICS, metrics_pb2.Metrics.DESCRIPTOR)
