"""A netlink socket inside a container's network namespace, made without leaving our own."""

from __future__ import annotations

import threading

from sampan.linux.netlink.connection import NETLINK_ROUTE, NetlinkSocket
from sampan.linux.process import setns

CLONE_NEWNET = 0x40000000


def socket_in_netns(netns_fd: int) -> NetlinkSocket:
    """A route netlink socket that acts in the netns of `netns_fd` for as long as it is open. OSError from setns(2)."""
    made: list[NetlinkSocket] = []
    failures: list[OSError] = []

    def enter() -> None:
        try:
            # Safe because setns(2) moves only the calling thread, and this one ends at once: no other code ever runs
            # in the container's netns, whatever fails here. The socket keeps the netns it was made in.
            setns(netns_fd, CLONE_NEWNET)
            made.append(NetlinkSocket(NETLINK_ROUTE))
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=enter, name="netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return made[0]
