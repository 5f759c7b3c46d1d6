"""The engine's one nftables table: what it says is a pure function of the networks and the published ports.

    prerouting, output   a packet to one of our own addresses -> chain publish
    publish              address . proto . port, then proto . port, looked up in two maps -> dnat to the container
    postrouting          masquerade: the way out of a bridge; a container that reaches a neighbour, or itself, by the
                         host's address; the host that reaches a container by 127.0.0.1
    forward              answers and published connections may enter a bridge, members of a bridge may talk, an internal
                         bridge has no way out, and nothing else enters a bridge: neither another bridge nor a
                         neighbour of the host that routes to a container's address
    raw                  127.0.0.0/8 never enters by a bridge, although route_localnet is on there (CVE-2020-8558)

A change of the networks rewrites the whole table in one transaction, so that no packet sees a half of it and
established connections, which conntrack remembers, go on. A container's ports are elements of the two maps and come
and go without touching a rule.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network

from sampan.engine.networks.records import OPTION_ICC, OPTION_MASQUERADE, Network, Publication
from sampan.linux.netlink import nftables as nft
from sampan.linux.netlink import nftables_expressions as expr
from sampan.linux.netlink.connection import NETLINK_NETFILTER, NetlinkSocket
from sampan.linux.netlink.message import Message

BRIDGES = "bridges"
PUBLISHED = "published"
PUBLISHED_AT = "published_at"

PROTOCOLS = {"tcp": 6, "udp": 17}

_ADDRESS_AND_PORT = nft.concatenation(nft.TYPE_IPADDR, nft.TYPE_INET_SERVICE)
_PROTOCOL_AND_PORT = nft.concatenation(nft.TYPE_INET_PROTOCOL, nft.TYPE_INET_SERVICE)
_ADDRESS_PROTOCOL_AND_PORT = nft.concatenation(nft.TYPE_IPADDR, nft.TYPE_INET_PROTOCOL, nft.TYPE_INET_SERVICE)

_LOOPBACK = IPv4Network("127.0.0.0/8")

Target = tuple[str, Publication]
"""A container's address and one of its published ports."""


class Firewall:
    """The table in the kernel. Not for concurrent use."""

    def __init__(self, bridge: str) -> None:
        """OSError naming what the kernel refused when it has no nf_tables, or not all that the table is made of."""
        self.table = nft.Table(f"sampan-{bridge}")
        self._socket = NetlinkSocket(NETLINK_NETFILTER)
        # Made and deleted in one transaction, which nobody sees; the table itself may be in use by containers.
        probe = nft.Table(f"sampan-{bridge}-probe")
        try:
            nft.transact(self._socket, [*ruleset(probe, [], []), probe.delete()])
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def rewrite(self, networks: Iterable[Network], targets: Sequence[Target]) -> None:
        """Make the table say exactly this. OSError names the rule that the kernel refused."""
        nft.transact(self._socket, ruleset(self.table, networks, targets))

    def publish(self, targets: Sequence[Target]) -> None:
        """OSError EEXIST when a port leads elsewhere already."""
        nft.transact(self._socket, publish_messages(self.table, targets))

    def unpublish(self, targets: Sequence[Target]) -> None:
        """No error for what is not published: a start that failed half-way releases what it may not have reached."""
        keys = [element(target)[:2] for target in targets]
        try:
            self._delete(keys)
        except FileNotFoundError:
            # The kernel took the whole transaction back for one that is missing: now each by itself.
            for key in keys:
                try:
                    self._delete([key])
                except FileNotFoundError:
                    pass

    def _delete(self, keys: Sequence[tuple[str, bytes]]) -> None:
        messages: list[Message] = []
        for name in (PUBLISHED, PUBLISHED_AT):
            messages += self.table.delete_elements(name, [key for where, key in keys if where == name])
        nft.transact(self._socket, messages)


def open_firewall(bridge: str, *, wanted: bool) -> tuple[Firewall | None, str]:
    """The firewall, or None and why there is none: without it bridges work, but nothing is masqueraded or published."""
    if not wanted:
        return None, "the firewall is left alone (--iptables=false)"
    try:
        return Firewall(bridge), ""
    except OSError as error:
        return None, f"the kernel does not offer the firewall that this needs: {error}"


def element(target: Target) -> tuple[str, bytes, bytes]:
    """(map, key, data) of one published port; each part of key and data is padded to a register."""
    address, publication = target
    service = bytes((PROTOCOLS[publication.protocol], 0, 0, 0)) + struct.pack(">HH", publication.host_port, 0)
    data = IPv4Address(address).packed + struct.pack(">HH", publication.container_port, 0)
    if IPv4Address(publication.host_ip) == IPv4Address(0):
        return PUBLISHED, service, data
    return PUBLISHED_AT, IPv4Address(publication.host_ip).packed + service, data


def publish_messages(table: nft.Table, targets: Sequence[Target]) -> list[Message]:
    """The messages that add the elements, map by map."""
    messages: list[Message] = []
    for name in (PUBLISHED, PUBLISHED_AT):
        elements = [(key, data) for where, key, data in map(element, targets) if where == name]
        messages += table.add_elements(name, elements)
    return messages


def ruleset(table: nft.Table, networks: Iterable[Network], targets: Sequence[Target]) -> list[Message]:
    """The whole table as one transaction that replaces whatever was there."""
    bridges = [network for network in networks if network.device]
    messages = [
        table.add(),
        table.delete(),
        table.add(),
        table.add_set(BRIDGES, 1, nft.TYPE_IFNAME, expr.IFNAMSIZ),
        table.add_map(PUBLISHED, 2, _PROTOCOL_AND_PORT, 8, _ADDRESS_AND_PORT, 8),
        table.add_map(PUBLISHED_AT, 3, _ADDRESS_PROTOCOL_AND_PORT, 12, _ADDRESS_AND_PORT, 8),
        table.add_chain("publish"),
        table.add_hook_chain("raw", "filter", nft.NF_INET_PRE_ROUTING, nft.NF_IP_PRI_RAW),
        table.add_hook_chain("prerouting", "nat", nft.NF_INET_PRE_ROUTING, nft.NF_IP_PRI_NAT_DST),
        table.add_hook_chain("output", "nat", nft.NF_INET_LOCAL_OUT, nft.NF_IP_PRI_NAT_DST),
        table.add_hook_chain("postrouting", "nat", nft.NF_INET_POST_ROUTING, nft.NF_IP_PRI_NAT_SRC),
        table.add_hook_chain("forward", "filter", nft.NF_INET_FORWARD, nft.NF_IP_PRI_FILTER),
    ]
    messages += table.add_elements(BRIDGES, [(expr.ifname(network.device), b"") for network in bridges])
    messages += _raw_rules(table)
    messages += _publish_rules(table)
    messages += _postrouting_rules(table, bridges)
    messages += _forward_rules(table, bridges)
    return messages + publish_messages(table, targets)


def _raw_rules(table: nft.Table) -> list[Message]:
    expressions = [
        expr.meta(expr.NFT_META_IIFNAME),
        expr.lookup(BRIDGES),
        expr.ip_daddr(),
        *_in(_LOOPBACK),
        expr.verdict(nft.NF_DROP),
    ]
    return [table.add_rule("raw", expressions, "no way to the host's loopback")]


def _publish_rules(table: nft.Table) -> list[Message]:
    to_container = expr.nat(expr.NFT_NAT_DNAT, nft.NFPROTO_IPV4, expr.REG32(0), expr.REG32(1))
    at_address = [
        expr.ip_daddr(expr.REG32(0)),
        expr.meta(expr.NFT_META_L4PROTO, expr.REG32(1)),
        expr.dport(expr.REG32(2)),
        expr.map_lookup(PUBLISHED_AT),
        to_container,
    ]
    at_any = [
        expr.meta(expr.NFT_META_L4PROTO, expr.REG32(0)),
        expr.dport(expr.REG32(1)),
        expr.map_lookup(PUBLISHED),
        to_container,
    ]
    enter = [*expr.fib_daddr_is_local(), expr.verdict(expr.NFT_JUMP, "publish")]
    return [
        table.add_rule("publish", at_address, "published at one address"),
        table.add_rule("publish", at_any, "published at every address"),
        table.add_rule("prerouting", enter, "to the host"),
        table.add_rule("output", enter, "from the host to itself"),
    ]


def _postrouting_rules(table: nft.Table, bridges: Sequence[Network]) -> list[Message]:
    published = expr.ct_has(expr.NFT_CT_STATUS, expr.IPS_DST_NAT)
    from_loopback = [
        expr.ip_saddr(),
        *_in(_LOOPBACK),
        expr.meta(expr.NFT_META_OIFNAME),
        expr.lookup(BRIDGES),
        *published,
        expr.masquerade(),
    ]
    messages = [table.add_rule("postrouting", from_loopback, "published port by 127.0.0.1")]
    for network in bridges:
        subnet = IPv4Network(network.subnet)
        # Without this the neighbour would answer past the host, from an address the asker did not ask.
        hairpin = [expr.ip_saddr(), *_in(subnet), expr.ip_daddr(), *_in(subnet), *published, expr.masquerade()]
        messages.append(table.add_rule("postrouting", hairpin, f"network {network.name}: hairpin"))
        if network.internal or not network.allows(OPTION_MASQUERADE):
            continue
        outward = [
            expr.ip_saddr(),
            *_in(subnet),
            expr.meta(expr.NFT_META_OIFNAME),
            expr.compare(expr.ifname(network.device), expr.NFT_CMP_NEQ),
            expr.masquerade(),
        ]
        messages.append(table.add_rule("postrouting", outward, f"network {network.name}: outward"))
    return messages


def _forward_rules(table: nft.Table, bridges: Sequence[Network]) -> list[Message]:
    into = [expr.meta(expr.NFT_META_OIFNAME), expr.lookup(BRIDGES)]
    answers = expr.ct_has(expr.NFT_CT_STATE, expr.CT_STATE_ESTABLISHED | expr.CT_STATE_RELATED)
    messages = [table.add_rule("forward", [*into, *answers, expr.verdict(nft.NF_ACCEPT)], "answers")]
    for network in bridges:
        came = [expr.meta(expr.NFT_META_IIFNAME), expr.compare(expr.ifname(network.device))]
        goes = [expr.meta(expr.NFT_META_OIFNAME), expr.compare(expr.ifname(network.device))]
        among = expr.verdict(nft.NF_ACCEPT if network.allows(OPTION_ICC) else nft.NF_DROP)
        messages.append(table.add_rule("forward", [*came, *goes, among], f"network {network.name}: members"))
        if network.internal:
            drop = expr.verdict(nft.NF_DROP)
            messages.append(table.add_rule("forward", [*came, drop], f"network {network.name}: internal"))
            messages.append(table.add_rule("forward", [*goes, drop], f"network {network.name}: internal"))
    published = expr.ct_has(expr.NFT_CT_STATUS, expr.IPS_DST_NAT)
    messages.append(table.add_rule("forward", [*into, *published, expr.verdict(nft.NF_ACCEPT)], "published ports"))
    messages.append(table.add_rule("forward", [*into, expr.verdict(nft.NF_DROP)], "no other way into a bridge"))
    return messages


def _in(subnet: IPv4Network) -> tuple[bytes, ...]:
    return expr.in_subnet(subnet.network_address.packed, subnet.prefixlen)
