"""Packets and descriptors between two ends that are made of bare system calls."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sampan.linux import packets
from sampan.linux.packets import PacketSocket

Pair = tuple[PacketSocket, PacketSocket]


@pytest.fixture
def ends() -> Iterator[Pair]:
    a, b = packets.pair()
    yield a, b
    a.close()
    b.close()


def test_each_packet_arrives_whole_and_by_itself(ends: Pair) -> None:
    a, b = ends
    a.send(b"one")
    a.send(b"x" * 70_000)
    assert b.receive(65536, 0) == (b"one", [])
    assert b.receive(65536, 0) == (b"x" * 65536, [])
    a.close()
    assert b.receive(65536, 2) == (b"", [])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_descriptors_arrive_in_order_and_close_on_exec(ends: Pair, count: int) -> None:
    a, b = ends
    pipes = [os.pipe() for _ in range(count)]
    a.send(b"ends", [writing for _, writing in pipes])
    data, got = b.receive(100, count)
    assert (data, len(got)) == (b"ends", count)
    for number, ((reading, writing), fd) in enumerate(zip(pipes, got, strict=True)):
        assert not os.get_inheritable(fd)
        os.write(fd, str(number).encode())
        assert os.read(reading, 10) == str(number).encode()
        for one in (reading, writing, fd):
            os.close(one)


def test_more_descriptors_than_wanted_are_closed(ends: Pair) -> None:
    """The kernel pads the room for one to that for two."""
    a, b = ends
    reading, writing = os.pipe()
    a.send(b"-", [writing, writing])
    _, got = b.receive(100, 1)
    assert len(got) == 1
    os.close(got[0])
    os.close(writing)
    assert os.read(reading, 1) == b""  # nobody holds the writing end any more
    os.close(reading)


def test_errors_are_those_of_the_calls(ends: Pair) -> None:
    a, b = ends
    a.setblocking(False)
    with pytest.raises(BlockingIOError):
        a.receive(100, 0)
    b.close()
    with pytest.raises(BrokenPipeError):
        a.send(b"nobody")


def test_a_detached_end_is_no_longer_closed(ends: Pair) -> None:
    a, _ = ends
    fd = a.detach()
    a.close()
    assert a.fileno() == -1
    os.fstat(fd)
    os.close(fd)
