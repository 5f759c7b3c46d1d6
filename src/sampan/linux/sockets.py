"""Unix sockets that carry file descriptors and name their peer. Source: unix(7).

The socket argument is any object of `socket.socket` or of its C base `_socket.socket`, which can be imported without
the 8 ms that `socket` costs.
"""

from __future__ import annotations

import os
import struct

from sampan.linux import abi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Sequence

_INT = struct.calcsize("i")
# struct cmsghdr on 64-bit: size_t len, int level, int type; the data follows, all aligned to 8.
_CMSG_HEADER = 16


def send_with_fds(sock: socket, data: bytes, fds: Sequence[int] = (), flags: int = abi.MSG_NOSIGNAL) -> int:
    """Send `data` (at least one byte when there are fds) with duplicates of `fds`, at most 253.

    Returns the bytes taken: on SOCK_SEQPACKET always all, on SOCK_STREAM perhaps fewer; the fds went with
    the first. Errors: OSError (EPIPE instead of SIGPIPE, EAGAIN, EMSGSIZE).
    """
    if not fds:
        return sock.send(data, flags)
    rights = struct.pack(f"={len(fds)}i", *fds)
    return sock.sendmsg([data], [(abi.SOL_SOCKET, abi.SCM_RIGHTS, rights)], flags)


def recv_with_fds(sock: socket, size: int, maxfds: int, flags: int = 0) -> tuple[bytes, list[int], bool]:
    """Receive one message (SEQPACKET) or some bytes (STREAM): (data, fds, truncated).

    The fds are close-on-exec and now the caller's, also when `truncated` says that data beyond `size` or fds
    beyond `maxfds` were dropped by the kernel. Empty data is the end of the stream. Errors: OSError.
    """
    room = _CMSG_HEADER + (maxfds * _INT + 7 & ~7) if maxfds else 0
    data, ancillary, message_flags, _ = sock.recvmsg(size, room, flags | abi.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, content in ancillary:
        if level == abi.SOL_SOCKET and kind == abi.SCM_RIGHTS:
            count = len(content) // _INT
            fds += struct.unpack_from(f"={count}i", content)
    # The room is rounded up to 8, so the kernel may have installed one fd more than was asked for.
    over = len(fds) > maxfds
    while len(fds) > maxfds:
        os.close(fds.pop())
    return data, fds, over or bool(message_flags & (abi.MSG_TRUNC | abi.MSG_CTRUNC))


def peer_credentials(sock: socket) -> tuple[int, int, int]:
    """(pid, uid, gid) of the process that connected or made the pair. SO_PEERCRED."""
    raw = sock.getsockopt(abi.SOL_SOCKET, abi.SO_PEERCRED, 12)
    pid, uid, gid = struct.unpack("=iII", raw)
    return pid, uid, gid


def peer_pidfd(sock: socket) -> int:
    """A pidfd of that process. SO_PEERPIDFD (kernel 6.5; ENOPROTOOPT before). Errors: OSError, ESRCH, ENODATA."""
    raw = sock.getsockopt(abi.SOL_SOCKET, abi.SO_PEERPIDFD, _INT)
    pidfd: int = struct.unpack("=i", raw)[0]
    return pidfd
