"""Route netlink as message tables: links, addresses, routes. Sources: rtnetlink(7), linux/if_link.h, linux/if_addr.h.

The functions named after a verb yield a `Message` for `NetlinkSocket.perform`; those that read take the socket. Links
are named, not numbered, wherever the kernel allows it, so that a whole set-up fits into one batch.
"""

from __future__ import annotations

import socket
import struct

from sampan.linux.netlink.connection import NetlinkSocket
from sampan.linux.netlink.message import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Message,
    Reply,
    attribute,
    nested,
    parse_attributes,
    string,
    text_of,
    u8,
    u32,
)

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_SETLINK = 19
RTM_NEWADDR = 20
RTM_DELADDR = 21
RTM_GETADDR = 22
RTM_NEWROUTE = 24
RTM_DELROUTE = 25
RTM_GETROUTE = 26

IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_LOWER_UP = 0x10000

IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_LINK = 5
IFLA_MASTER = 10
IFLA_LINKINFO = 18
IFLA_AF_SPEC = 26
IFLA_NET_NS_FD = 28
IFLA_EXT_MASK = 29
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
IFLA_INFO_SLAVE_KIND = 4
IFLA_INFO_SLAVE_DATA = 5
IFLA_BRPORT_MODE = 4
IFLA_INET6_ADDR_GEN_MODE = 8
IN6_ADDR_GEN_MODE_NONE = 1
VETH_INFO_PEER = 1
RTEXT_FILTER_SKIP_STATS = 1 << 3

IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_BROADCAST = 4

RTA_DST = 1
RTA_OIF = 4
RTA_GATEWAY = 5
RTA_TABLE = 15
RT_TABLE_MAIN = 254
RTPROT_BOOT = 3
RT_SCOPE_UNIVERSE = 0
RT_SCOPE_HOST = 254
RTN_UNICAST = 1

_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=8BI")


class Link:
    """A link as dumped. `master` is the index of the bridge it belongs to, or 0; `kind` "veth", "bridge", or ""."""

    __slots__ = ("address", "flags", "index", "kind", "master", "mtu", "name")

    def __init__(self, index: int, name: str, kind: str, flags: int, mtu: int, master: int, address: bytes) -> None:
        self.index = index
        self.name = name
        self.kind = kind
        self.flags = flags
        self.mtu = mtu
        self.master = master
        self.address = address

    @property
    def up(self) -> bool:
        return bool(self.flags & IFF_UP)


class Address:
    """An address of a link: `local` as packed bytes, `prefix_len` in bits."""

    __slots__ = ("index", "local", "prefix_len")

    def __init__(self, index: int, local: bytes, prefix_len: int) -> None:
        self.index = index
        self.local = local
        self.prefix_len = prefix_len


class Route:
    """A route: `destination` packed ("" bytes for the default route), `gateway` packed or empty, `index` or 0."""

    __slots__ = ("destination", "gateway", "index", "prefix_len", "table")

    def __init__(self, destination: bytes, prefix_len: int, gateway: bytes, index: int, table: int) -> None:
        self.destination = destination
        self.prefix_len = prefix_len
        self.gateway = gateway
        self.index = index
        self.table = table


def _link_header(index: int = 0, up: bool | None = None) -> bytes:
    flags = IFF_UP if up else 0
    return _IFINFOMSG.pack(socket.AF_UNSPEC, 0, index, flags, 0 if up is None else IFF_UP)


def _link_attributes(name: str, mac: bytes = b"", mtu: int = 0) -> bytes:
    body = string(IFLA_IFNAME, name)
    if mac:
        body += attribute(IFLA_ADDRESS, mac)
    if mtu:
        body += u32(IFLA_MTU, mtu)
    return body


def add_bridge(name: str, mac: bytes = b"", mtu: int = 0) -> Message:
    """A bridge that is up. EEXIST when the name is taken."""
    body = _link_header(up=True) + _link_attributes(name, mac, mtu)
    body += nested(IFLA_LINKINFO, string(IFLA_INFO_KIND, "bridge"))
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f'RTM_NEWLINK bridge "{name}"')


def add_veth(
    name: str,
    peer: str,
    peer_netns_fd: int = -1,
    master: int = 0,
    mac: bytes = b"",
    peer_mac: bytes = b"",
    mtu: int = 0,
) -> Message:
    """A veth pair whose near end is up, and a port of the bridge with index `master` when that is not 0.

    The far end is made directly in the netns of `peer_netns_fd` (-1: here), still down."""
    far = _link_header() + _link_attributes(peer, peer_mac, mtu)
    if peer_netns_fd >= 0:
        far += u32(IFLA_NET_NS_FD, peer_netns_fd)
    body = _link_header(up=True) + _link_attributes(name, mac, mtu)
    if master:
        body += u32(IFLA_MASTER, master)
    body += nested(
        IFLA_LINKINFO,
        string(IFLA_INFO_KIND, "veth"),
        nested(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, far)),
    )
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body, f'RTM_NEWLINK veth "{name}"')


def set_link(
    name: str = "",
    index: int = 0,
    up: bool | None = None,
    master: int | None = None,
    mtu: int = 0,
    mac: bytes = b"",
    new_name: str = "",
    netns_fd: int = -1,
) -> Message:
    """Change the link of that name, or that index. `master` 0 takes it out of its bridge."""
    body = _link_header(index, up)
    if index:
        body += string(IFLA_IFNAME, new_name) if new_name else b""
    else:
        body += string(IFLA_IFNAME, name)
    if mac:
        body += attribute(IFLA_ADDRESS, mac)
    if mtu:
        body += u32(IFLA_MTU, mtu)
    if master is not None:
        body += u32(IFLA_MASTER, master)
    if netns_fd >= 0:
        body += u32(IFLA_NET_NS_FD, netns_fd)
    return Message(RTM_NEWLINK, 0, body, f'RTM_NEWLINK "{name or index}"')


def set_hairpin(name: str, on: bool = True) -> Message:
    """IFLA_BRPORT_MODE of a bridge port: may a frame leave by the port it came in by."""
    body = _link_header() + string(IFLA_IFNAME, name)
    body += nested(
        IFLA_LINKINFO,
        string(IFLA_INFO_SLAVE_KIND, "bridge"),
        nested(IFLA_INFO_SLAVE_DATA, u8(IFLA_BRPORT_MODE, int(on))),
    )
    return Message(RTM_NEWLINK, 0, body, f'RTM_NEWLINK hairpin "{name}"')


def set_no_link_local(index: int) -> Message:
    """The link gets no IPv6 link-local address when it comes up. EAFNOSUPPORT without IPv6 in the kernel."""
    body = _link_header(index)
    mode = u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE)
    body += nested(IFLA_AF_SPEC, nested(socket.AF_INET6, mode))
    return Message(RTM_SETLINK, 0, body, f'RTM_SETLINK addr_gen_mode "{index}"')


def delete_link(name: str) -> Message:
    """ENODEV when there is none of that name. Deleting one end of a veth pair deletes both."""
    return Message(RTM_DELLINK, 0, _link_header() + string(IFLA_IFNAME, name), f'RTM_DELLINK "{name}"')


def add_address(index: int, local: bytes, prefix_len: int, broadcast: bytes = b"") -> Message:
    """`local` and `broadcast` are packed IPv4 or IPv6 addresses. EEXIST when the link has it already."""
    return _address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, index, local, prefix_len, broadcast)


def delete_address(index: int, local: bytes, prefix_len: int) -> Message:
    """EADDRNOTAVAIL when the link does not have it."""
    return _address(RTM_DELADDR, 0, index, local, prefix_len, b"")


def _address(kind: int, flags: int, index: int, local: bytes, prefix_len: int, broadcast: bytes) -> Message:
    family, text = _family(local)
    scope = RT_SCOPE_HOST if local.startswith(b"\x7f") and family == socket.AF_INET else RT_SCOPE_UNIVERSE
    body = _IFADDRMSG.pack(family, prefix_len, 0, scope, index)
    body += attribute(IFA_LOCAL, local) + attribute(IFA_ADDRESS, local)
    if broadcast:
        body += attribute(IFA_BROADCAST, broadcast)
    verb = "RTM_NEWADDR" if kind == RTM_NEWADDR else "RTM_DELADDR"
    return Message(kind, flags, body, f'{verb} "{text}/{prefix_len}" on link {index}')


def add_route(destination: bytes, prefix_len: int, gateway: bytes = b"", index: int = 0) -> Message:
    """Into the main table. The default route has an all-zero destination and length 0."""
    return _route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, destination, prefix_len, gateway, index)


def add_default_route(gateway: bytes, index: int = 0) -> Message:
    return add_route(bytes(len(gateway)), 0, gateway, index)


def delete_route(destination: bytes, prefix_len: int, gateway: bytes = b"", index: int = 0) -> Message:
    """ESRCH when there is no such route."""
    return _route(RTM_DELROUTE, 0, destination, prefix_len, gateway, index)


def _route(kind: int, flags: int, destination: bytes, prefix_len: int, gateway: bytes, index: int) -> Message:
    family, text = _family(destination)
    protocol, scope, route_type = (RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST)
    if kind == RTM_DELROUTE:
        protocol, scope, route_type = (0, 255, 0)
    elif not gateway:
        scope = 253
    body = _RTMSG.pack(family, prefix_len, 0, 0, RT_TABLE_MAIN, protocol, scope, route_type, 0)
    if prefix_len:
        body += attribute(RTA_DST, destination)
    if gateway:
        body += attribute(RTA_GATEWAY, gateway)
    if index:
        body += u32(RTA_OIF, index)
    verb = "RTM_NEWROUTE" if kind == RTM_NEWROUTE else "RTM_DELROUTE"
    return Message(kind, flags, body, f'{verb} "{text}/{prefix_len}"')


def _family(packed: bytes) -> tuple[int, str]:
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return family, socket.inet_ntop(family, packed)


def link(connection: NetlinkSocket, name: str) -> Link:
    """OSError ENODEV when there is none of that name."""
    body = _link_header() + string(IFLA_IFNAME, name) + u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    replies = connection.ask(Message(RTM_GETLINK, 0, body, f'RTM_GETLINK "{name}"'))
    return _parse_link(replies[0])


def links(connection: NetlinkSocket, master: int = 0) -> list[Link]:
    """All links, or the ports of the bridge with index `master`."""
    body = _link_header() + u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
    if master:
        body += u32(IFLA_MASTER, master)
    return [_parse_link(reply) for reply in connection.dump(Message(RTM_GETLINK, 0, body, "RTM_GETLINK"))]


def _parse_link(reply: Reply) -> Link:
    _family_unused, _kind, index, flags, _change = _IFINFOMSG.unpack_from(reply.body)
    attributes = parse_attributes(reply.body, _IFINFOMSG.size)
    info = parse_attributes(attributes.get(IFLA_LINKINFO, b""))
    return Link(
        index=index,
        name=text_of(attributes.get(IFLA_IFNAME, b"")),
        kind=text_of(info.get(IFLA_INFO_KIND, b"")),
        flags=flags,
        mtu=_u32_of(attributes.get(IFLA_MTU)),
        master=_u32_of(attributes.get(IFLA_MASTER)),
        address=attributes.get(IFLA_ADDRESS, b""),
    )


def addresses(connection: NetlinkSocket, family: int = socket.AF_INET, index: int = 0) -> list[Address]:
    """All addresses of the family, or those of the link with that index."""
    request = Message(RTM_GETADDR, 0, _IFADDRMSG.pack(family, 0, 0, 0, index), "RTM_GETADDR")
    found = []
    for reply in connection.dump(request):
        _family_unused, prefix_len, _flags, _scope, link_index = _IFADDRMSG.unpack_from(reply.body)
        attributes = parse_attributes(reply.body, _IFADDRMSG.size)
        local = attributes.get(IFA_LOCAL) or attributes.get(IFA_ADDRESS, b"")
        if not index or link_index == index:
            found.append(Address(link_index, local, prefix_len))
    return found


def routes(connection: NetlinkSocket, family: int = socket.AF_INET, table: int = RT_TABLE_MAIN) -> list[Route]:
    """The unicast routes of a table."""
    request = Message(RTM_GETROUTE, 0, _RTMSG.pack(family, 0, 0, 0, 0, 0, 0, 0, 0), "RTM_GETROUTE")
    found = []
    for reply in connection.dump(request):
        fields = _RTMSG.unpack_from(reply.body)
        attributes = parse_attributes(reply.body, _RTMSG.size)
        route_table = _u32_of(attributes.get(RTA_TABLE)) or fields[4]
        if route_table == table and fields[7] == RTN_UNICAST:
            gateway = attributes.get(RTA_GATEWAY, b"")
            oif = _u32_of(attributes.get(RTA_OIF))
            found.append(Route(attributes.get(RTA_DST, b""), fields[1], gateway, oif, route_table))
    return found


def _u32_of(payload: bytes | None) -> int:
    return int.from_bytes(payload or b"", "little" if struct.pack("=H", 1)[0] else "big")
