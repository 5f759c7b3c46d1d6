"""Sockets inside a container's network namespace, made without leaving our own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from sampan.linux.netlink.connection import NETLINK_ROUTE, NetlinkSocket
from sampan.linux.process import setns

CLONE_NEWNET = 0x40000000

_T = TypeVar("_T")


def in_netns(netns_fd: int, make: Callable[[], _T]) -> _T:
    """What `make` returns when it is called in the netns of `netns_fd`; a socket keeps the netns it was made in.

    OSError from setns(2), or from `make`."""
    made: list[_T] = []
    failures: list[OSError] = []

    def enter() -> None:
        try:
            # Safe because setns(2) moves only the calling thread, and this one ends at once: no other code ever runs
            # in the container's netns, whatever fails here.
            setns(netns_fd, CLONE_NEWNET)
            made.append(make())
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=enter, name="netns")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return made[0]


def socket_in_netns(netns_fd: int) -> NetlinkSocket:
    """A route netlink socket that acts in the netns of `netns_fd` for as long as it is open. OSError from setns(2)."""
    return in_netns(netns_fd, lambda: NetlinkSocket(NETLINK_ROUTE))
