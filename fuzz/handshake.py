"""What a process in its making says: a parent whose child sends nonsense gives up on it in order."""

from __future__ import annotations

import os
from random import Random

from fuzz.mutation import of_bytes
from sampan.linux import process
from sampan.runtime import handshake
from sampan.runtime.conversation import Launch
from sampan.runtime.plan import Plan

SEEDS = [
    b"step\0mount destination=/proc", b"ready", b"hooks", b"console\0/dev/pts/0", b"listener", b"mapped", b"proceed",
    b"failed\0NotFound\0unable to start container process: no", b"failed\0annotations\0x", b"failed", b"\0", b"hooked",
]  # fmt: skip
ERRORS = ()


def mutate(data: bytes, random: Random) -> bytes:
    """Never empty: a packet without bytes is the end."""
    return of_bytes(data, random) or b"\0"


def feed(data: bytes, random: Random) -> None:
    """One message to the parent of a process that has ended already."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    pidfd = process.pidfd_open(child)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    ours, theirs = handshake.pair()
    launched = Launch(child, pidfd, ours, {"spec": {}}, Plan(), (lambda text: None) if random.randrange(2) else None)
    try:
        theirs.send(data[:60_000])
        theirs.close()
        for _ in range(4):
            event = launched.step()
            if event is not None and event[0] == "failed":
                assert len(event) == 3 and all(isinstance(part, str) for part in event)
        launched.close()
    finally:
        theirs.close()
        launched.close()
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
