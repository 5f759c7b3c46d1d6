"""The process that unpacks layers for the core: it forks one child for each, so that they use as many processors.

    python -I -S unpacker.py FD SYS_PATH          FD is a SEQPACKET socket

One thread and a small heap, so that a fork is safe and takes 3 ms; the core has threads and can do neither. A message
on the socket is a job, {"root", "scratch", "stacks", "userxattr"}, with two descriptors: the layer's bytes are read
from the first, the outcome is written to the second. It ends when the socket does, and its children with it, so that
after a crash of the core nobody writes into a directory that is being thrown away.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys

_MESSAGE = 1 << 16


def main(descriptor: int, path: str) -> None:
    # -S keeps site-packages out; the core says where its own modules are.
    sys.path[:] = json.loads(path)
    from sampan.containerd.diff import unpack  # noqa: F401 - imported once, for all children
    from sampan.linux.process import default_signals

    # A collection finds nothing here that would be worth the look, and writes to pages that children share.
    gc.disable()
    default_signals()
    # A terminal's interrupt is for the core, which then closes the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs = socket.socket(fileno=descriptor)
    while True:
        message, fds, _, _ = socket.recv_fds(jobs, _MESSAGE, 2)
        _reap()
        if not message:
            # Nothing is left to tidy up, and the core waits.
            os._exit(0)
        # safe because this process has one thread and holds no lock
        if os.fork() == 0:
            jobs.close()
            status = 1
            try:
                _child(json.loads(message), *fds)
                status = 0
            finally:
                os._exit(status)
        for fd in fds:
            os.close(fd)


def _reap() -> None:
    """Children that have ended: waited for, so that the time they took is counted as this process'."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _child(job: dict[str, object], layer: int, outcome: int) -> None:
    from sampan.linux.process import set_pdeathsig

    parent = os.getppid()
    set_pdeathsig(signal.SIGKILL)
    if os.getppid() != parent:
        return  # it ended in between
    said = json.dumps(_outcome(job, layer)).encode()
    while said:
        said = said[os.write(outcome, said) :]


def _outcome(job: dict[str, object], layer: int) -> dict[str, object]:
    from sampan import errors
    from sampan.containerd.diff.unpack import unpack

    with open(layer, "rb", buffering=0) as source:
        try:
            done = unpack(
                source,
                str(job["root"]),
                str(job["scratch"]),
                stacks=bool(job["stacks"]),
                userxattr=bool(job["userxattr"]),
                alone=True,
            )
        except errors.InvalidArgument as error:
            return {"invalid": str(error)}
        except OSError as error:
            return {"errno": error.errno, "text": error.strerror, "path": str(error.filename or "")}
    applied = done.applied
    return {
        "diff_id": done.diff_id,
        "bytes": done.size,
        "size": applied.size,
        "inodes": applied.inodes,
        # Names are bytes: what is no UTF-8 travels as lone surrogates.
        "implied": [os.fsdecode(path) for path in applied.implied],
        "links": [[os.fsdecode(path), os.fsdecode(target)] for path, target in applied.links],
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
