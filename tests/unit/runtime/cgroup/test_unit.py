"""The conversation with systemd, held with a manager of our own that says what the real one says.

That the real one says so is shown in the small machine (tests/vm).
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.errors import Error, InvalidArgument, Unavailable
from sampan.runtime.cgroup import bus, dbus, systemd, unit
from sampan.runtime.cgroup.dbus import ERROR, METHOD_RETURN, SIGNAL, Message

MANAGER = "org.freedesktop.systemd1.Manager"
SETTINGS = systemd.settings("m.slice:x:y", "one", False)
JOB = "/org/freedesktop/systemd1/job/7"


def done(result: str = "done", job: str = JOB) -> Message:
    return Message(SIGNAL, path="/org/freedesktop/systemd1", interface=MANAGER, member="JobRemoved",
                   signature="uoss", body=[7, job, "x-y.scope", result])  # fmt: skip


def answer(signature: str = "", *body: Any) -> Message:
    return Message(METHOD_RETURN, signature=signature, body=body)


def refusal(name: str, text: str) -> Message:
    return Message(ERROR, error_name=name, signature="s", body=[text])


class Fake:
    """A bus with one manager. `answers` has a list of messages for each method; `chunk` is what one write has."""

    def __init__(self, path: str) -> None:
        self.calls: list[tuple[str, list[Any]]] = []
        self.answers: dict[str, list[list[Message]]] = {}
        self.chunk = 1 << 20
        self.welcome = b"DATA\r\nOK 0123\r\n"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                try:
                    self._talk(sock)
                except OSError:
                    pass

    def _talk(self, sock: socket.socket) -> None:
        given = b""
        while b"BEGIN\r\n" not in given:
            more = sock.recv(4096)
            if not more:
                return
            given += more
        assert given.startswith(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        sock.sendall(self.welcome)
        reader = dbus.Reader()
        reader.feed(given.partition(b"BEGIN\r\n")[2])
        while True:
            while (request := reader.next_message()) is not None:
                self._answer(sock, request)
            data = sock.recv(4096)
            if not data:
                return
            reader.feed(data)

    def _answer(self, sock: socket.socket, request: Message) -> None:
        self.calls.append((request.member, request.body))
        waiting = self.answers.get(request.member) or [[answer()]]
        found = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        data = b""
        for message in found:
            if message.kind != SIGNAL:
                message.reply_serial = request.serial
            data += dbus.encode(message, 99)
        for place in range(0, len(data), self.chunk):
            sock.sendall(data[place : place + self.chunk])

    def named(self, member: str) -> list[list[Any]]:
        return [body for name, body in self.calls if name == member]


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    fake = Fake(str(tmp_path / "bus"))
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/bus,guid=00")
    fake.answers["Hello"] = [[answer("s", ":1.5")]]
    fake.answers["Get"] = [[answer("v", ("s", "v252.38-1"))]]
    fake.answers["StartTransientUnit"] = [[answer("o", JOB), done()]]
    fake.answers["StopUnit"] = [[answer("o", JOB), done()]]
    yield fake
    fake.close()


def started(name: str = "x-y.scope") -> None:
    connection = bus.dial(False)
    try:
        unit._start(connection, name, systemd.at_start(SETTINGS, [17], True, []))
    finally:
        connection.close()


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_a_unit_is_asked_for_and_its_job_waited_for(manager: Fake, chunk: int) -> None:
    manager.chunk = chunk
    manager.answers["StartTransientUnit"] = [[done("failed", "/another/job"), answer("o", JOB), done()]]
    started()
    assert [name for name, _ in manager.calls] == ["Hello", "AddMatch", "StartTransientUnit"]
    name, mode, properties, auxiliary = manager.named("StartTransientUnit")[0]
    assert (name, mode, auxiliary) == ("x-y.scope", "replace", [])
    assert ("PIDs", ("au", [17])) in properties


def test_a_job_may_end_before_its_name_is_known(manager: Fake) -> None:
    manager.answers["StartTransientUnit"] = [[done(), answer("o", JOB)]]
    started()


def test_a_failed_unit_in_the_way_is_reset_once(manager: Fake) -> None:
    exists = refusal("org.freedesktop.systemd1.UnitExists", "Unit x-y.scope already exists.")
    manager.answers["StartTransientUnit"] = [[exists], [answer("o", JOB), done()]]
    started()
    assert manager.named("ResetFailedUnit") == [["x-y.scope"]]
    manager.answers["StartTransientUnit"] = [[exists]]
    with pytest.raises(Error, match=r'unable to start unit "x-y.scope": Unit x-y.scope already exists\.'):
        started()


def test_a_job_that_fails_is_an_error_with_its_result(manager: Fake) -> None:
    manager.answers["StartTransientUnit"] = [[answer("o", JOB), done("canceled")]]
    with pytest.raises(Error, match=r"error creating systemd unit `x-y.scope`: got `canceled`"):
        started()
    assert manager.named("ResetFailedUnit") == [["x-y.scope"]]


def test_a_property_that_is_refused_is_told_in_systemds_words(manager: Fake) -> None:
    manager.answers["StartTransientUnit"] = [[refusal("org.freedesktop.DBus.Error.PropertyReadOnly", "No such thing")]]
    with pytest.raises(Error, match=r'unable to start unit "x-y.scope": No such thing'):
        started()
    assert manager.named("ResetFailedUnit") == []


def test_an_update_sets_the_properties_of_the_unit(manager: Fake) -> None:
    unit.set_limits(SETTINGS, {"": "/nowhere"}, {"pids": {"limit": 5}}, update=True)
    assert manager.named("SetUnitProperties") == [["x-y.scope", True, [("TasksMax", ("t", 5))]]]
    manager.answers["SetUnitProperties"] = [[refusal("x.Error", "Value out of range")]]
    with pytest.raises(Error, match="unable to set unit properties: Value out of range"):
        unit.set_limits(SETTINGS, {"": "/nowhere"}, {"pids": {"limit": 5}}, update=True)


def test_nothing_is_said_where_there_is_nothing_to_limit(manager: Fake) -> None:
    unit.set_limits(SETTINGS, {"": "/nowhere"}, {}, update=True)
    assert manager.named("SetUnitProperties") == []


def test_a_unit_is_stopped_and_forgotten(manager: Fake) -> None:
    unit.stop(SETTINGS)
    assert [name for name, _ in manager.calls] == ["Hello", "AddMatch", "StopUnit", "ResetFailedUnit"]


def test_a_unit_that_is_gone_is_stopped(manager: Fake) -> None:
    gone = refusal("org.freedesktop.systemd1.NoSuchUnit", "Unit x-y.scope not loaded.")
    manager.answers["StopUnit"] = [[gone]]
    manager.answers["ResetFailedUnit"] = [[gone]]
    unit.stop(SETTINGS)


def test_a_holder_ends_when_it_is_let_go() -> None:
    pid, writing = unit._fork_holder()
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.close(writing)
    assert os.waitpid(pid, 0) == (pid, 0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda fake: setattr(fake, "welcome", b"REJECTED EXTERNAL\r\n"), "authentication failed"),
        (lambda fake: fake.answers.update(Hello=[[refusal("a.b.AccessDenied", "not you")]]), "not you"),
    ],
)
def test_a_bus_that_does_not_want_us_is_named(
    manager: Fake, change: Callable[[Fake], object], text: str, tmp_path: Path
) -> None:
    change(manager)
    with pytest.raises(Error, match=text):
        bus.connect(str(tmp_path / "bus"), True)


def test_a_bus_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=f"dial unix {tmp_path}/none: connect: no such file or directory"):
        bus.connect(str(tmp_path / "none"), True)


def test_a_bus_that_goes_meanwhile_is_an_error(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(Unavailable, match=r"StopUnit: (connection closed by the peer|broken pipe)"):
        bus.Connection(ours, False).call("x", "/", "x.y", "StopUnit")


def test_a_value_that_cannot_be_sent_is_refused_before_it_is(manager: Fake) -> None:
    connection = bus.dial(False)
    with pytest.raises(InvalidArgument):
        connection.call("x", "/", "x.y", "Call", "s", [5])
    connection.close()


def test_addresses_are_read_as_the_specification_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "tcp:host=x;unix:path=/a%2fb,guid=1;unix:abstract=c")
    assert bus.addresses(False) == [("/a/b", True), ("\0c", True), ("/run/systemd/private", False)]
    monkeypatch.delenv("DBUS_SYSTEM_BUS_ADDRESS")
    assert bus.addresses(False) == [("/run/dbus/system_bus_socket", True), ("/run/systemd/private", False)]
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/mine")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/5")
    assert bus.addresses(True) == [
        ("/mine", True), ("/run/user/5/bus", True), ("/run/user/5/systemd/private", False),
    ]  # fmt: skip
