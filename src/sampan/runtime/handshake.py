"""The conversation of a launch, over a SEQPACKET socket pair: one packet, one message.

    parent (keeper, sampan-runc)             init (new process)
      |  clone3                                |
      |- - - - - - - - - - - - - - - - - - - ->|  cgroups, namespaces
      |  "mapped"        [user namespace]      |
      |--------------------------------------->|  ids of the namespace's root, mounts, devices
      |  "hooks"         [prestart, createRuntime given]
      |<---------------------------------------|
      |  "hooked"                              |
      |--------------------------------------->|  createContainer hooks, pivot_root
      |  "console" + fd  [terminal]            |
      |<---------------------------------------|  masks, ids, capabilities, program found
      |  "listener" + fd [seccomp notifies, before ready when the filter is loaded first]
      |<---------------------------------------|
      |  "step" ...      [a narrator wanted: each step before it is done, from the first to this point]
      |<---------------------------------------|
      |  "ready"                               |
      |<---------------------------------------|  waits here, for "proceed" or for a byte in the exec.fifo
      |  "proceed"                             |
      |--------------------------------------->|  filter, startContainer hooks, execve
      |  end of stream: execve happened        |
      |<- - - - - - - - - - - - - - - - - - - -|

Instead of any message of its own init may say "failed", a kind (a class name of `sampan.errors`) and runc's text, and
end. A packet is WORD, or WORD and a payload after one null byte. After "proceed" nobody waits for a failure: init then
writes it to the process's standard error and exits with 1, as runc's does.
"""

from __future__ import annotations

from sampan.linux.packets import pair as pair  # (the parent's end, init's end)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.linux.packets import PacketSocket

MAPPED = "mapped"
HOOKS = "hooks"
HOOKED = "hooked"
CONSOLE = "console"
LISTENER = "listener"
STEP = "step"
READY = "ready"
PROCEED = "proceed"
FAILED = "failed"

_MAX_MESSAGE = 65536


def send(sock: PacketSocket, word: str, payload: str = "", fds: Sequence[int] = ()) -> None:
    """One message; of one that is too long the middle is left out, since errors end with their reason.

    Errors: OSError, EPIPE when the other side has ended.
    """
    data = (f"{word}\0{payload}" if payload else word).encode("utf-8", "surrogateescape")
    if len(data) > _MAX_MESSAGE:
        data = data[: _MAX_MESSAGE - 1027] + b"..." + data[-1024:]
    sock.send(data, fds)


def receive(sock: PacketSocket) -> tuple[str, str, list[int]]:
    """(word, payload, fds) of the next message; word "" is the end. Errors: OSError."""
    data, fds = sock.receive(_MAX_MESSAGE, 2)
    word, _, payload = data.decode("utf-8", "surrogateescape").partition("\0")
    return word, payload, fds
