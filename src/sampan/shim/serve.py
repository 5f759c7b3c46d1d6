"""The shim itself: a keeper for one container or one pod's, which speaks ttrpc."""

from __future__ import annotations

import gc
import os
import signal
from _socket import socket as Socket

from sampan.keeper.foreign import Foreign
from sampan.keeper.forker import Forker
from sampan.keeper.janitor import Promptly
from sampan.keeper.loop import Loop
from sampan.keeper.native import Native
from sampan.keeper.reaper import Reaper
from sampan.linux import process
from sampan.shim.publisher import Publisher
from sampan.shim.records import BundleRecords
from sampan.shim.runs import Runs
from sampan.shim.server import Server
from sampan.shim.service import Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.keeper.native import Runtime
    from sampan.keeper.task import Driver, Process


def run(namespace: str, socket_path: str, listener: int, events: str, runtime: Runtime) -> None:
    """Serve the listening socket `listener`, which is bound to `socket_path`, until `Shutdown` finds nothing left."""
    log_to_fifo()
    os.chdir("/")
    os.umask(0o022)
    # A handler, unlike SIG_IGN, is gone after execve: a container must not inherit that SIGPIPE is ignored.
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    process.set_child_subreaper(True)
    process.set_name("sampan-shim")
    os.set_inheritable(listener, False)
    loop = Loop()
    reaper = Reaper(loop)
    runs = Runs(loop, reaper, namespace)

    def retire() -> None:
        if listening.fileno() < 0:
            return  # what is at that path now is the next shim's
        try:
            os.unlink(socket_path)
        except FileNotFoundError:
            pass  # somebody tidied up before us
        server.refuse()
        clear(scratch)

    listening = Socket(fileno=listener)
    service = Service(runs, Publisher(loop, events, namespace), retire, loop.stop)
    scratch = f"{socket_path}.d"
    runs.forker = Forker(loop, BundleRecords(), drivers(loop, reaper, runtime, scratch, runs), service.tell)
    server = Server(loop, listening, service.handle)
    gc.collect()
    gc.freeze()
    try:
        loop.run()
    finally:
        retire()
        server.close()


def drivers(loop: Loop, reaper: Reaper, runtime: Runtime, scratch: str, holder: Any) -> Callable[[str], Driver]:
    """The driver for each OCI runtime; `holder.forker` is told of exits, `scratch` is a directory for their files."""

    def exited(child: Process, status: int) -> None:
        holder.forker.exited(child, status)

    known: dict[str, Driver] = {"": Native(loop, reaper, Promptly(), runtime, exited)}

    def driver(path: str) -> Driver:
        if path not in known:
            known[path] = Foreign(loop, reaper, Promptly(), f"{scratch}/{len(known)}", path, exited)
        return known[path]

    return driver


def clear(directory: str) -> None:
    """Remove a directory of files and directories of files; one that is not there is no error."""
    for path, directories, files in os.walk(directory, topdown=False):
        for name in files:
            os.unlink(f"{path}/{name}")
        for name in directories:
            os.rmdir(f"{path}/{name}")
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        pass  # only other runtimes than ours have it made


def log_to_fifo() -> None:
    """What is said from now on goes to the FIFO `log` of the bundle (the working directory), which containerd reads.

    Opened for both directions: a containerd that is away neither blocks nor ends the shim. What it does not take is
    lost after the FIFO's 64 KiB."""
    try:
        fd = os.open("log", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        fd = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(fd, 2)
    os.close(fd)
