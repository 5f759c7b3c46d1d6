"""Streams of one process: the log first, bounded copies to the clients, input by writers of their own."""

import json
import os
import pty
import select

import pytest

from sampan.keeper.logfile import LogFile
from sampan.keeper.loop import Loop
from sampan.keeper.output import HIGH
from sampan.keeper.stdio import Streams


@pytest.fixture
def loop():
    made = Loop()
    yield made
    made.close()


def turns(loop, until, limit=2000):
    for _ in range(limit):
        if until():
            return
        loop.turn(0.5)
    raise AssertionError("the loop never came there")


def read_all(fd):
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def opened(loop, tmp_path, **wanted):
    """(streams with a log, the process's three file descriptors)."""
    streams = Streams(loop)
    options = {"terminal": False, "stdin": False, "once": False, **wanted}
    streams.configure(log=LogFile(str(tmp_path / "log")), **options)
    child = tuple(os.dup(fd) for fd in streams.open_pipes(0, 0))
    streams.close_child()
    return streams, child


def log_text(tmp_path):
    return "".join(json.loads(line)["log"] for line in (tmp_path / "log").read_bytes().splitlines())


def test_both_streams_go_to_the_log_and_each_to_its_client(loop, tmp_path):
    streams, (_, stdout, stderr) = opened(loop, tmp_path)
    pipes = {"stdout": os.pipe(), "stderr": os.pipe()}
    for stream, (_, writer) in pipes.items():
        streams.attach_output(stream, writer)
    streams.start()
    os.write(stdout, b"out\n")
    os.write(stderr, b"err\n")
    streams.drain()
    assert read_all(pipes["stdout"][0]) == b"out\n"
    assert read_all(pipes["stderr"][0]) == b"err\n"
    found = {(line["stream"], line["log"]) for line in map(json.loads, (tmp_path / "log").read_text().splitlines())}
    assert found == {("stdout", "out\n"), ("stderr", "err\n")}


def test_the_process_s_pipes_belong_to_the_container_s_user(loop, tmp_path):
    streams = Streams(loop)
    streams.configure(terminal=False, stdin=True, once=False, log=None)
    uid, gid = os.getuid(), os.getgid()
    for fd in streams.open_pipes(uid, gid):
        assert (os.fstat(fd).st_uid, os.fstat(fd).st_gid) == (uid, gid)
    streams.drop()


def test_a_client_that_does_not_read_stops_the_container_and_loses_nothing(loop, tmp_path):
    streams, (_, stdout, _) = opened(loop, tmp_path)
    reader, writer = os.pipe()
    streams.attach_output("stdout", writer)
    streams.start()
    os.set_blocking(stdout, False)
    written = 0
    line = b"x" * 1023 + b"\n"
    try:
        while written < 8 * HIGH:
            try:
                written += os.write(stdout, line)
            except BlockingIOError:
                if loop.turn(0) == 0:
                    break
    finally:
        assert HIGH < written < 2 * HIGH
    received = 0
    os.set_blocking(reader, False)
    while received < written:
        try:
            received += len(os.read(reader, 1 << 16))
        except BlockingIOError:
            loop.turn(0.5)
    streams.drain()
    assert len(log_text(tmp_path)) == written == received
    assert read_all(reader) == b""


def test_a_client_that_is_gone_is_dropped_and_the_container_goes_on(loop, tmp_path):
    streams, (_, stdout, _) = opened(loop, tmp_path)
    reader, writer = os.pipe()
    streams.attach_output("stdout", writer)
    streams.start()
    os.set_blocking(stdout, False)
    total = 0
    while True:  # until the sink is full and the stream pauses
        try:
            total += os.write(stdout, b"y" * 65536)
        except BlockingIOError:
            if loop.turn(0) == 0:
                break
    os.close(reader)

    def more():
        nonlocal total
        try:
            total += os.write(stdout, b"z" * 65536)
        except BlockingIOError:
            return False
        return True

    turns(loop, more)
    streams.drain()
    assert len(log_text(tmp_path)) == total


def test_what_a_slow_client_has_not_taken_is_sent_after_the_end(loop, tmp_path):
    streams, (_, stdout, _) = opened(loop, tmp_path)
    reader, writer = os.pipe()
    streams.attach_output("stdout", writer)
    streams.start()
    sent = b""
    for number in range(40):
        chunk = bytes([number]) * 8192
        os.write(stdout, chunk)
        sent += chunk
        loop.turn(0)
    streams.drain()
    received = b""
    os.set_blocking(reader, False)
    while len(received) < len(sent):
        try:
            received += os.read(reader, 1 << 16)
        except BlockingIOError:
            loop.turn(0.5)
    assert received == sent
    turns(loop, lambda: select.select([reader], [], [], 0)[0])
    assert os.read(reader, 1) == b""


def test_draining_does_not_wait_for_a_process_that_keeps_the_pipe(loop, tmp_path):
    streams, (_, stdout, _) = opened(loop, tmp_path)
    streams.start()
    os.write(stdout, b"last words")
    streams.drain()
    assert log_text(tmp_path) == "last words"
    os.close(stdout)


def test_without_stdin_the_process_reads_the_end_at_once(loop, tmp_path):
    streams, (stdin, _, _) = opened(loop, tmp_path)
    assert os.read(stdin, 1) == b""
    assert streams.attach_input() is None
    streams.drop()


def test_once_ends_the_input_with_the_first_client_s(loop, tmp_path):
    streams, (stdin, _, _) = opened(loop, tmp_path, stdin=True, once=True)
    fd = streams.attach_input()
    os.write(fd, b"data")
    os.close(fd)
    assert read_all(stdin) == b"data"
    streams.drop()


def test_without_once_the_input_stays_open_between_clients(loop, tmp_path):
    streams, (stdin, _, _) = opened(loop, tmp_path, stdin=True)
    for text in (b"one", b"two"):
        fd = streams.attach_input()
        os.write(fd, text)
        os.close(fd)
        assert os.read(stdin, 10) == text
    assert select.select([stdin], [], [], 0)[0] == []
    streams.close_input()
    assert os.read(stdin, 10) == b""
    streams.drop()


def test_writing_to_a_process_that_closed_its_input_is_an_error(loop, tmp_path):
    streams, (stdin, _, _) = opened(loop, tmp_path, stdin=True)
    os.close(stdin)
    fd = streams.attach_input()
    with pytest.raises(BrokenPipeError):
        os.write(fd, b"x")
    os.close(fd)
    streams.drop()


def test_a_terminal_is_one_stream_whose_master_is_shared(loop, tmp_path):
    streams = Streams(loop)
    streams.configure(terminal=True, stdin=True, once=False, log=LogFile(str(tmp_path / "log")))
    out, err = os.pipe(), os.pipe()
    streams.attach_output("stdout", out[1])
    streams.attach_output("stderr", err[1])
    master, slave = pty.openpty()
    streams.console(master)
    streams.start()
    assert os.read(err[0], 1) == b"", "a terminal has no stderr"
    assert streams.resize(11, 77)
    assert os.get_terminal_size(slave) == (77, 11)
    fd = streams.attach_input()
    os.write(fd, b"typed\n")
    assert os.read(slave, 100) == b"typed\n"
    os.close(fd)
    os.write(slave, b"shown\n")
    os.close(slave)
    streams.drain()
    assert read_all(out[0]) == b"typed\r\nshown\r\n"
    assert log_text(tmp_path) == "typed\r\nshown\r\n"


def test_a_terminal_without_stdin_takes_no_input(loop):
    streams = Streams(loop)
    streams.configure(terminal=True, stdin=False, once=False, log=None)
    master, slave = pty.openpty()
    streams.console(master)
    assert streams.attach_input() is None
    os.close(slave)
    streams.drop()


def test_what_a_client_typed_before_the_terminal_came_is_carried_over(loop):
    streams = Streams(loop)
    fd = streams.attach_input()
    os.write(fd, b"early\n")
    streams.configure(terminal=True, stdin=True, once=True, log=None)
    master, slave = pty.openpty()
    streams.console(master)
    streams.start()
    turns(loop, lambda: select.select([slave], [], [], 0)[0])
    assert os.read(slave, 100) == b"early\n"
    os.close(fd)
    os.close(slave)
    streams.drain()


def test_a_client_that_came_before_a_process_without_input_writes_to_nobody(loop):
    streams = Streams(loop)
    fd = streams.attach_input()
    streams.configure(terminal=False, stdin=False, once=True, log=None)
    with pytest.raises(BrokenPipeError):
        os.write(fd, b"x")
    os.close(fd)
    streams.drop()


def test_attaching_after_the_end_ends_at_once(loop, tmp_path):
    streams, _child = opened(loop, tmp_path)
    streams.drain()
    reader, writer = os.pipe()
    streams.attach_output("stdout", writer)
    assert os.read(reader, 1) == b""
    assert streams.attach_input() is None


def test_nothing_is_left_open_at_the_end(loop, tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    streams, child = opened(loop, tmp_path, stdin=True)
    reader, writer = os.pipe()
    streams.attach_output("stdout", writer)
    mine = streams.attach_input()
    streams.start()
    os.write(child[1], b"x")
    streams.drain()
    for fd in (*child, reader, mine):
        os.close(fd)
    assert set(os.listdir("/proc/self/fd")) == before
