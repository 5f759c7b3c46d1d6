"""docker logs."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime, timezone

from tests.peers.client import Docker
from tests.peers.waiting import eventually

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"


def test_logs_give_both_streams_back_each_to_its_own(docker: Docker) -> None:
    docker.ok("run", "--name", "said", "busybox", "sh", "-c", "echo out 1; echo err 1 >&2; echo out 2")
    assert docker("logs", "said") == (0, "out 1\nout 2\n", "err 1\n")


def test_tail_gives_the_last_lines(docker: Docker) -> None:
    docker.ok("run", "--name", "said", "busybox", "seq", "1", "5000")
    assert docker.ok("logs", "--tail", "2", "said") == "4999\n5000"
    assert docker.ok("logs", "--tail", "0", "said") == ""
    assert docker.ok("logs", "--tail", "all", "said").splitlines() == [str(i) for i in range(1, 5001)]
    assert len(docker.ok("logs", "-n", "1234", "said").splitlines()) == 1234


def test_t_puts_a_time_in_front_of_each_line(docker: Docker) -> None:
    docker.ok("run", "--name", "said", "busybox", "sh", "-c", "echo one; echo two")
    lines = docker.ok("logs", "-t", "said").splitlines()
    assert [re.fullmatch(f"{STAMP} (one|two)", line) is not None for line in lines] == [True, True]
    assert lines == sorted(lines)


def test_since_and_until_cut_by_time(docker: Docker) -> None:
    docker.ok("run", "-di", "--name", "said", "busybox", "sh", "-c", "echo early; read x; echo late")
    eventually(lambda: docker.ok("logs", "said") == "early")
    first = docker.ok("logs", "-t", "said").split(" ")[0]
    between = time.time() + 0.001
    docker("attach", "said", stdin="\n")
    eventually(lambda: docker.ok("logs", "said") == "early\nlate")
    instant = datetime.fromtimestamp(between, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert first < instant
    assert docker.ok("logs", "--since", instant, "said") == "late"
    assert docker.ok("logs", "--since", f"{between:.6f}", "said") == "late"
    assert docker.ok("logs", "--until", instant, "said") == "early"
    assert docker.ok("logs", "--since", "1h", "said") == "early\nlate"


def test_f_follows_until_the_container_ends(docker: Docker) -> None:
    docker.ok("run", "-di", "--name", "talking", "busybox", "sh", "-c", "echo first; read x; echo second; exit 3")
    follower = docker.start("logs", "-f", "talking")
    assert follower.line() == "first"
    docker("attach", "talking", stdin="go\n")
    assert follower.line() == "second"
    out, _ = follower.communicate(timeout=20)
    assert (out, follower.returncode) == (b"", 0)


def test_f_with_tail_begins_near_the_end(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "talking", "busybox", "sh", "-c", "seq 1 100; exec sleep 100")
    eventually(lambda: docker.ok("logs", "--tail", "1", "talking") == "100")
    follower = docker.start("logs", "-f", "--tail", "3", "talking")
    assert [follower.line() for _ in range(3)] == ["98", "99", "100"]
    docker.ok("kill", "talking")
    assert follower.communicate(timeout=20)[0] == b""


def test_a_terminal_s_log_is_one_raw_stream(docker: Docker) -> None:
    docker.ok("run", "-dt", "--name", "tty", "busybox", "sh", "-c", "echo out; echo err >&2")
    eventually(lambda: docker("logs", "tty") == (0, "out\r\nerr\r\n", ""))


def test_a_line_without_an_end_and_a_very_long_one_survive(docker: Docker) -> None:
    docker.ok(
        "run", "--name", "odd", "busybox", "sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo; printf unended"
    )
    assert docker("logs", "odd").out == "x" * 40000 + "\nunended"


def test_bytes_that_are_no_text_survive_as_json_allows(docker: Docker) -> None:
    docker.ok("run", "--name", "binary", "busybox", "printf", 'caf\\303\\251 "quoted" \\t tab\\n')
    assert docker.ok("logs", "binary") == 'café "quoted" \t tab'


def test_the_log_file_is_docker_s_json_lines(docker: Docker) -> None:
    docker.ok("run", "--name", "said", "busybox", "sh", "-c", "echo out; echo err >&2")
    with open(docker.inspect("said")["LogPath"]) as file:
        entries = [json.loads(line) for line in file]
    assert sorted((e["stream"], e["log"]) for e in entries) == [("stderr", "err\n"), ("stdout", "out\n")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", e["time"]) for e in entries)


def test_the_log_driver_none_keeps_nothing(docker: Docker) -> None:
    assert docker.ok("run", "--name", "quiet", "--log-driver", "none", "busybox", "echo", "shown") == "shown"
    outcome = docker("logs", "quiet")
    assert outcome.status == 1 and "configured logging driver does not support reading" in outcome.err


def test_logs_of_several_runs_follow_each_other(docker: Docker) -> None:
    docker.ok("run", "--name", "rerun", "busybox", "echo", "run")
    docker.ok("start", "-a", "rerun")
    assert docker.ok("logs", "rerun") == "run\nrun"
