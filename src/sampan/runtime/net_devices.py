"""Moving network devices of the host into a container. Source: config-linux.md#network-devices, rtnetlink(7)."""

from __future__ import annotations

import os
import socket

from sampan.errors import Error
from sampan.linux import abi, process, procfs
from sampan.linux.netlink import route
from sampan.linux.netlink.connection import NETLINK_ROUTE, NetlinkSocket
from sampan.runtime.steps.situation import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.linux.netlink.route import Address

_LINK_LOCAL = b"\xfe\x80"


def move(wanted: dict[str, dict[str, str]], netns: int) -> None:
    """Put each device of "linux.netDevices" into the network namespace `netns`, under its new name if it has one.

    A device loses its addresses on the way, and the global ones are given back to it; then it is up. Its MTU and its
    hardware address travel with it. The caller is single-threaded. Errors: Error.
    """
    for name, entry in wanted.items():
        try:
            _move_one(name, entry.get("name") or name, netns)
        except OSError as error:
            raise Error(f'unable to start container process: unable to move network device "{name}": '
                        f"{words(error)}") from None  # fmt: skip


def _move_one(name: str, new_name: str, netns: int) -> None:
    with NetlinkSocket(NETLINK_ROUTE) as here:
        link = route.link(here, name)
        kept = [
            one for family in (socket.AF_INET, socket.AF_INET6) for one in route.addresses(here, family, link.index)
        ]
        here.perform([route.set_link(index=link.index, up=False)])
        here.perform([route.set_link(index=link.index, new_name=new_name, netns_fd=netns)])
    back = procfs.open_namespace("self", "network")
    try:
        process.setns(netns, abi.CLONE_NEWNET)
        try:
            _settle(new_name, kept)
        finally:
            process.setns(back, abi.CLONE_NEWNET)
    finally:
        os.close(back)


def _settle(name: str, addresses: list[Address]) -> None:
    with NetlinkSocket(NETLINK_ROUTE) as there:
        index = route.link(there, name).index
        for one in addresses:
            if not one.local.startswith(_LINK_LOCAL):  # the device makes itself a new one
                there.perform([route.add_address(index, one.local, one.prefix_len)])
        there.perform([route.set_link(index=index, up=True)])
