"""A conversation with a D-Bus peer over its unix socket: the message bus, or systemd itself on its private socket.

    client                              peer
      \\0 AUTH EXTERNAL  ------------->
      DATA              ------------->                   who we are is what the kernel says of the socket, which is
      BEGIN             ------------->                   true in a user namespace too, where our uid is another
                        <-------------   DATA
                        <-------------   OK guid
      Hello             ------------->                   on a bus only
                        <-------------   our name
      call              ------------->
                        <-------------   signals, then the reply

Sources: the D-Bus specification ("Authentication Protocol", "Message Bus Specification"), org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import os
import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from sampan.errors import DataLoss, Error, Unavailable
from sampan.runtime.cgroup import dbus
from sampan.runtime.cgroup.dbus import Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

PATIENCE = 25.0
"""Seconds for a reply, as libdbus has it."""
_BUS = "org.freedesktop.DBus"


class Refused(Error):
    """The peer's error reply: `name` is the D-Bus error, the text the peer's own."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name


class Connection:
    """Synchronous calls; signals that come meanwhile wait for `signal`. `is_bus` is False on a private socket."""

    def __init__(self, sock: socket, is_bus: bool) -> None:
        self.is_bus = is_bus
        self._sock = sock
        self._reader = dbus.Reader()
        self._serial = 0
        self._signals: list[Message] = []

    def close(self) -> None:
        self._sock.close()

    def call(
        self, destination: str, path: str, interface: str, member: str, signature: str = "", body: Sequence[Any] = ()
    ) -> list[Any]:
        """The reply's body. Errors: Refused, Unavailable, DataLoss, InvalidArgument for values of other types."""
        self._serial += 1
        serial = self._serial
        request = Message(
            dbus.METHOD_CALL, path=path, interface=interface, member=member, signature=signature, body=body,
            destination=destination,
        )  # fmt: skip
        data = dbus.encode(request, serial)
        deadline = time.monotonic() + PATIENCE
        try:
            self._sock.settimeout(PATIENCE)
            self._sock.sendall(data)
        except OSError as error:
            raise Unavailable(f"{member}: {_words(error)}") from None
        while True:
            found = self._receive(deadline, member)
            if found.kind == dbus.SIGNAL:
                self._signals.append(found)
            elif found.reply_serial == serial and found.kind == dbus.METHOD_RETURN:
                return found.body
            elif found.reply_serial == serial and found.kind == dbus.ERROR:
                text = found.body[0] if found.body and isinstance(found.body[0], str) else ""
                raise Refused(found.error_name, text)

    def listen(self, interface: str, member: str) -> None:
        """Have a signal sent to us. A private socket sends all without being asked."""
        if self.is_bus:
            rule = f"type='signal',interface='{interface}',member='{member}'"
            self.call(_BUS, "/org/freedesktop/DBus", _BUS, "AddMatch", "s", [rule])

    def signal(self, wanted: Callable[[Message], bool], patience: float) -> Message | None:
        """The first signal that is `wanted`, None after `patience` seconds; others are dropped.

        Errors: Unavailable, DataLoss.
        """
        deadline = time.monotonic() + patience
        while True:
            while self._signals:
                found = self._signals.pop(0)
                if wanted(found):
                    return found
            try:
                found = self._receive(deadline, "")
            except TimeoutError:
                return None
            if found.kind == dbus.SIGNAL:
                self._signals.append(found)

    def _receive(self, deadline: float, member: str) -> Message:
        while True:
            found = self._reader.next_message()
            if found is not None:
                return found
            left = deadline - time.monotonic()
            try:
                self._sock.settimeout(max(left, 0.001))
                data = self._sock.recv(65536)
            except TimeoutError:
                if member:
                    raise Unavailable(f"{member}: no reply within {PATIENCE:.0f} seconds") from None
                raise
            except OSError as error:
                raise Unavailable(f"{member}: {_words(error)}".removeprefix(": ")) from None
            if not data:
                raise Unavailable(f"{member}: connection closed by the peer".removeprefix(": "))
            self._reader.feed(data)


def connect(path: str, is_bus: bool) -> Connection:
    """A connection that is ready for calls. Errors: Unavailable, Refused, DataLoss."""
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    try:
        sock.settimeout(PATIENCE)
        sock.connect(path)
        _authenticate(sock)
    except OSError as error:
        sock.close()
        raise Unavailable(f"dial unix {path}: connect: {_words(error)}") from None
    except BaseException:
        sock.close()
        raise
    made = Connection(sock, is_bus)
    try:
        if is_bus:
            made.call(_BUS, "/org/freedesktop/DBus", _BUS, "Hello")
    except BaseException:
        made.close()
        raise
    return made


def _authenticate(sock: socket) -> None:
    # All at once, as libsystemd does: a message that systemd's private socket reads together with a later BEGIN is
    # left lying there until something else comes.
    sock.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
    if not _line(sock).startswith(b"DATA") or not _line(sock).startswith(b"OK"):
        raise Unavailable("dbus: authentication failed")


def _line(sock: socket) -> bytes:
    """One line, byte by byte: what follows it belongs to somebody else."""
    found = b""
    while not found.endswith(b"\r\n"):
        one = sock.recv(1)
        if not one or len(found) > 16384:
            raise DataLoss("dbus: the peer ended the authentication")
        found += one
    return found


def _words(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def addresses(user: bool) -> list[tuple[str, bool]]:
    """(socket's path, whether it is a bus) of the system's or the user's manager, in the order of trying."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if user:
        given = _unix_paths(os.environ.get("DBUS_SESSION_BUS_ADDRESS", ""))
        places = [(f"{runtime}/bus", True), (f"{runtime}/systemd/private", False)] if runtime else []
        return [*((path, True) for path in given), *places]
    given = _unix_paths(os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", "")) or ["/run/dbus/system_bus_socket"]
    return [*((path, True) for path in given), ("/run/systemd/private", False)]


def _unix_paths(address: str) -> list[str]:
    """The paths in "unix:path=/a,guid=0;unix:abstract=b;..."."""
    found: list[str] = []
    for one in address.split(";"):
        transport, _, rest = one.partition(":")
        if transport != "unix":
            continue
        for pair in rest.split(","):
            key, _, value = pair.partition("=")
            if key == "path":
                found.append(_unescaped(value))
            elif key == "abstract":
                found.append("\0" + _unescaped(value))
    return found


def _unescaped(text: str) -> str:
    """An address's value: %2f is a slash."""
    parts = text.split("%")
    found = parts[0].encode()
    for part in parts[1:]:
        try:
            found += bytes([int(part[:2], 16)]) + part[2:].encode()
        except ValueError:
            found += b"%" + part.encode()
    return os.fsdecode(found)


def dial(user: bool) -> Connection:
    """The first of `addresses` that answers. Errors: Unavailable with the first one's text."""
    first: Error | None = None
    for path, is_bus in addresses(user):
        try:
            return connect(path, is_bus)
        except Error as error:
            first = first or error
    if first is None:
        raise Unavailable("could not detect DBUS_SESSION_BUS_ADDRESS from the environment")
    raise Unavailable(str(first))
