"""The expressions of which an nftables rule is made. Sources: nft(8), linux/netfilter/nf_tables.h.

Each function yields one encoded expression for `Table.add_rule`. Expressions hand values on in registers: REG32(n) is
the n-th register of four bytes, n from 0 to 15; a longer value fills several in a row. Register numbers default to
the first.
"""

from __future__ import annotations

import struct

from sampan.linux.netlink.message import attribute, be32, nested, string

NFTA_EXPR_NAME, NFTA_EXPR_DATA = 1, 2
NFTA_DATA_VALUE, NFTA_DATA_VERDICT = 1, 2
NFTA_VERDICT_CODE, NFTA_VERDICT_CHAIN = 1, 2
NFTA_META_DREG, NFTA_META_KEY = 1, 2
NFTA_CMP_SREG, NFTA_CMP_OP, NFTA_CMP_DATA = 1, 2, 3
NFTA_PAYLOAD_DREG, NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_OFFSET, NFTA_PAYLOAD_LEN = 1, 2, 3, 4
NFTA_IMMEDIATE_DREG, NFTA_IMMEDIATE_DATA = 1, 2
NFTA_LOOKUP_SET, NFTA_LOOKUP_SREG, NFTA_LOOKUP_DREG, NFTA_LOOKUP_FLAGS = 1, 2, 3, 5
NFTA_NAT_TYPE, NFTA_NAT_FAMILY, NFTA_NAT_REG_ADDR_MIN, NFTA_NAT_REG_PROTO_MIN = 1, 2, 3, 5
NFTA_CT_DREG, NFTA_CT_KEY = 1, 2
NFTA_FIB_DREG, NFTA_FIB_RESULT, NFTA_FIB_FLAGS = 1, 2, 3
NFTA_BITWISE_SREG, NFTA_BITWISE_DREG, NFTA_BITWISE_LEN, NFTA_BITWISE_MASK, NFTA_BITWISE_XOR = 1, 2, 3, 4, 5

NFT_REG_VERDICT = 0
NFT_REG32_00 = 8

NFT_JUMP = -3
NFT_GOTO = -4
NFT_RETURN = -5

NFT_META_IIFNAME = 6
NFT_META_OIFNAME = 7
NFT_META_L4PROTO = 16

NFT_CMP_EQ = 0
NFT_CMP_NEQ = 1

NFT_PAYLOAD_NETWORK_HEADER = 1
NFT_PAYLOAD_TRANSPORT_HEADER = 2

NFT_LOOKUP_F_INV = 1

NFT_NAT_SNAT = 0
NFT_NAT_DNAT = 1

NFT_CT_STATE = 0
NFT_CT_STATUS = 2
CT_STATE_ESTABLISHED = 2
CT_STATE_RELATED = 4
IPS_DST_NAT = 32

NFT_FIB_RESULT_ADDRTYPE = 3
NFTA_FIB_F_DADDR = 2
RTN_LOCAL = 2

IFNAMSIZ = 16


def REG32(number: int) -> int:
    return NFT_REG32_00 + number


def _expression(name: str, *attributes: bytes) -> bytes:
    return string(NFTA_EXPR_NAME, name) + nested(NFTA_EXPR_DATA, *attributes)


def ifname(name: str) -> bytes:
    """A link's name as meta iifname and oifname yield it: NULs up to sixteen bytes."""
    return name.encode().ljust(IFNAMSIZ, b"\0")


def meta(key: int, register: int = NFT_REG32_00) -> bytes:
    return _expression("meta", be32(NFTA_META_DREG, register), be32(NFTA_META_KEY, key))


def compare(value: bytes, operator: int = NFT_CMP_EQ, register: int = NFT_REG32_00) -> bytes:
    return _expression(
        "cmp",
        be32(NFTA_CMP_SREG, register),
        be32(NFTA_CMP_OP, operator),
        nested(NFTA_CMP_DATA, attribute(NFTA_DATA_VALUE, value)),
    )


def payload(base: int, offset: int, length: int, register: int = NFT_REG32_00) -> bytes:
    """`length` bytes at `offset` of the network or transport header."""
    return _expression(
        "payload",
        be32(NFTA_PAYLOAD_DREG, register),
        be32(NFTA_PAYLOAD_BASE, base),
        be32(NFTA_PAYLOAD_OFFSET, offset),
        be32(NFTA_PAYLOAD_LEN, length),
    )


def ip_saddr(register: int = NFT_REG32_00) -> bytes:
    return payload(NFT_PAYLOAD_NETWORK_HEADER, 12, 4, register)


def ip_daddr(register: int = NFT_REG32_00) -> bytes:
    return payload(NFT_PAYLOAD_NETWORK_HEADER, 16, 4, register)


def dport(register: int = NFT_REG32_00) -> bytes:
    """Destination port: at the same place in tcp, udp and sctp."""
    return payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, register)


def bitwise(mask: bytes, xor: bytes = b"", register: int = NFT_REG32_00) -> bytes:
    """The register becomes (itself & mask) ^ xor."""
    return _expression(
        "bitwise",
        be32(NFTA_BITWISE_SREG, register),
        be32(NFTA_BITWISE_DREG, register),
        be32(NFTA_BITWISE_LEN, len(mask)),
        nested(NFTA_BITWISE_MASK, attribute(NFTA_DATA_VALUE, mask)),
        nested(NFTA_BITWISE_XOR, attribute(NFTA_DATA_VALUE, xor or bytes(len(mask)))),
    )


def lookup(name: str, register: int = NFT_REG32_00, invert: bool = False) -> bytes:
    """The rule goes on when the register's value is in the set (or, inverted, is not)."""
    attributes = [string(NFTA_LOOKUP_SET, name), be32(NFTA_LOOKUP_SREG, register)]
    if invert:
        attributes.append(be32(NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV))
    return _expression("lookup", *attributes)


def map_lookup(name: str, register: int = NFT_REG32_00, into: int = NFT_REG32_00) -> bytes:
    """The rule goes on, with the element's data in `into`, when the register's value is a key of the map."""
    return _expression(
        "lookup",
        string(NFTA_LOOKUP_SET, name),
        be32(NFTA_LOOKUP_SREG, register),
        be32(NFTA_LOOKUP_DREG, into),
    )


def immediate(value: bytes, register: int = NFT_REG32_00) -> bytes:
    return _expression(
        "immediate",
        be32(NFTA_IMMEDIATE_DREG, register),
        nested(NFTA_IMMEDIATE_DATA, attribute(NFTA_DATA_VALUE, value)),
    )


def verdict(code: int, chain: str = "") -> bytes:
    """NF_ACCEPT, NF_DROP, NFT_RETURN, or NFT_JUMP and NFT_GOTO with a chain."""
    parts = [be32(NFTA_VERDICT_CODE, code & 0xFFFFFFFF)]
    if chain:
        parts.append(string(NFTA_VERDICT_CHAIN, chain))
    return _expression(
        "immediate",
        be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT),
        nested(NFTA_IMMEDIATE_DATA, nested(NFTA_DATA_VERDICT, *parts)),
    )


def nat(kind: int, family: int, address: int, port: int | None = None) -> bytes:
    """NFT_NAT_DNAT or NFT_NAT_SNAT to the address (and port) in the given registers."""
    attributes = [
        be32(NFTA_NAT_TYPE, kind),
        be32(NFTA_NAT_FAMILY, family),
        be32(NFTA_NAT_REG_ADDR_MIN, address),
    ]
    if port is not None:
        attributes.append(be32(NFTA_NAT_REG_PROTO_MIN, port))
    return _expression("nat", *attributes)


def masquerade() -> bytes:
    return _expression("masq")


def counter() -> bytes:
    return _expression("counter")


def ct(key: int, register: int = NFT_REG32_00) -> bytes:
    return _expression("ct", be32(NFTA_CT_DREG, register), be32(NFTA_CT_KEY, key))


def ct_has(key: int, bits: int) -> tuple[bytes, ...]:
    """The rule goes on when the connection's state or status has one of the bits."""
    return ct(key), bitwise(struct.pack("=I", bits)), compare(bytes(4), NFT_CMP_NEQ)


def fib_daddr_is_local() -> tuple[bytes, ...]:
    """The rule goes on when the destination is one of this netns' own addresses."""
    return (
        _expression(
            "fib",
            be32(NFTA_FIB_DREG, NFT_REG32_00),
            be32(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE),
            be32(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR),
        ),
        compare(struct.pack("=I", RTN_LOCAL)),
    )


def in_subnet(address: bytes, prefix_len: int, register: int = NFT_REG32_00) -> tuple[bytes, ...]:
    """The rule goes on when the IPv4 address in the register is in the subnet."""
    mask = struct.pack(">I", 0xFFFFFFFF << (32 - prefix_len) & 0xFFFFFFFF)
    return bitwise(mask, register=register), compare(address, register=register)
