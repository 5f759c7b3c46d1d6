"""nftables messages: numbers in network order, lists in chunks, comments where nft(8) looks for them."""

from __future__ import annotations

import struct

from sampan.linux.netlink import message
from sampan.linux.netlink import nftables as nft


def test_a_concatenated_type_has_six_bits_for_each_part() -> None:
    assert nft.concatenation(nft.TYPE_INET_PROTOCOL, nft.TYPE_INET_SERVICE) == 12 << 6 | 13


def test_a_hook_chain_says_where_it_hooks() -> None:
    request = nft.Table("t").add_hook_chain("pre", "nat", nft.NF_INET_PRE_ROUTING, nft.NF_IP_PRI_NAT_DST)
    assert request.body[:4] == bytes((nft.NFPROTO_IPV4, 0, 0, 0))
    found = message.parse_attributes(request.body, 4)
    hook = message.parse_attributes(found[nft.NFTA_CHAIN_HOOK])
    assert hook[nft.NFTA_HOOK_PRIORITY] == struct.pack(">i", -100)
    assert message.text_of(found[nft.NFTA_CHAIN_TYPE]) == "nat"


def test_a_rule_carries_its_reason_to_the_kernel_and_into_errors() -> None:
    request = nft.Table("t").add_rule("pre", [b"abcd"], "port 80")
    found = message.parse_attributes(request.body, 4)
    assert found[nft.NFTA_RULE_USERDATA] == b"\x00\x08port 80\0"
    assert request.name == 'NEWRULE in "pre" (port 80)'


def test_a_long_reason_is_cut_to_what_the_kernel_keeps() -> None:
    request = nft.Table("t").add_rule("pre", [], "x" * 300)
    assert len(message.parse_attributes(request.body, 4)[nft.NFTA_RULE_USERDATA]) == 2 + 127 + 1


def test_many_elements_become_several_messages() -> None:
    elements = [(struct.pack(">I", number), b"") for number in range(1300)]
    messages = nft.Table("t").add_elements("s", elements)
    keys = []
    for request in messages:
        listing = message.parse_attributes(request.body, 4)[nft.NFTA_SET_ELEM_LIST_ELEMENTS]
        for _kind, payload in message.walk_attributes(listing):
            key = message.parse_attributes(payload)[nft.NFTA_SET_ELEM_KEY]
            keys.append(message.parse_attributes(key)[nft.NFTA_DATA_VALUE])
    assert len(messages) == 3
    assert keys == [key for key, _data in elements]


def test_no_elements_are_no_message() -> None:
    assert nft.Table("t").add_elements("s", []) == []
