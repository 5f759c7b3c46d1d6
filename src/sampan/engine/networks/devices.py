"""The links of the bridge networks: bridges, and the veth pair of each endpoint. All by route netlink.

An endpoint costs one batch on the host (veth pair, its far end already in the container's netns) and two requests in
the netns. Taking a veth pair away costs the kernel a grace period of some 20 ms, so a thread does that.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from sampan.engine.networks.ipam import mac_of
from sampan.engine.networks.netns import socket_in_netns
from sampan.engine.networks.records import OPTION_MTU, Endpoint, Network
from sampan.linux.netlink import route
from sampan.linux.netlink.connection import NETLINK_ROUTE, NetlinkSocket

LOOPBACK_INDEX = 1


class Devices:
    """The host's side. Not for concurrent use, except that links are deleted in the background."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_ROUTE)
        self._indices: dict[str, int] = {}
        self._leaving: set[str] = set()
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reaper: threading.Thread | None = None
        # Made here, in the engine's own netns; the thread only uses it.
        self._reaper_socket = NetlinkSocket(NETLINK_ROUTE)

    def close(self) -> None:
        """Finish the deletions that are under way."""
        if self._reaper:
            self._queue.put("")
            self._reaper.join()
            self._reaper = None
        self._reaper_socket.close()
        self._socket.close()

    # bridges

    def ensure_bridge(self, network: Network, *, fenced: bool) -> None:
        """Make the network's bridge with its gateway address, or complete the one that is there.

        `fenced`: the firewall keeps what comes by the bridge from 127.0.0.0/8, so that this may be routed at all."""
        device = network.device
        mtu = int(network.options.get(OPTION_MTU, "0"))
        try:
            link = route.link(self._socket, device)
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            mac = bytes.fromhex(mac_of(network.gateway).replace(":", ""))
            self._socket.perform([route.add_bridge(device, mac, mtu)])
            link = route.link(self._socket, device)
        self._indices[device] = link.index
        gateway = IPv4Address(network.gateway).packed
        present = [address.local for address in route.addresses(self._socket, index=link.index)]
        messages = [] if link.up else [route.set_link(device, up=True)]
        if gateway not in present:
            broadcast = IPv4Network(network.subnet).broadcast_address.packed
            messages.append(route.add_address(link.index, gateway, network.prefix_len, broadcast))
        self._socket.perform(messages)
        _write_sysctl(f"net/ipv4/conf/{device}/route_localnet", "1" if fenced else "0")
        # An address on each bridge, its duplicate detection and its multicast memberships, for a family not offered.
        _write_sysctl(f"net/ipv6/conf/{device}/disable_ipv6", "1")

    def remove_bridge(self, device: str) -> None:
        """No error when it is gone."""
        self._indices.pop(device, None)
        try:
            self._socket.perform([route.delete_link(device)])
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def first_address(self, device: str) -> tuple[str, int] | None:
        """(address, prefix length) of an existing link, or None without link or address."""
        try:
            index = route.link(self._socket, device).index
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
            return None
        for address in route.addresses(self._socket, index=index):
            return str(IPv4Address(address.local)), address.prefix_len
        return None

    def occupied_subnets(self) -> list[IPv4Network]:
        """Where the host has routes to, the default route aside: no new network may be put there."""
        return [
            IPv4Network((found.destination, found.prefix_len))
            for found in route.routes(self._socket)
            if found.prefix_len
        ]

    # endpoints

    def plug(self, endpoint: Endpoint, device: str, netns_fd: int) -> None:
        """Make the endpoint's veth pair, its far end in the netns. OSError."""
        mac = bytes.fromhex(endpoint.mac_address.replace(":", ""))
        self._socket.perform(
            [
                route.add_veth(
                    endpoint.link,
                    endpoint.ifname,
                    peer_netns_fd=netns_fd,
                    master=self._indices[device],
                    peer_mac=mac,
                    mtu=endpoint.mtu,
                ),
                # Under br_netfilter a container that asks for its own published port is sent back by its own port.
                route.set_hairpin(endpoint.link),
            ]
        )

    def unplug(self, links: Iterable[str]) -> None:
        """Delete the host's ends, soon. A link that is gone already, with its netns, is passed over."""
        for link in links:
            with self._lock:
                self._leaving.add(link)
            self._queue.put(link)
            if not self._reaper:
                self._reaper = threading.Thread(target=self._reap, name="network-links", daemon=True)
                self._reaper.start()

    def unplug_now(self, link: str) -> None:
        """Delete the host's end and wait for it: a container that goes on running must have lost its link."""
        try:
            self._socket.perform([route.delete_link(link)])
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise

    def leaving(self) -> set[str]:
        """Names of the links whose deletion has not ended."""
        with self._lock:
            return set(self._leaving)

    def ports(self, device: str) -> list[str]:
        """Names of the veth links that are ports of a bridge."""
        found = route.links(self._socket, master=self._indices[device])
        return [link.name for link in found if link.kind == "veth"]

    def _reap(self) -> None:
        while link := self._queue.get():
            try:
                self._reaper_socket.perform([route.delete_link(link)])
            except OSError:
                # ENODEV: the kernel deleted it with the netns. For any other reason it stays, and the next start of
                # the engine finds it as a port that no endpoint owns.
                pass
            with self._lock:
                self._leaving.discard(link)


def bring_up_loopback(netns: NetlinkSocket) -> None:
    """127.0.0.1 and ::1 come with it."""
    netns.perform([route.set_link(index=LOOPBACK_INDEX, up=True)])


def configure(netns: NetlinkSocket, endpoint: Endpoint, default_route: bool) -> None:
    """Inside the netns: lo and the endpoint's link up, its address, and the way out when it is the one. OSError."""
    index = route.link(netns, endpoint.ifname).index
    address = IPv4Address(endpoint.ip_address)
    broadcast = IPv4Network((endpoint.ip_address, endpoint.prefix_len), strict=False).broadcast_address
    messages = [
        route.set_link(index=LOOPBACK_INDEX, up=True),
        route.set_link(index=index, up=True),
        route.add_address(index, address.packed, endpoint.prefix_len, broadcast.packed),
    ]
    if os.path.exists("/proc/net/if_inet6"):
        messages.insert(0, route.set_no_link_local(index))
    if default_route:
        messages.append(route.add_default_route(IPv4Address(endpoint.gateway).packed, index))
    netns.perform(messages)


def set_default_route(netns_fd: int, endpoint: Endpoint) -> None:
    """Give a running container its way out by another endpoint. No error when it has one."""
    with socket_in_netns(netns_fd) as netns:
        index = route.link(netns, endpoint.ifname).index
        try:
            netns.perform([route.add_default_route(IPv4Address(endpoint.gateway).packed, index)])
        except FileExistsError:
            pass


def enable_forwarding() -> None:
    """net.ipv4.ip_forward, as Docker does: without it nothing leaves a bridge."""
    _write_sysctl("net/ipv4/ip_forward", "1")


def _write_sysctl(name: str, value: str) -> None:
    path = f"/proc/sys/{name}"
    try:
        with open(path) as file:
            if file.read().strip() == value:
                return
        with open(path, "w") as file:
            file.write(value)
    except FileNotFoundError:
        # A kernel without IPv6 has none of its settings.
        pass
