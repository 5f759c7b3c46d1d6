"""The conversation with CRIU, with a program in its place that says what a CRIU may say."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import Error, NotFound
from sampan.runtime.criu import messages, worker
from sampan.runtime.criu.codec import encode
from sampan.runtime.steps.situation import StepFailed

TALKER = """#!{python} -IS
import socket, sys
assert sys.argv[1:] == ["swrk", "3"], sys.argv
talk = socket.socket(fileno=3)
{script}
"""


def criu(tmp_path: Path, script: str) -> str:
    path = tmp_path / "criu"
    path.write_text(TALKER.format(python=sys.executable, script=script))
    path.chmod(0o755)
    return str(path)


def says(*answers: dict[str, Any]) -> str:
    """A program that answers each request by the next of these."""
    data = [encode(messages.RESPONSE, answer) for answer in answers]
    return f"for one in {data!r}:\n    talk.recv(65536)\n    talk.send(one)\ntalk.recv(65536)"


DONE = {"type": messages.DUMP, "success": True}
NOTICE = {"type": messages.NOTIFY, "success": True, "notify": {"script": "post-dump", "pid": 7}}
DUMP = {"type": messages.DUMP, "opts": {"images_dir_fd": 3}}


def test_notices_are_passed_on_and_answered_until_the_response(tmp_path: Path) -> None:
    heard: list[tuple[str, int]] = []
    program = criu(tmp_path, says(NOTICE, {**NOTICE, "notify": {"script": "network-lock"}}, DONE))
    found = worker.converse(worker.Worker(program), DUMP, lambda script, pid, fds: heard.append((script, pid)))
    assert found == DONE
    assert heard == [("post-dump", 7), ("network-lock", 0)]


def test_a_notice_may_carry_a_descriptor(tmp_path: Path) -> None:
    notice, done = encode(messages.RESPONSE, NOTICE), encode(messages.RESPONSE, DONE)
    script = f"talk.recv(65536)\nsocket.send_fds(talk, [{notice!r}], [1])\ntalk.recv(65536)\ntalk.send({done!r})"
    heard: list[int] = []
    worker.converse(worker.Worker(criu(tmp_path, script)), DUMP, lambda script, pid, fds: heard.extend(fds))
    assert [os.fstat(fd).st_ino for fd in heard] == [os.fstat(1).st_ino]
    os.close(heard[0])


def test_a_failure_has_runcs_text_and_what_the_log_calls_errors(tmp_path: Path) -> None:
    log = tmp_path / "dump.log"
    log.write_text("(00.1) \tfine\n(00.2) Error (criu/a.c:1): first\n(00.3) Error (criu/b.c:2): last\n")
    program = criu(tmp_path, says({"type": messages.DUMP, "success": False, "cr_errno": 3}))
    with pytest.raises(Error) as caught:
        worker.converse(worker.Worker(program), DUMP, None, str(log))
    assert str(caught.value).split("\n") == [
        "criu failed: type DUMP errno 3", f"log file: {log}",
        "(00.2) Error (criu/a.c:1): first", "(00.3) Error (criu/b.c:2): last",
    ]  # fmt: skip


def test_what_a_notice_leads_to_may_fail_and_criu_has_ended_then(tmp_path: Path) -> None:
    started: list[int] = []

    def fail(script: str, pid: int, fds: list[int]) -> None:
        raise Error("the hook failed")

    with pytest.raises(Error, match="the hook failed"):
        running = worker.Worker(criu(tmp_path, says(NOTICE, DONE)))
        started.append(running.pid)
        worker.converse(running, DUMP, fail)
    with pytest.raises(ChildProcessError):
        os.waitpid(started[0], 0)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        pytest.param("pass", "criu swrk: ", id="ends at once"),
        pytest.param("talk.recv(65536)", "criu swrk: unexpected EOF", id="ends without an answer"),
        pytest.param("talk.recv(65536); talk.send(b'ahoy')", "of another kind|longer|wire type|missing", id="garbage"),
        pytest.param("talk.recv(65536); talk.send(bytes(70000))", "criu swrk: buffer is too small", id="too much"),
        pytest.param(says({"type": messages.VERSION, "success": True}), "unable to parse the response", id="another"),
        pytest.param(says(DONE) + "; sys.exit(3)", "criu failed: exit status 3", id="fails at the end"),
    ],
)
def test_a_criu_that_does_not_keep_to_the_protocol_is_an_error(tmp_path: Path, script: str, text: str) -> None:
    with pytest.raises(Error, match=text):
        worker.converse(worker.Worker(criu(tmp_path, script)), DUMP)


def test_extra_descriptors_have_the_numbers_from_four_on(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("1")
    second.write_text("2")
    done = encode(messages.RESPONSE, DONE)
    script = f"""import os
talk.recv(65536)
assert os.read(4, 9) + os.read(5, 9) == b"12" and os.read(0, 9) == b"2"
talk.send({done!r})"""
    fds = [os.open(path, os.O_RDONLY) for path in (first, second, second)]
    running = worker.Worker(criu(tmp_path, script), None, (fds[2], 1, 2), fds[:2])
    assert worker.converse(running, DUMP) == DONE
    for fd in fds:
        os.close(fd)


def test_what_cannot_be_prepared_or_executed_is_told(tmp_path: Path) -> None:
    def fail() -> None:
        raise StepFailed("no such mount")

    with pytest.raises(Error, match="no such mount"):
        worker.Worker(criu(tmp_path, "pass"), fail)
    with pytest.raises(Error, match="fork/exec /no/such/criu: no such file or directory"):
        worker.Worker("/no/such/criu")


def test_criu_is_found_by_its_path_or_in_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = criu(tmp_path, "pass")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "criu").mkdir()
    monkeypatch.setenv("PATH", f"/no/such::{tmp_path}/other:{tmp_path}")
    assert worker.find("") == worker.find("criu") == program
    assert worker.find("/else/where") == "/else/where"
    with pytest.raises(NotFound, match=r'exec: "criuu": executable file not found in \$PATH'):
        worker.find("criuu")


@pytest.mark.parametrize(
    ("release", "number"),
    [
        ({"major_number": 4, "minor_number": 2, "sublevel": 1}, 40201),
        ({"major_number": 3, "minor_number": 17}, 31700),
        ({"major_number": 3, "minor_number": 17, "sublevel": 1, "gitid": "v3.17-5"}, 31800),
    ],
)
def test_a_release_is_a_number(tmp_path: Path, release: dict[str, Any], number: int) -> None:
    program = criu(tmp_path, says({"type": messages.VERSION, "success": True, "version": release}))
    assert worker.version(program) == number


def test_a_release_that_is_too_old_is_refused_in_runcs_words() -> None:
    worker.check_version(30000, 30000)
    with pytest.raises(Error, match="CRIU version 20600 must be 30000 or higher"):
        worker.check_version(20600, 30000)


@pytest.mark.parametrize("features", [{"mem_track": False}, {}])
def test_a_missing_feature_is_named(tmp_path: Path, features: dict[str, bool]) -> None:
    answer = {"type": messages.FEATURE_CHECK, "success": True, "features": features}
    program = criu(tmp_path, says(answer))
    with pytest.raises(Error, match=r"CRIU is missing features: \[MemTrack\]"):
        worker.check_feature(program, "mem_track")


def test_a_feature_that_is_there_is_fine(tmp_path: Path) -> None:
    answer = {"type": messages.FEATURE_CHECK, "success": True, "features": {"lazy_pages": True}}
    worker.check_feature(criu(tmp_path, says(answer)), "lazy_pages")
