"""Running a process whose streams are the client's: outputs before it, its input as it starts, the process itself."""

from __future__ import annotations

import os

from sampan.keeper import uris

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.keeper.forker import Forker
    from sampan.keeper.loop import Loop
    from sampan.keeper.reaper import Reaper
    from sampan.shim.served import Child, Container


class Runs:
    """The forker, and what it needs to be asked for containerd's processes. `forker` is given afterwards."""

    forker: Forker

    def __init__(self, loop: Loop, reaper: Reaper, namespace: str) -> None:
        self.namespace = namespace
        self._loop = loop
        self._reaper = reaper

    def attach(self, container: Container, child: Child, done: Callable[..., None]) -> None:
        """Send the outputs to where the client wants them. Errors of `uris.open_output`, or through `done`."""
        names = {"container": container.id, "exec": child.exec_id}
        stdout, stderr = child.stdio["stdout"], "" if child.stdio["terminal"] else child.stdio["stderr"]
        if uris.split(stdout)[0] == uris.BINARY:
            wanted = {**names, "uri": stdout, "known_as": container.id, "namespace": self.namespace}
            self.forker.attach_logger(wanted, self._reaper, self, done)
            return
        fds: list[int] = []
        try:
            fds += [uris.open_output(uri) for uri in (stdout, stderr) if uri]
            wanted = {**names, "stdout": bool(stdout), "stderr": bool(stderr), "stdin": False}
            self.forker.attach(wanted, fds, self)
        finally:
            for fd in fds:  # what was not taken over
                os.close(fd)
        done(None, {})

    def feed(self, container: Container, child: Child) -> None:
        """Carry the client's input to it. OSError when its FIFO is not there."""
        if not child.stdio["stdin"]:
            return
        wanted = {"container": container.id, "exec": child.exec_id, "stdout": False, "stderr": False, "stdin": True}
        target = self.forker.attach(wanted, [], self)
        if target is not None:
            child.input = uris.InputFifo(self._loop, child.stdio["stdin"], target)

    def run(self, container: Container, child: Child, started: Callable[..., None]) -> None:
        """execve, of the container's process or of an exec's. Errors of the forker, or through `started`."""
        if not child.exec_id:
            self.forker.start(self.forker.task(container.id), started)
            return
        path = f"{container.bundle}/exec-{child.exec_id}.json"
        with open(path, "wb") as file:
            file.write(child.spec)
        try:
            self.forker.exec(
                {
                    "container": container.id,
                    "exec": child.exec_id,
                    "process": path,
                    "terminal": child.stdio["terminal"],
                    "stdin": bool(child.stdio["stdin"]),
                    "console_size": None,
                },
                started,
            )
        finally:
            os.unlink(path)
