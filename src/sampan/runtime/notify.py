"""Passing a container's readiness on to the supervisor of its caller (NOTIFY_SOCKET). Source: sd_notify(3), runc.

The container gets a socket of ours at /run/notify/notify.sock. Of what it says only READY= is passed on, with the
container's first process as the one to watch; then we make sure that the supervisor has taken note.
"""

from __future__ import annotations

import os
import select
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket

from sampan.errors import Error
from sampan.linux import sockets
from sampan.runtime.steps.situation import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.oci.spec import Spec

_INSIDE = "/run/notify"
_NAME = "notify.sock"
_BARRIER_PATIENCE = 30.0


def offer(spec: Spec, folder: str) -> None:
    """Have the container see `folder`/notify, the place of our socket, and know its name."""
    os.mkdir(f"{folder}/notify", 0o755)
    options = ["bind", "nosuid", "noexec", "nodev", "ro"]
    entry = {"destination": _INSIDE, "type": "bind", "source": f"{folder}/notify", "options": options}
    spec.setdefault("mounts", []).append(entry)  # type: ignore[arg-type]
    spec["process"].setdefault("env", []).append(f"NOTIFY_SOCKET={_INSIDE}/{_NAME}")


class Notices:
    """Our socket in `folder`/notify, for what the container says to the supervisor at the address `target`."""

    __slots__ = ("_socket", "_target", "fd")

    def __init__(self, folder: str, target: str) -> None:
        self._target = f"\0{target[1:]}" if target.startswith("@") else target
        self._socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
        path = f"{folder}/notify/{_NAME}"
        try:
            self._socket.bind(path)
            os.chmod(path, 0o777)  # noqa: S103 - whatever user the container has may tell that it is ready
        except OSError as error:
            self._socket.close()
            raise Error(f"listen unixgram {path}: {words(error)}") from None
        self.fd = self._socket.fileno()

    def pass_on(self, pid: int) -> bool:
        """Take one message; whether it was the one that counts. `pid` 0 names no process to watch."""
        data = self._socket.recv(65536)
        ready = next((line for line in data.split(b"\n") if line.startswith(b"READY=")), None)
        if ready is None:
            return False
        client = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
        try:
            client.connect(self._target)
            client.send(ready + b"\n")
            if pid:
                client.send(b"MAINPID=%d\n" % pid)
            _barrier(client)
        except OSError as error:
            raise Error(f"notify socket: {words(error)}") from None
        finally:
            client.close()
        return True

    def wait(self, pid: int, pidfd: int) -> None:
        """Until the container is ready or has ended. Errors: Error."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        poller.register(pidfd, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poller.poll()]
            if self.fd in ready and self.pass_on(pid):
                return
            if self.fd not in ready:
                return


def _barrier(client: socket) -> None:
    """Wait until the supervisor has worked off what we said: it closes the descriptor sent with BARRIER=1 then."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        sockets.send_with_fds(client, b"BARRIER=1", (writing,))
    finally:
        os.close(writing)
    select.select([reading], [], [], _BARRIER_PATIENCE)
    os.close(reading)
