"""Unpacking in processes of their own (`unpacker.py`), as the core's threads ask for it.

The process is there while layers are on their way: `begin` when the first one is known, `rest` when none is left. Small
layers are not worth a process, and where none can be started they all are unpacked in the thread that asks.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import threading

from sampan import errors
from sampan.containerd.diff import unpacker
from sampan.containerd.diff.apply import Applied
from sampan.containerd.diff.stream import Source
from sampan.containerd.diff.unpack import Unpacked, unpack

log = logging.getLogger(__name__)

# Starting the process takes as long as unpacking some hundred files.
WORTH = 1 << 18
_PIECE = 1 << 18
_PIPE = 1 << 20


class Unpackers:
    """One process at most, and any number of layers in it at a time. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs: socket.socket | None = None
        self._used = False

    def begin(self) -> None:
        """Have the process ready. Takes a millisecond, of which none is waiting for it."""
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            self._forget()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                with theirs:
                    self._process = _start(theirs)
            except OSError as error:
                ours.close()
                log.warning("layers are unpacked without a process of their own: %s", error)
                return
            self._jobs = ours
            self._used = False

    def rest(self) -> None:
        """No layer is on its way: end the process."""
        with self._lock:
            self._forget()

    def unpack(self, source: Source, size: int, root: str, scratch: str, *, stacks: bool, userxattr: bool) -> Unpacked:
        """`unpack.unpack` of a layer whose blob has `size` bytes. Unavailable when the process dies meanwhile."""
        outcome = None if size < WORTH else self._job(root, scratch, stacks, userxattr)
        if outcome is None:
            return unpack(source, root, scratch, stacks=stacks, userxattr=userxattr)
        feed, told = outcome
        with open(told, "rb") as result:
            try:
                while piece := source.read(_PIECE):
                    _write(feed, piece)
            except BrokenPipeError:
                pass  # it has said why before it left
            finally:
                os.close(feed)
                # At its end the child is gone, and nobody writes to the directory any more.
                said = result.read()
        return _unpacked(said)

    def _job(self, root: str, scratch: str, stacks: bool, userxattr: bool) -> tuple[int, int] | None:
        """(where the layer's bytes go, where the outcome comes from); None when no process takes it."""
        job = json.dumps({"root": root, "scratch": scratch, "stacks": stacks, "userxattr": userxattr}).encode()
        layer, feed = os.pipe2(os.O_CLOEXEC)
        told, outcome = os.pipe2(os.O_CLOEXEC)
        try:
            with self._lock:
                if self._jobs is None:
                    raise ConnectionError("no process")
                socket.send_fds(self._jobs, [job], [layer, outcome])
                self._used = True
        except OSError:
            os.close(feed)
            os.close(told)
            return None
        finally:
            os.close(layer)
            os.close(outcome)
        _widen(feed)
        return feed, told

    def _forget(self) -> None:
        if self._jobs is not None:
            self._jobs.close()
            self._jobs = None
        if self._process is not None:
            if not self._used:
                # It may not have read its own code yet, which the loop shall not wait for; and it has no child.
                self._process.kill()
            self._process.wait()
            self._process = None


def _start(jobs: socket.socket) -> subprocess.Popen[bytes]:
    """OSError. subprocess makes the child by vfork(2), so that this process' size and threads do not matter."""
    path = json.dumps([os.path.abspath(entry) for entry in sys.path])
    return subprocess.Popen(
        [sys.executable, "-I", "-S", unpacker.__file__, str(jobs.fileno()), path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=(jobs.fileno(),),
        env={"PATH": os.defpath},
        cwd="/",
    )


def _widen(pipe: int) -> None:
    """Room for what one side has ready while the other is busy; root may always have it, others up to a limit."""
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
    except PermissionError:
        return


def _write(fd: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]


def _unpacked(said: bytes) -> Unpacked:
    if not said:
        raise errors.Unavailable("the process that unpacked the layer died")
    outcome = json.loads(said)
    if "invalid" in outcome:
        raise errors.InvalidArgument(outcome["invalid"])
    if "errno" in outcome:
        raise OSError(outcome["errno"], outcome["text"], outcome["path"] or None)
    applied = Applied(
        outcome["size"],
        outcome["inodes"],
        [os.fsencode(path) for path in outcome["implied"]],
        [(os.fsencode(path), os.fsencode(target)) for path, target in outcome["links"]],
    )
    return Unpacked(outcome["diff_id"], applied, outcome["bytes"])
