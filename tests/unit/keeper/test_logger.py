"""A logging program: its descriptors, arguments and environment; when it is ready, and how it ends."""

import os
import stat

import pytest

from sampan import errors
from sampan.keeper import logger as logging_program
from sampan.keeper.logger import Logger
from sampan.keeper.loop import Loop
from sampan.keeper.reaper import Reaper

NAMES = {"CONTAINER_ID": "c1", "CONTAINER_NAMESPACE": "n"}


@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def reaper(loop):
    return Reaper(loop)


def program(tmp_path, body):
    path = tmp_path / "logger"
    path.write_text(f"#!/bin/sh\n{body}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def turn_until(loop, holds):
    for _ in range(200):
        if holds():
            return
        loop.turn(0.05)
    raise AssertionError("did not happen")


def test_the_program_gets_both_streams_its_names_and_its_arguments(loop, reaper, tmp_path):
    path = program(
        tmp_path,
        'echo "$CONTAINER_ID $CONTAINER_NAMESPACE $*" >$0.start\n'
        "exec 5>&-\n/bin/cat <&3 >$0.out; /bin/cat <&4 >$0.err; echo done >$0.end\n",
    )
    told = []
    made = Logger(loop, reaper, f"binary://{path}?tag=a+b&raw", NAMES, told.append)
    turn_until(loop, lambda: told)
    assert told == [None]
    for fd, text in zip(made.outputs, (b"out\n", b"err\n"), strict=True):
        os.write(fd, text)
        os.close(fd)
    made.finish()
    end = tmp_path / "logger.end"
    turn_until(loop, lambda: end.exists() and end.read_text() == "done\n")
    assert (tmp_path / "logger.start").read_text() == "c1 n tag a b raw\n"
    assert (tmp_path / "logger.out").read_text() == "out\n"
    assert (tmp_path / "logger.err").read_text() == "err\n"
    turn_until(loop, lambda: made._pidfd < 0)


def test_a_program_that_does_not_end_is_told_to_and_then_killed(loop, reaper, tmp_path, monkeypatch):
    monkeypatch.setattr(logging_program, "GRACE", 0.05)
    monkeypatch.setattr(logging_program, "PATIENCE", 0.05)
    path = program(tmp_path, "trap 'echo term >$0.term' TERM\nexec 5>&-\nwhile :; do /bin/sleep 0.02; done\n")
    told = []
    made = Logger(loop, reaper, f"binary://{path}", NAMES, told.append)
    turn_until(loop, lambda: told)
    made.finish()
    turn_until(loop, lambda: made._pidfd < 0)
    assert (tmp_path / "logger.term").exists()
    for fd in made.outputs:
        os.close(fd)


def test_a_program_that_is_never_ready_is_an_error(loop, reaper, tmp_path, monkeypatch):
    monkeypatch.setattr(logging_program, "START_TIMEOUT", 0.05)
    told = []
    made = Logger(loop, reaper, f"binary://{program(tmp_path, 'exec /bin/sleep 100')}", NAMES, told.append)
    turn_until(loop, lambda: told and made._pidfd < 0)
    assert "was not ready in time" in str(told[0])
    for fd in made.outputs:
        os.close(fd)


def test_a_program_that_is_not_there_is_named(loop, reaper, tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(errors.Error, match=rf"fork/exec {tmp_path}/none: no such file or directory"):
        Logger(loop, reaper, f"binary://{tmp_path}/none", NAMES, lambda error: None)
    assert len(os.listdir("/proc/self/fd")) == before
