"""Events reach containerd one after the other, also when it is away for a while."""

from __future__ import annotations

import os
import socket

import pytest

from sampan.api.containerd.events import task_pb2
from sampan.api.containerd.services.ttrpc.events.v1 import events_pb2
from sampan.keeper.loop import Loop
from sampan.shim import publisher
from sampan.shim.publisher import Publisher
from sampan.wire import ttrpc


class Containerd:
    """The other side, by hand."""

    def __init__(self, path: str) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.listener.setblocking(False)
        self.connection: socket.socket | None = None
        self.reader = ttrpc.Reader()

    def next(self, loop: Loop) -> ttrpc.Request:
        for _ in range(400):
            loop.turn(0.01)
            try:
                if self.connection is None:
                    self.connection, _ = self.listener.accept()
                    self.connection.setblocking(False)
                    self.reader = ttrpc.Reader()
                self.reader.feed(self.connection.recv(65536))
            except BlockingIOError:
                pass
            if (event := self.reader.next_event()) is not None:
                assert isinstance(event, ttrpc.Request)
                return event
        raise AssertionError("no event came")

    def acknowledge(self, request: ttrpc.Request) -> None:
        assert self.connection is not None
        self.connection.sendall(ttrpc.send(ttrpc.Response(request.stream)))

    def close(self) -> None:
        for one in (self.connection, self.listener):
            if one is not None:
                one.close()


def pid_of(request: ttrpc.Request) -> int:
    envelope = events_pb2.ForwardRequest.FromString(request.payload).envelope
    assert (request.service, request.method) == ("containerd.services.events.ttrpc.v1.Events", "Forward")
    assert (envelope.namespace, envelope.topic) == ("ns", "/tasks/start")
    assert envelope.event.type_url == "containerd.events.TaskStart"
    assert envelope.timestamp.seconds > 0
    return task_pb2.TaskStart.FromString(envelope.event.value).pid


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(publisher, "AGAIN", 0.02)


def test_the_next_event_waits_for_the_one_before(tmp_path) -> None:
    loop, other = Loop(), Containerd(f"{tmp_path}/s")
    told = Publisher(loop, f"{tmp_path}/s", "ns")
    for pid in (1, 2):
        told.publish("start", {"container_id": "c", "pid": pid})
    first = other.next(loop)
    assert pid_of(first) == 1
    loop.turn(0.05)
    with pytest.raises(BlockingIOError):
        other.connection.recv(1)
    other.acknowledge(first)
    assert pid_of(other.next(loop)) == 2
    other.close()
    loop.close()


def test_what_was_not_acknowledged_is_told_to_the_next_containerd(tmp_path) -> None:
    loop = Loop()
    told = Publisher(loop, f"{tmp_path}/s", "ns")
    told.publish("start", {"container_id": "c", "pid": 1})
    for turn in range(2):
        other = Containerd(f"{tmp_path}/s")
        request = other.next(loop)
        assert pid_of(request) == 1, f"containerd number {turn}"
        other.close()
        os.unlink(f"{tmp_path}/s")
    loop.close()


def test_what_waits_is_bounded_and_nobody_asked_is_nobody_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(publisher, "MOST", 3)
    loop = Loop()
    told = Publisher(loop, f"{tmp_path}/s", "ns")
    for pid in range(1, 7):
        told.publish("start", {"container_id": "c", "pid": pid})
    other = Containerd(f"{tmp_path}/s")
    seen = []
    for _ in range(3):
        request = other.next(loop)
        seen.append(pid_of(request))
        other.acknowledge(request)
    assert seen == [1, 5, 6]
    done = []
    told.flush(5, lambda: done.append(True))
    for _ in range(100):
        loop.turn(0.01)
    assert done == [True]
    Publisher(loop, "", "ns").publish("start", {"container_id": "c", "pid": 1})
    other.close()
    loop.close()


def test_a_flush_ends_in_its_time(tmp_path) -> None:
    loop, done = Loop(), []
    told = Publisher(loop, f"{tmp_path}/nobody", "ns")
    told.publish("start", {"container_id": "c", "pid": 1})
    told.flush(0.05, lambda: done.append(True))
    for _ in range(20):
        loop.turn(0.01)
    assert done == [True]
    loop.close()
