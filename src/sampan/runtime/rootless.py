"""Getting into a container's pid namespace without privileges: only inside its user namespace have we any.

caller ── clone3 ──▶ go-between: setns(user), setns(pid) ── clone3(CLONE_PARENT) ──▶ the process, the caller's child
       ◀── pid and pidfd ──┘
"""

from __future__ import annotations

import os

from sampan.errors import Error
from sampan.linux import abi, process
from sampan.runtime import handshake

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.linux.packets import PacketSocket

_WORD = "made"


def fork(container: int, kinds: int) -> tuple[int, int]:
    """clone3 into the namespaces `kinds` (CLONE_NEWPID, CLONE_NEWTIME) of the process behind the pidfd `container`.

    (pid, pidfd) in the caller, (0, -1) in the child, which is in the user namespace already. Errors: Error.
    """
    ours, theirs = handshake.pair()
    try:
        between, pidfd = process.clone3(0)
        if between == 0 and _between(container, kinds, theirs):
            return 0, -1
        theirs.close()
        word, payload, received = handshake.receive(ours)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        if word != _WORD:
            raise Error(f"unable to start container process: {payload}")
        return int(payload), received[0]
    finally:
        ours.close()
        theirs.close()


def _between(container: int, kinds: int, channel: PacketSocket) -> bool:
    """Only the new process returns from this."""
    try:
        process.set_dumpable(False)  # inherited: nobody in the container may trace the new process (CVE-2016-9962)
        process.setns(container, abi.CLONE_NEWUSER)
        if kinds:
            process.setns(container, kinds)
        # Without an exit signal of its own: with CLONE_PARENT it is ours.
        pid, pidfd = process.clone3(abi.CLONE_PARENT, exit_signal=0)
        if pid == 0:
            return True
        handshake.send(channel, _WORD, str(pid), (pidfd,))
    except OSError as error:
        handshake.send(channel, handshake.FAILED, f"failed to setns into the container: {error.strerror}")
    os._exit(0)
