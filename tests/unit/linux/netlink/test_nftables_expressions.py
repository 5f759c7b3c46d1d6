"""Expressions: registers, masks and names as nf_tables.h wants them."""

from __future__ import annotations

import socket
import struct

import pytest

from sampan.linux.netlink import message
from sampan.linux.netlink import nftables_expressions as expr


def data_of(expression: bytes) -> tuple[str, dict[int, bytes]]:
    parts = message.parse_attributes(expression)
    return message.text_of(parts[expr.NFTA_EXPR_NAME]), message.parse_attributes(parts[expr.NFTA_EXPR_DATA])


def test_the_first_short_register_is_number_eight() -> None:
    assert [expr.REG32(0), expr.REG32(2)] == [8, 10]


def test_an_address_is_read_from_its_place_in_the_header() -> None:
    name, found = data_of(expr.ip_daddr(expr.REG32(1)))
    assert name == "payload"
    assert [int.from_bytes(found[key], "big") for key in (1, 2, 3, 4)] == [9, expr.NFT_PAYLOAD_NETWORK_HEADER, 16, 4]


def test_a_link_name_is_compared_over_all_sixteen_bytes() -> None:
    assert expr.ifname("eth0") == b"eth0" + bytes(12)


@pytest.mark.parametrize(
    ("prefix_len", "mask"), [(0, "0.0.0.0"), (8, "255.0.0.0"), (20, "255.255.240.0"), (32, "255.255.255.255")]
)
def test_a_subnet_is_tested_with_its_mask(prefix_len: int, mask: str) -> None:
    masking, comparing = expr.in_subnet(socket.inet_aton("10.0.0.0"), prefix_len)
    found = message.parse_attributes(data_of(masking)[1][expr.NFTA_BITWISE_MASK])
    assert found[expr.NFTA_DATA_VALUE] == socket.inet_aton(mask)
    assert data_of(comparing)[0] == "cmp"


def test_a_jump_names_its_chain() -> None:
    name, found = data_of(expr.verdict(expr.NFT_JUMP, "publish"))
    verdict = message.parse_attributes(
        message.parse_attributes(found[expr.NFTA_IMMEDIATE_DATA])[expr.NFTA_DATA_VERDICT]
    )
    assert name == "immediate"
    assert found[expr.NFTA_IMMEDIATE_DREG] == bytes(4)
    assert verdict[expr.NFTA_VERDICT_CODE] == struct.pack(">i", -3)
    assert message.text_of(verdict[expr.NFTA_VERDICT_CHAIN]) == "publish"


def test_dnat_without_a_port_leaves_the_port_alone() -> None:
    assert expr.NFTA_NAT_REG_PROTO_MIN not in data_of(expr.nat(expr.NFT_NAT_DNAT, 2, expr.REG32(0)))[1]
    assert expr.NFTA_NAT_REG_PROTO_MIN in data_of(expr.nat(expr.NFT_NAT_DNAT, 2, expr.REG32(0), expr.REG32(1)))[1]
