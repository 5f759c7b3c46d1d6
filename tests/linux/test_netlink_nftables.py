"""nftables on the real kernel, in a netns of the test's own, read back as messages and by nft(8)."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from tests.linux.private_netns import private_host

from sampan.linux.netlink import nftables as nft
from sampan.linux.netlink import nftables_expressions as expr
from sampan.linux.netlink.connection import NETLINK_NETFILTER, NetlinkSocket

pytestmark = pytest.mark.root

TABLE = nft.Table("sampan-test")


@pytest.fixture
def kernel() -> Iterator[NetlinkSocket]:
    with private_host(), NetlinkSocket(NETLINK_NETFILTER) as connection:
        yield connection


def listed() -> list[dict[str, Any]]:
    output = subprocess.run(["nft", "-j", "list", "ruleset"], check=True, capture_output=True).stdout
    return [entry for entry in json.loads(output)["nftables"] if "metainfo" not in entry]


def with_set() -> list[Any]:
    return [
        TABLE.add(),
        TABLE.add_set("links", 1, nft.TYPE_IFNAME, expr.IFNAMSIZ),
        TABLE.add_map(
            "ports",
            2,
            nft.concatenation(nft.TYPE_INET_PROTOCOL, nft.TYPE_INET_SERVICE),
            8,
            nft.concatenation(nft.TYPE_IPADDR, nft.TYPE_INET_SERVICE),
            8,
        ),
    ]


@pytest.mark.needs("nft")
def test_nft_reads_a_rule_as_it_was_meant(kernel: NetlinkSocket) -> None:
    nft.transact(
        kernel,
        [
            *with_set(),
            TABLE.add_chain("publish"),
            TABLE.add_hook_chain("pre", "nat", nft.NF_INET_PRE_ROUTING, nft.NF_IP_PRI_NAT_DST),
            TABLE.add_hook_chain("post", "nat", nft.NF_INET_POST_ROUTING, nft.NF_IP_PRI_NAT_SRC),
            TABLE.add_hook_chain("forward", "filter", nft.NF_INET_FORWARD, 0, nft.NF_DROP),
            TABLE.add_rule("pre", [*expr.fib_daddr_is_local(), expr.verdict(expr.NFT_JUMP, "publish")], "local"),
            TABLE.add_rule(
                "publish",
                [
                    expr.meta(expr.NFT_META_L4PROTO),
                    expr.dport(expr.REG32(1)),
                    expr.map_lookup("ports"),
                    expr.nat(expr.NFT_NAT_DNAT, nft.NFPROTO_IPV4, expr.REG32(0), expr.REG32(1)),
                ],
            ),
            TABLE.add_rule(
                "post",
                [
                    expr.ip_saddr(),
                    *expr.in_subnet(socket.inet_aton("10.213.0.0"), 16),
                    expr.meta(expr.NFT_META_OIFNAME),
                    expr.compare(expr.ifname("br9"), expr.NFT_CMP_NEQ),
                    expr.counter(),
                    expr.masquerade(),
                ],
            ),
            TABLE.add_rule(
                "forward",
                [
                    expr.meta(expr.NFT_META_IIFNAME),
                    expr.lookup("links", invert=True),
                    *expr.ct_has(expr.NFT_CT_STATE, expr.CT_STATE_ESTABLISHED | expr.CT_STATE_RELATED),
                    expr.verdict(nft.NF_ACCEPT),
                ],
            ),
        ],
    )
    text = subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True, text=True).stdout
    lines = [line.strip() for line in text.splitlines()]
    assert 'fib daddr type local jump publish comment "local"' in lines
    assert "dnat ip to meta l4proto . th dport map @ports" in lines
    assert 'ip saddr 10.213.0.0/16 oifname != "br9" counter packets 0 bytes 0 masquerade' in lines
    assert "iifname != @links ct state established,related accept" in lines
    assert "type filter hook forward priority filter; policy drop;" in lines


def test_a_transaction_is_performed_entirely_or_not_at_all(kernel: NetlinkSocket) -> None:
    with pytest.raises(FileNotFoundError, match=r'NEWRULE in "some" \(why it is there\)'):
        nft.transact(
            kernel,
            [
                TABLE.add(),
                TABLE.add_chain("some"),
                TABLE.add_rule("some", [expr.lookup("no-such-set")], "why it is there"),
            ],
        )
    assert nft.tables(kernel) == []
    assert not TABLE.exists(kernel)


def test_adding_and_deleting_a_table_empties_it_whether_it_was_there_or_not(kernel: NetlinkSocket) -> None:
    for _round in range(2):
        nft.transact(kernel, [TABLE.add(), TABLE.delete(), *with_set()])
        assert TABLE.exists(kernel)
    nft.transact(kernel, [TABLE.delete()])
    assert nft.tables(kernel) == []


def test_rules_are_deleted_by_handle(kernel: NetlinkSocket) -> None:
    accept = [expr.verdict(nft.NF_ACCEPT)]
    nft.transact(
        kernel,
        [TABLE.add(), TABLE.add_chain("some"), *[TABLE.add_rule("some", accept, name) for name in ("a", "b", "c")]],
    )
    rules = TABLE.rules(kernel)
    assert [(rule.chain, rule.comment, rule.expressions) for rule in rules] == [
        ("some", name, ("immediate",)) for name in ("a", "b", "c")
    ]
    nft.transact(kernel, [TABLE.delete_rule("some", rules[1].handle)])
    assert [rule.comment for rule in TABLE.rules(kernel)] == ["a", "c"]
    with pytest.raises(FileNotFoundError, match=f"DELRULE {rules[1].handle}"):
        nft.transact(kernel, [TABLE.delete_rule("some", rules[1].handle)])
    nft.transact(kernel, [TABLE.flush_chain("some")])
    assert TABLE.rules(kernel) == []
    nft.transact(kernel, [TABLE.delete_chain("some")])


def test_elements_come_and_go(kernel: NetlinkSocket) -> None:
    nft.transact(kernel, with_set())
    key = b"\x06\0\0\0" + struct.pack(">HH", 8080, 0)
    data = socket.inet_aton("10.213.0.2") + struct.pack(">HH", 80, 0)
    nft.transact(kernel, TABLE.add_elements("ports", [(key, data)]))
    assert list(TABLE.elements(kernel, "ports")) == [(key, data)]
    with pytest.raises(FileExistsError):
        nft.transact(kernel, TABLE.add_elements("ports", [(key, data)]))
    nft.transact(kernel, TABLE.delete_elements("ports", [key]))
    assert list(TABLE.elements(kernel, "ports")) == []
    with pytest.raises(FileNotFoundError, match='DELSETELEM in "ports"'):
        nft.transact(kernel, TABLE.delete_elements("ports", [key]))


def test_thousands_of_elements_go_in_one_transaction(kernel: NetlinkSocket) -> None:
    data = socket.inet_aton("10.213.0.2") + struct.pack(">HH", 80, 0)
    elements = [(b"\x06\0\0\0" + struct.pack(">HH", port, 0), data) for port in range(1, 5001)]
    nft.transact(kernel, [*with_set(), *TABLE.add_elements("ports", elements)])
    assert sorted(TABLE.elements(kernel, "ports")) == sorted(elements)


@pytest.mark.needs("nft")
def test_nft_prints_link_names_and_concatenations(kernel: NetlinkSocket) -> None:
    key = b"\x06\0\0\0" + struct.pack(">HH", 8080, 0)
    data = socket.inet_aton("10.213.0.2") + struct.pack(">HH", 80, 0)
    links = TABLE.add_elements("links", [(expr.ifname("br9"), b"")])
    nft.transact(kernel, [*with_set(), *links, *TABLE.add_elements("ports", [(key, data)])])
    sets = {entry["name"]: entry["elem"] for item in listed() for entry in item.values() if "elem" in entry}
    assert sets["links"] == ["br9"]
    assert sets["ports"] == [[{"concat": ["tcp", 8080]}, {"concat": ["10.213.0.2", 80]}]]
