"""Connections to keepers: finding those that live, starting one, calling, listening. The tasks on top are tasks.py.

<state>/keeper/<n>/{sock, pid, log, tasks/}
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

from sampan import errors
from sampan.api.keeper import messages
from sampan.keeper.client import Answer, Codec, Event
from sampan.linux import sockets

START_TIMEOUT = 20.0
"""Seconds a new keeper has until it answers; it takes a tenth of one on an idle machine."""

Listener = Callable[["Keeper", Event], None]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Keeper:
    """One connection to keeper number `number`. `lost` is called once when it ends, with every call failed."""

    def __init__(self, number: int, sock: socket.socket, heard: Listener, lost: Callable[[Keeper], None]) -> None:
        self.number = number
        self.pid = 0
        self.tasks: set[str] = set()
        """Ids of the tasks that are, or are being, kept here."""
        self._socket = sock
        self._codec = Codec()
        self._calls: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._queue: list[tuple[bytes, list[int]]] = []
        self._heard = heard
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)

    @property
    def open(self) -> bool:
        return self._socket.fileno() >= 0

    async def call(self, name: str, *, fds: Sequence[int] = (), **fields: Any) -> dict[str, Any]:
        """The result of a call. The keeper's own error, or Unavailable when it dies meanwhile."""
        result, received = await self.call_with_fds(name, fds=fds, **fields)
        for fd in received:
            os.close(fd)
        return result

    async def call_with_fds(
        self, name: str, *, fds: Sequence[int] = (), **fields: Any
    ) -> tuple[dict[str, Any], list[int]]:
        """As `call`, with the file descriptors that came: the caller closes them."""
        if not self.open:
            raise errors.Unavailable(f"keeper {self.number} is gone")
        number, packet = self._codec.call(name, **fields)
        future: asyncio.Future[tuple[dict[str, Any], list[int]]] = self._loop.create_future()
        self._calls[number] = future
        self._send(packet, fds)
        try:
            return await future
        finally:
            self._calls.pop(number, None)

    def _send(self, packet: bytes, fds: Sequence[int]) -> None:
        # The caller closes its fds when the call is answered, so what waits needs copies.
        if self._queue:
            self._queue.append((packet, [os.dup(fd) for fd in fds]))
            return
        try:
            sockets.send_with_fds(self._socket, packet, fds)
        except BlockingIOError:
            self._queue.append((packet, [os.dup(fd) for fd in fds]))
            self._loop.add_writer(self._socket.fileno(), self._writable)
        except OSError:
            self._loop.call_soon(self.close)

    def _writable(self) -> None:
        while self._queue:
            packet, fds = self._queue[0]
            try:
                sockets.send_with_fds(self._socket, packet, fds)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            self._queue.pop(0)
            for fd in fds:
                os.close(fd)
        self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        # A few packets a turn: a burst of exits shall not hold up the engine's other work.
        for _ in range(16):
            try:
                packet, fds, truncated = sockets.recv_with_fds(self._socket, messages.MAX_PACKET, 4)
            except BlockingIOError:
                return
            except OSError:
                packet, fds, truncated = b"", [], False
            if not packet or truncated:
                _close_all(fds)
                self.close()
                return
            self._take(packet, fds)
            if not self.open:
                return

    def _take(self, packet: bytes, fds: list[int]) -> None:
        message = self._codec.read(packet)
        if isinstance(message, Event):
            _close_all(fds)
            # Behind what an answer before it woke: who called `exec` knows of it before it hears of its end.
            self._loop.call_soon(self._heard, self, message)
            return
        future = self._calls.get(message.number) if isinstance(message, Answer) else None
        if not isinstance(message, Answer) or future is None or future.done():
            _close_all(fds)  # a part, or an answer nobody waits for any more
        elif message.error is not None:
            _close_all(fds)
            future.set_exception(message.error)
        else:
            future.set_result((message.result, fds))

    def close(self) -> None:
        """Give up the connection; calls in flight are Unavailable."""
        if not self.open:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for _, fds in self._queue:
            _close_all(fds)
        self._queue.clear()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(errors.Unavailable(f"keeper {self.number} died"))
        self._lost(self)


def main_command() -> list[str]:
    """How a keeper is started; its directory and the ready fd are added as last arguments."""
    main = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "keeper", "__main__.py")
    return [sys.executable, "-I", "-S", main]


async def connect(directory: str, number: int, heard: Listener, lost: Callable[[Keeper], None]) -> Keeper | None:
    """A subscribed connection to the keeper of `directory`; None when none answers there.

    Unavailable when the one there speaks another version."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.setblocking(False)
    try:
        sock.connect(f"{directory}/sock")
    except OSError:
        sock.close()
        return None
    keeper = Keeper(number, sock, heard, lost)
    try:
        hello = await keeper.call("hello", version=messages.VERSION)
        keeper.pid = hello["pid"]
        await keeper.call("subscribe")
    except errors.Unavailable:
        return None
    except errors.Error as error:
        keeper.close()
        raise errors.Unavailable(f"keeper {number}: {error}") from error
    return keeper


async def start(directory: str, command: Sequence[str]) -> None:
    """Start a keeper in `directory` and wait until it answers. Unavailable with what it said on stderr."""
    os.makedirs(directory, 0o700, exist_ok=True)
    log = f"{directory}/log"
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        # posix_spawn: a fork of this process would copy its whole page table.
        pid = os.posix_spawn(  # noqa: ASYNC221 - it returns within a millisecond
            command[0],
            [*command, directory, "3"],
            {"PATH": os.environ.get("PATH") or _PATH},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, writer, 3),
            ],
            setsid=True,
            setsigmask=[],
        )
    except OSError as error:
        os.close(reader)
        raise errors.Unavailable(f"keeper does not start: {error}") from error
    finally:
        os.close(writer)
    pidfd = os.pidfd_open(pid)
    said = b""
    try:
        if await _readable(reader, START_TIMEOUT):
            said = os.read(reader, 64)
        # What was spawned ends at once and leaves the keeper to itself; one that does not is none.
        if not said or not await _readable(pidfd, START_TIMEOUT):
            said = b""
            _kill(pidfd)
            await _readable(pidfd, START_TIMEOUT)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222 - it has ended
    finally:
        os.close(reader)
        os.close(pidfd)
    if not said:
        raise errors.Unavailable(f"keeper does not start: {_last_line(log)}")


async def _readable(fd: int, seconds: float) -> bool:
    """Whether `fd` becomes readable in time."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        async with asyncio.timeout(seconds):
            await ready.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(fd)
    return True


def _kill(pidfd: int) -> None:
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended by itself


def _last_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.read()[-2000:].strip().splitlines()
    except OSError as error:
        return str(error)
    return lines[-1] if lines else "it ended without a word"


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
