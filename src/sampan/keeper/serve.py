"""The keeper's socket: packets in, verbs called, answers and events out. `sampan.api.keeper.messages` has the words."""

from __future__ import annotations

import errno
import gc
import os
import signal
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_SEQPACKET
from _socket import socket as Socket

from sampan import errors
from sampan.api.keeper import messages
from sampan.keeper.connection import Connection, encode, parse
from sampan.keeper.exits import Records
from sampan.keeper.foreign import Foreign
from sampan.keeper.forker import Forker
from sampan.keeper.janitor import Janitor
from sampan.keeper.loop import READ, Loop
from sampan.keeper.native import Native
from sampan.keeper.reaper import Reaper
from sampan.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.keeper.connection import Call
    from sampan.keeper.native import Runtime
    from sampan.keeper.task import Driver, Process


class Server:
    """Listens at `path` (mode 0600) and serves until `shutdown` is called for while nothing runs."""

    def __init__(self, loop: Loop, path: str) -> None:
        self.loop = loop
        self.forker: Forker | None = None
        self.reaper: Reaper | None = None
        self._connections: set[Connection] = set()
        self._path = path
        self._listener = Socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        old = os.umask(0o177)
        try:
            self._listener.bind(path)
        finally:
            os.umask(old)
        self._listener.listen(128)
        loop.add(self._listener.fileno(), READ, self._accept)
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    def tell(self, event: dict[str, Any]) -> bool:
        """Send `event` to every subscriber; whether there was one."""
        subscribers = [connection for connection in self._connections if connection.subscribed]
        packet = encode(event)
        for connection in subscribers:
            connection.send(packet)
        return bool(subscribers)

    def handle(self, data: bytes, call: Call) -> None:
        """Read one packet into `call` and do what it asks. Errors of `sampan.errors`."""
        name = parse(data, call)
        forker = self.forker
        if forker is None:
            raise errors.Unavailable("keeper is not ready")
        VERBS[name](self, forker, call)

    def gone(self, connection: Connection) -> None:
        """Forget a client."""
        self._connections.discard(connection)
        if self.forker is not None:
            self.forker.lost(connection)

    def stop(self) -> None:
        """End the loop, and leave no socket that nobody answers."""
        os.unlink(self._path)
        self.loop.stop()

    def _accept(self, mask: int) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._refuse()
            return  # else the client has gone again
        self._connections.add(Connection(self, Socket(fileno=fd)))

    def _refuse(self) -> None:
        """No descriptor is left: take the client with the spare one and hang up, or the listener stays readable."""
        os.close(self._spare)
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
            os.close(fd)
        except OSError:
            pass  # it has given up meanwhile
        self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)


def _hello(server: Server, forker: Forker, call: Call) -> None:
    if call.request["version"] != messages.VERSION:
        raise errors.InvalidArgument(f"keeper speaks version {messages.VERSION}, not {call.request['version']}")
    call.answer({"version": messages.VERSION, "pid": os.getpid()})


def _subscribe(server: Server, forker: Forker, call: Call) -> None:
    call.connection.subscribed = True
    call.answer({})


def _create(server: Server, forker: Forker, call: Call) -> None:
    forker.create(call.request, call.done)


def _start(server: Server, forker: Forker, call: Call) -> None:
    forker.start(forker.task(call.request["container"]), call.done)


def _exec(server: Server, forker: Forker, call: Call) -> None:
    forker.exec(call.request, call.done)


def _attach(server: Server, forker: Forker, call: Call) -> None:
    fd = forker.attach(call.request, call.fds, call.connection)
    if fd is None:
        call.answer({"stdin": False})
        return
    call.answer({"stdin": True}, [fd])
    os.close(fd)


def _logger(server: Server, forker: Forker, call: Call) -> None:
    assert server.reaper is not None
    forker.attach_logger(call.request, server.reaper, call.connection, call.done)


def _close_stdin(server: Server, forker: Forker, call: Call) -> None:
    child = forker.process(call.request["container"], call.request["exec"])
    child.task.check("close_stdin")
    child.streams.close_input()
    call.answer({})


def _resize(server: Server, forker: Forker, call: Call) -> None:
    request = call.request
    child = forker.process(request["container"], request["exec"])
    child.task.check("resize")
    if not child.streams.resize(request["height"], request["width"]):
        raise errors.Conflict(f'container "{child.task.id}" has no terminal')
    call.answer({})


def _kill(server: Server, forker: Forker, call: Call) -> None:
    forker.kill(call.request, call.done)


def _pause(server: Server, forker: Forker, call: Call) -> None:
    forker.change(forker.task(call.request["container"]), "pause", call.done)


def _resume(server: Server, forker: Forker, call: Call) -> None:
    forker.change(forker.task(call.request["container"]), "resume", call.done)


def _update(server: Server, forker: Forker, call: Call) -> None:
    task = forker.task(call.request["container"])
    task.check("update")
    task.driver.update(task, call.request["resources"], call.done)


def _checkpoint(server: Server, forker: Forker, call: Call) -> None:
    task = forker.task(call.request["container"])
    task.check("checkpoint")
    if not all(isinstance(word, str) for word in call.request["flags"]):
        raise errors.InvalidArgument('call "checkpoint": "flags" must be strings')
    task.driver.checkpoint(task, call.request["flags"], call.done)


def _stats(server: Server, forker: Forker, call: Call) -> None:
    task = forker.task(call.request["container"])
    task.check("stats")
    task.driver.stats(task, call.done)


def _pids(server: Server, forker: Forker, call: Call) -> None:
    task = forker.task(call.request["container"])
    task.check("pids")
    task.driver.pids(task, call.done)


def _delete(server: Server, forker: Forker, call: Call) -> None:
    forker.delete(forker.task(call.request["container"]), call.done)


def _list(server: Server, forker: Forker, call: Call) -> None:
    untold, forker.untold = forker.untold, []
    call.answer({"tasks": [task.listed() for task in forker.tasks.values()], "exec_exits": untold})


def _shutdown(server: Server, forker: Forker, call: Call) -> None:
    if forker.tasks:
        raise errors.Conflict(f"keeper still has {len(forker.tasks)} tasks")
    call.answer({})
    server.stop()


VERBS: dict[str, Callable[[Server, Forker, Call], None]] = {
    "hello": _hello,
    "subscribe": _subscribe,
    "create": _create,
    "start": _start,
    "exec": _exec,
    "attach": _attach,
    "logger": _logger,
    "close_stdin": _close_stdin,
    "resize": _resize,
    "kill": _kill,
    "pause": _pause,
    "resume": _resume,
    "update": _update,
    "checkpoint": _checkpoint,
    "stats": _stats,
    "pids": _pids,
    "delete": _delete,
    "list": _list,
    "shutdown": _shutdown,
}


def run(directory: str, runtime: Runtime, ready: Callable[[], None]) -> None:
    """Be the keeper whose `directory` holds sock, pid and tasks/, until it is shut down; `ready` once it listens.

    Everything slow is done and imported before, so that a fork copies no garbage and shares its pages."""
    # A handler, unlike SIG_IGN, is gone after execve: a container must not inherit that SIGPIPE is ignored.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    process.set_child_subreaper(True)
    process.set_name("sampan-keeper")
    gc.collect()
    gc.freeze()
    janitor = Janitor()
    loop = Loop()
    reaper = Reaper(loop)
    server = Server(loop, f"{directory}/sock")
    records = Records(f"{directory}/tasks")

    def exited(child: Process, status: int) -> None:
        forker.exited(child, status)

    drivers: dict[str, Driver] = {"": Native(loop, reaper, janitor, runtime, exited)}

    def driver(path: str) -> Driver:
        if path not in drivers:
            drivers[path] = Foreign(loop, reaper, janitor, f"{directory}/foreign/{len(drivers)}", path, exited)
        return drivers[path]

    forker = Forker(loop, records, driver, server.tell)
    server.forker, server.reaper = forker, reaper
    forker.bury()
    with open(f"{directory}/pid", "w", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")
    ready()
    loop.run()
