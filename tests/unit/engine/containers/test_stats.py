"""Statistics and process lists from the kernel's own texts."""

from __future__ import annotations

import os

import pytest

from sampan.engine.containers import stats, top
from sampan.engine.containers.live import Live
from sampan.engine.containers.restarts import delay
from sampan.errors import InvalidArgument


def test_network_counters_leave_the_loopback_out():
    lines = [
        "    lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0",
        "  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0",
        "broken",
    ]
    assert stats.parse_net_dev(lines) == {
        "eth0": {
            "rx_bytes": 1,
            "rx_packets": 2,
            "rx_errors": 3,
            "rx_dropped": 4,
            "tx_bytes": 5,
            "tx_packets": 6,
            "tx_errors": 7,
            "tx_dropped": 8,
        }
    }


def test_the_machines_cpu_time_grows():
    first = stats.system_ticks()
    assert 0 < first <= stats.system_ticks()


def test_a_process_is_read_from_proc():
    found = top.read(os.getpid())
    assert found is not None and found.ppid == os.getppid() and found.uid == os.getuid()
    assert "python" in found.command or "pytest" in found.command
    assert top.read(2**22 + 1) is None


@pytest.mark.parametrize(
    ("arguments", "titles"),
    [
        ("-ef", ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]),
        ("aux", ["USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND"]),
        ("-o pid,comm=NAME", ["PID", "NAME"]),
        ("-opid", ["PID"]),
    ],
)
def test_ps_arguments_choose_the_columns(arguments, titles):
    assert [title for title, _ in top.columns(arguments)] == titles


def test_an_unknown_column_is_refused_in_the_words_of_ps():
    with pytest.raises(InvalidArgument, match='unknown user-defined format specifier "odd"'):
        top.columns("-o odd")


def test_the_back_off_doubles_and_a_stable_run_resets_it(tmp_path):
    from sampan.api.docker.containers import Config, HostConfig, RestartPolicy
    from sampan.engine.containers.model import Container

    def ended(seconds: int) -> Container:
        return Container(
            id="c",
            name="web",
            created_at=1,
            image_id="i",
            parent="p",
            path="x",
            config=Config(),
            host_config=HostConfig(restart_policy=RestartPolicy(name="always")),
            started_at=10**9,
            finished_at=(1 + seconds) * 10**9,
        )

    live = Live()
    assert [delay(ended(1), live, False) for _ in range(4)] == [0.1, 0.2, 0.4, 0.8]
    assert delay(ended(11), live, False) == 0.1
    for _ in range(12):
        last = delay(ended(1), live, False)
    assert last == 60.0
    assert delay(ended(1), live, True) is None
