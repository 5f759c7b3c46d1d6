"""One AF_NETLINK socket: batches of requests, their acknowledgements, and dumps. Sources: netlink(7), rtnetlink(7).

The kernel works a request off in the context of the send(2) that carries it, so every reply is queued when that
call returns. Receives therefore never wait: an empty queue means that the kernel will not answer.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from sampan.linux.netlink.message import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSG_MIN_TYPE,
    Message,
    Reply,
    extended_ack_text,
    split_messages,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NETLINK_GET_STRICT_CHK = 12

SO_SNDBUFFORCE = 32

_RECEIVE_SIZE = 1 << 16
_SEND_BUFFER = 1 << 23
_DUMP_ATTEMPTS = 8


class NetlinkSocket:
    """A socket of one netlink family (NETLINK_ROUTE, NETLINK_NETFILTER), in the netns of the thread that makes it.

    It stays in that netns whatever its user does later. Not for concurrent use by several threads."""

    def __init__(self, family: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        self._sequence = 0
        try:
            # A whole firewall table goes out as one datagram, and the default limit holds some 2,000 published ports.
            self._socket.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, _SEND_BUFFER)
        except OSError:
            # Without CAP_NET_ADMIN the default limit stays; the kernel says EMSGSIZE if it matters.
            pass
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
            try:
                self._socket.setsockopt(SOL_NETLINK, option, 1)
            except OSError:
                # Only the wording of errors and the narrowness of dumps depend on these (Linux 4.3, 4.12, 4.20).
                pass

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def perform(self, messages: Sequence[Message]) -> None:
        """Send all in one datagram and wait for the outcome.

        Only the last asks for an acknowledgement: errors are always reported, and in order. Route netlink goes on
        after a message that failed; nftables undoes the whole transaction. OSError names the first that failed,
        with the kernel's own words when it gave any."""
        self._exchange(messages, len(messages) - 1)

    def perform_batch(self, begin: Message, messages: Sequence[Message], end: Message) -> None:
        """`perform` for a transaction: the acknowledgement is the last inner message's, sent after the commit."""
        if messages:
            self._exchange((begin, *messages, end), len(messages), transaction=True)

    def ask(self, message: Message) -> list[Reply]:
        """One request that is answered by messages and an acknowledgement. OSError as `perform`."""
        return self._exchange((message,), 0)

    def dump(self, message: Message) -> list[Reply]:
        """All objects the request selects. OSError as `perform`; EINTR when they changed on each of eight tries."""
        for _attempt in range(_DUMP_ATTEMPTS):
            replies = self._dump_once(message)
            if replies is not None:
                return replies
        raise InterruptedError(errno.EINTR, f"{message.name}: the objects changed during the dump")

    def _exchange(self, messages: Sequence[Message], acknowledged: int, transaction: bool = False) -> list[Reply]:
        if not messages:
            return []
        first = self._sequence + 1
        self._sequence += len(messages)
        last = first + acknowledged
        parts = [
            message.encode(first + index, NLM_F_REQUEST | NLM_F_ACK if index == acknowledged else NLM_F_REQUEST)
            for index, message in enumerate(messages)
        ]
        # Joined, because sendmsg(2) takes no more than 1,024 pieces.
        self._socket.send(b"".join(parts))
        replies: list[Reply] = []
        failure: OSError | None = None
        while True:
            for reply in self._receive(messages[0].name):
                if not first <= reply.sequence < first + len(messages):
                    # Of an earlier exchange that failed and was not read to its end.
                    continue
                if reply.type != NLMSG_ERROR:
                    if reply.type >= NLMSG_MIN_TYPE:
                        replies.append(reply)
                    continue
                error = _error_of(reply, messages[reply.sequence - first])
                failure = failure or error
                # A transaction that is refused as a whole is answered in the name of its first message.
                if reply.sequence == last or (error and transaction and reply.sequence == first):
                    if failure:
                        raise failure
                    return replies

    def _dump_once(self, message: Message) -> list[Reply] | None:
        self._sequence += 1
        sequence = self._sequence
        self._socket.send(message.encode(sequence, NLM_F_REQUEST | NLM_F_DUMP))
        replies: list[Reply] = []
        changed = False
        while True:
            for reply in self._receive(message.name):
                if reply.sequence != sequence:
                    continue
                changed = changed or bool(reply.flags & NLM_F_DUMP_INTR)
                if reply.type in (NLMSG_DONE, NLMSG_ERROR):
                    error = _error_of(reply, message)
                    if error:
                        raise error
                    return None if changed else replies
                if reply.type >= NLMSG_MIN_TYPE:
                    replies.append(reply)

    def _receive(self, name: str) -> list[Reply]:
        try:
            data, _ancillary, flags, _sender = self._socket.recvmsg(_RECEIVE_SIZE, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise OSError(errno.ENODATA, f"{name}: the kernel did not answer") from None
        if flags & socket.MSG_TRUNC:
            raise OSError(errno.EMSGSIZE, f"{name}: the kernel's answer is longer than {_RECEIVE_SIZE} bytes")
        return list(split_messages(data))


def _error_of(reply: Reply, message: Message) -> OSError | None:
    code: int = -struct.unpack_from("=i", reply.body)[0] if len(reply.body) >= 4 else 0
    if code == 0:
        return None
    words = extended_ack_text(reply.body, reply.flags) if reply.type == NLMSG_ERROR else ""
    return OSError(code, f"{message.name}: {words or os.strerror(code)}")
