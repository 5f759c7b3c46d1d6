"""The keeper's socket with clients that do everything wrong: one clear error each, and the keeper lives on."""

import json
import os
import socket

import pytest

from sampan.api.keeper import messages
from sampan.keeper import serve
from sampan.keeper.connection import MAX_QUEUED, encode
from sampan.keeper.exits import Records
from sampan.keeper.forker import Forker
from sampan.keeper.loop import Loop
from sampan.keeper.serve import Server
from sampan.linux.sockets import send_with_fds


class Place:
    """A server in this process, whose loop turns while a client waits for its answer."""

    def __init__(self, directory):
        self.path = str(directory / "sock")
        self.loop = Loop()
        self.server = Server(self.loop, self.path)
        self.server.forker = Forker(self.loop, Records(str(directory / "tasks")), self.no_driver, self.server.tell)

    def no_driver(self, path):
        raise AssertionError("no task is made here")

    def client(self):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(self.path)
        client.setblocking(False)
        return client

    def answer(self, client):
        for _ in range(20):
            try:
                return json.loads(client.recv(messages.MAX_PACKET))
            except BlockingIOError:
                self.loop.turn(0.1)
        raise AssertionError("no answer")

    def ask(self, client, packet, fds=()):
        send_with_fds(client, packet if isinstance(packet, bytes) else encode(packet), fds)
        return self.answer(client)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def hello(number=1):
    return {"id": number, "call": "hello", "version": messages.VERSION}


def test_every_call_of_the_table_has_a_verb_and_every_field_a_type():
    assert set(serve.VERBS) == set(messages.CALLS)
    fields = {field.removesuffix("?") for call in messages.CALLS.values() for field in call}
    assert fields == set(messages.TYPES)


def test_hello_names_version_and_pid(place):
    assert place.ask(place.client(), hello(7)) == {"id": 7, "ok": {"version": 1, "pid": os.getpid()}}


def test_another_version_is_refused(place):
    answer = place.ask(place.client(), {"id": 1, "call": "hello", "version": 99})
    assert answer["error"]["kind"] == "InvalidArgument"


def test_the_socket_is_its_owner_s_alone(place):
    assert os.stat(place.path).st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("packet", "kind"),
    [
        (b"{", "InvalidArgument"),
        (b"\xff\xfe", "InvalidArgument"),
        (b"[]", "InvalidArgument"),
        (b"[" * 60000, "InvalidArgument"),
        (b"{}", "Unimplemented"),
        (b'{"id":1,"call":"no such"}', "Unimplemented"),
        (b'{"id":1,"call":["start"]}', "Unimplemented"),
        (b'{"id":1,"call":"start"}', "InvalidArgument"),
        (b'{"id":1,"call":"start","container":7}', "InvalidArgument"),
        (b'{"id":1,"call":"kill","container":"c","exec":"","signal":true,"all":false}', "InvalidArgument"),
        (b'{"id":1,"call":"start","container":"c"}', "NotFound"),
    ],
)
def test_a_bad_packet_is_one_error_and_the_next_call_is_served(place, packet, kind):
    client = place.client()
    answer = place.ask(client, packet)
    assert answer["error"]["kind"] == kind
    assert answer["error"]["message"]
    assert "ok" in place.ask(client, hello())


def test_a_packet_that_is_too_large_is_an_error_and_its_descriptors_are_closed(place):
    client = place.client()
    before = len(os.listdir("/proc/self/fd"))
    answer = place.ask(client, b" " * (messages.MAX_PACKET + 1), [0, 0])
    assert answer["error"]["kind"] == "InvalidArgument"
    assert answer["id"] is None
    assert "ok" in place.ask(client, hello())
    assert len(os.listdir("/proc/self/fd")) - before == 1, "only the connection itself is new"


def test_descriptors_that_nobody_asked_for_are_closed(place):
    client = place.client()
    place.ask(client, hello())
    before = len(os.listdir("/proc/self/fd"))
    place.ask(client, hello(), [0, 1, 2])
    place.ask(client, {"id": 1, "call": "attach", "container": "c", "exec": "", "stdout": True, "stderr": False,
                       "stdin": False}, [0, 1])  # fmt: skip
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_client_that_vanishes_is_forgotten(place):
    client = place.client()
    place.ask(client, {"id": 1, "call": "subscribe"})
    assert place.server.tell({"event": "oom", "container": "c"})
    client.close()
    place.loop.turn(0.1)
    assert not place.server.tell({"event": "oom", "container": "c"})


def test_events_reach_every_subscriber_and_nobody_else(place):
    clients = [place.client() for _ in range(3)]
    for client in clients[:2]:
        place.ask(client, {"id": 1, "call": "subscribe"})
    place.ask(clients[2], hello())
    place.server.tell({"event": "oom", "container": "c"})
    assert [place.answer(client)["event"] for client in clients[:2]] == ["oom", "oom"]
    with pytest.raises(BlockingIOError):
        clients[2].recv(100)


def test_events_wait_in_order_for_a_client_that_reads_late(place):
    client = place.client()
    place.ask(client, {"id": 1, "call": "subscribe"})
    for number in range(3000):
        place.server.tell({"event": "oom", "container": f"c{number}", "padding": "x" * 500})
    seen = [place.answer(client)["container"] for _ in range(3000)]
    assert seen == [f"c{number}" for number in range(3000)]


def test_a_client_that_never_reads_is_given_up(place):
    client = place.client()
    place.ask(client, {"id": 1, "call": "subscribe"})
    packet = {"event": "oom", "container": "c", "padding": "x" * 60000}
    for _ in range(MAX_QUEUED // 60000 + 10):
        place.server.tell(packet)
    assert not place.server.tell(packet)


def test_shutdown_removes_the_socket_and_ends_the_loop(place):
    client = place.client()
    assert place.ask(client, {"id": 1, "call": "shutdown"}) == {"id": 1, "ok": {}}
    place.loop.run()
    assert not os.path.exists(place.path)
