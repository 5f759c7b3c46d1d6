"""Events on their way to containerd: one after the other to the socket that TTRPC_ADDRESS names.

containerd handles requests of one connection side by side, so the next event is sent when the one before is
acknowledged. While nobody listens there (containerd is being restarted), events wait and are tried again.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_STREAM
from _socket import socket as Socket

from sampan.keeper.loop import ERROR, READ, WRITE
from sampan.shim.messages import EVENTS, EVENTS_SERVICE, FORWARD, timestamp
from sampan.wire import protobuf, ttrpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.keeper.loop import Loop

AGAIN = 1.0
"""Seconds between two attempts."""
MOST = 1000
"""Events that wait; beyond it the oldest is given up, which `ctr events` then never shows."""


class Publisher:
    """Sends to the ttrpc socket at `address`, a path; "" for nobody. Never blocks and never raises."""

    def __init__(self, loop: Loop, address: str, namespace: str) -> None:
        self._loop = loop
        self._address = address.removeprefix("unix://")
        self._namespace = namespace
        self._waiting: list[bytes] = []
        self._socket: Socket | None = None
        self._reader = ttrpc.Reader()
        self._unsent = b""
        self._stream = -1
        self._when_empty: Callable[[], None] | None = None

    def publish(self, verb: str, fields: dict[str, Any]) -> None:
        """Tell of one of `messages.EVENTS`."""
        name, table = EVENTS[verb]
        envelope = {
            "timestamp": timestamp(time.time_ns()),
            "namespace": self._namespace,
            "topic": f"/tasks/{verb}",
            "event": {"type_url": f"containerd.events.{name}", "value": protobuf.encode(table, fields)},
        }
        if not self._address:
            return
        self._waiting.append(protobuf.encode(FORWARD, {"envelope": envelope}))
        if len(self._waiting) > MOST:
            # Not the first: it may be on its way.
            del self._waiting[1]
        if len(self._waiting) == 1:
            self._send()

    def flush(self, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` once everything is acknowledged, or after `seconds`."""
        if not self._waiting:
            then()
            return
        self._when_empty = then
        self._loop.after(seconds, self._empty)

    def _empty(self) -> None:
        call, self._when_empty = self._when_empty, None
        if call is not None:
            call()

    def _send(self) -> None:
        """The first that waits, over the connection that there is or a new one."""
        if self._socket is None and not self._connect():
            self._loop.after(AGAIN, self._send)
            return
        self._stream += 2
        self._unsent = ttrpc.send(ttrpc.Request(self._stream, EVENTS_SERVICE, "Forward", self._waiting[0]))
        self._push()

    def _connect(self) -> bool:
        connection = Socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)
        try:
            connection.connect(self._address)
        except OSError as error:
            connection.close()
            if error.errno not in (errno.ENOENT, errno.ECONNREFUSED, errno.EAGAIN):
                print(f"shim: events to {self._address}: {error}", file=sys.stderr, flush=True)
            return False
        self._socket, self._reader, self._stream = connection, ttrpc.Reader(), -1
        self._loop.add(connection.fileno(), READ, self._ready)
        return True

    def _push(self) -> None:
        assert self._socket is not None
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._socket.fileno(), self._unsent) :]
        except BlockingIOError:
            self._loop.change(self._socket.fileno(), READ | WRITE)
            return
        except OSError:
            self._lost()
            return
        self._loop.change(self._socket.fileno(), READ)

    def _ready(self, mask: int) -> None:
        if mask & WRITE:
            self._push()
        if self._socket is not None and mask & (READ | ERROR):
            self._receive()

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            data = os.read(self._socket.fileno(), 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        self._reader.feed(data)
        try:
            event = self._reader.next_event()
        except ttrpc.TtrpcError as error:
            print(f"shim: events to {self._address}: {error}", file=sys.stderr, flush=True)
            self._lost()
            return
        if isinstance(event, ttrpc.Response) and event.stream == self._stream:
            if event.code != ttrpc.OK:
                print(f"shim: an event was refused: {event.message}", file=sys.stderr, flush=True)
            self._waiting.pop(0)
            if self._waiting:
                self._send()
            else:
                self._empty()

    def _lost(self) -> None:
        """What was not acknowledged is sent again."""
        if self._socket is not None:
            self._loop.remove(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._waiting:
            self._loop.after(AGAIN, self._send)
