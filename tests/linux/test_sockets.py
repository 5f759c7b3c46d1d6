"""Descriptors and credentials that travel over unix sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from sampan.linux import process, procfs, sockets

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[socket.SOCK_SEQPACKET, socket.SOCK_STREAM], ids=["seqpacket", "stream"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    a, b = socket.socketpair(socket.AF_UNIX, request.param)
    yield a, b
    a.close()
    b.close()


def test_a_message_brings_its_descriptors_and_they_close_on_exec(pair: Pair) -> None:
    a, b = pair
    reader, writer = os.pipe()
    assert sockets.send_with_fds(a, b"two ends", [reader, writer]) == 8
    os.close(reader)
    os.close(writer)
    data, got, truncated = sockets.recv_with_fds(b, 100, 2)
    assert (data, len(got), truncated) == (b"two ends", 2, False)
    os.write(got[1], b"through")
    assert os.read(got[0], 10) == b"through"
    assert not os.get_inheritable(got[0])
    for fd in got:
        os.close(fd)


def test_a_message_without_descriptors_is_plain_data(pair: Pair) -> None:
    a, b = pair
    sockets.send_with_fds(a, b"plain")
    assert sockets.recv_with_fds(b, 100, 0) == (b"plain", [], False)


def test_the_end_of_the_stream_is_empty_data(pair: Pair) -> None:
    a, b = pair
    a.close()
    assert sockets.recv_with_fds(b, 100, 3) == (b"", [], False)


@pytest.mark.parametrize("asked", [0, 1, 2, 3])
def test_more_descriptors_than_asked_for_are_dropped_and_reported(pair: Pair, asked: int) -> None:
    a, b = pair
    null = os.open("/dev/null", os.O_RDONLY)
    sockets.send_with_fds(a, b"x", [null] * 4)
    os.close(null)
    before = len(os.listdir("/proc/self/fd"))
    data, got, truncated = sockets.recv_with_fds(b, 1, asked)
    assert (data, len(got), truncated) == (b"x", asked, True)
    assert len(os.listdir("/proc/self/fd")) == before + asked
    for fd in got:
        os.close(fd)


def test_a_packet_longer_than_the_room_is_reported() -> None:
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sockets.send_with_fds(a, b"0123456789")
    assert sockets.recv_with_fds(b, 4, 1) == (b"0123", [], True)
    a.close()
    b.close()


def test_a_send_to_a_closed_peer_is_an_error_and_no_signal(pair: Pair) -> None:
    a, b = pair
    b.close()
    with pytest.raises(BrokenPipeError):
        sockets.send_with_fds(a, b"x")


def test_the_peer_is_named_by_the_kernel(pair: Pair) -> None:
    assert sockets.peer_credentials(pair[0]) == (os.getpid(), os.getuid(), os.getgid())


def test_the_peer_is_held_by_a_pidfd(pair: Pair) -> None:
    try:
        pidfd = sockets.peer_pidfd(pair[0])
    except OSError as error:
        pytest.skip(f"no SO_PEERPIDFD before Linux 6.5: {error}")
    assert f"Pid:\t{os.getpid()}\n" in procfs.read_file(f"self/fdinfo/{pidfd}")
    process.pidfd_send_signal(pidfd, 0)
    os.close(pidfd)
