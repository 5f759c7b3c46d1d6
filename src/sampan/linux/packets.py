"""Unix sockets of whole packets between a process and the one it forks. Source: unix(7), recvmsg(2), cmsg(3).

Made by the bare system calls: `_socket` is a shared object whose loading takes 0.3 ms of a container's start.
"""

from __future__ import annotations

import os

from sampan.linux import abi
from sampan.linux.call import address, buffer, call, read_u32, read_u64, u32, u64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# struct cmsghdr on 64-bit: size_t len, int level, int type; the data follows, all aligned to 8.
_CMSG_HEADER = 16


class PacketSocket:
    """One end of a SOCK_SEQPACKET pair, by its descriptor, which whoever holds this closes."""

    __slots__ = ("_fd",)

    def __init__(self, fileno: int) -> None:
        self._fd = fileno

    def fileno(self) -> int:
        """The descriptor, -1 once it is closed or detached."""
        return self._fd

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def detach(self) -> int:
        """The descriptor, which is now the caller's."""
        fd, self._fd = self._fd, -1
        return fd

    def setblocking(self, blocking: bool) -> None:
        os.set_blocking(self._fd, blocking)

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send one packet, with duplicates of `fds`. Errors: OSError (EPIPE instead of SIGPIPE, EAGAIN, EMSGSIZE)."""
        content = buffer(len(data), data)
        rights = b""
        if fds:
            length = _CMSG_HEADER + 4 * len(fds)
            rights = u64(length) + u32(abi.SOL_SOCKET, abi.SCM_RIGHTS, *fds) + bytes(-length % 8)
        control = buffer(len(rights), rights)
        vector = buffer(16, u64(address(content), len(data)))
        # struct msghdr: name, its length, vector, its length, control, its length, flags. safe because all that it
        # points to is held by this frame until the call has returned.
        header = u64(0, 0, address(vector), 1, address(control) if fds else 0, len(rights), 0)
        call("sendmsg", self._fd, header, abi.MSG_NOSIGNAL)

    def receive(self, size: int, maxfds: int) -> tuple[bytes, list[int]]:
        """(data, fds) of one packet; no data is the end. The fds, at most `maxfds`, are close-on-exec and the caller's.

        Of a packet of more than `size` bytes the rest is lost. Errors: OSError, EAGAIN on one that does not block.
        """
        # Its length first: a buffer for the largest is as many pages to be made and cleared.
        size = min(size, call("recvfrom", self._fd, None, 0, abi.MSG_PEEK | abi.MSG_TRUNC, None, None))
        content = buffer(size)
        room = _CMSG_HEADER + (4 * maxfds + 7 & ~7)
        control = buffer(room)
        vector = buffer(16, u64(address(content), size))
        # safe as in `send`; the kernel writes into the header, so that is a buffer too.
        header = buffer(56, u64(0, 0, address(vector), 1, address(control), room, 0))
        got = call("recvmsg", self._fd, header, abi.MSG_CMSG_CLOEXEC)
        fds: list[int] = []
        if read_u64(header)[5]:
            words = read_u32(control)
            if words[2:4] == [abi.SOL_SOCKET, abi.SCM_RIGHTS]:
                fds = words[4 : (read_u64(control)[0] + 3) // 4]
        # The room is rounded up to 8, so the kernel may have installed one fd more than was asked for.
        while len(fds) > maxfds:
            os.close(fds.pop())
        return content.raw[:got], fds


def pair() -> tuple[PacketSocket, PacketSocket]:
    """Two connected ends, close-on-exec and blocking. Errors: OSError."""
    words = buffer(8)
    call("socketpair", abi.AF_UNIX, abi.SOCK_SEQPACKET | abi.SOCK_CLOEXEC, 0, words)
    one, other = read_u32(words)
    return PacketSocket(one), PacketSocket(other)
