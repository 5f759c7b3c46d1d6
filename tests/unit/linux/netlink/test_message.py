"""Headers and attributes of netlink: what is encoded is found again, and garbage is a ValueError."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.linux.netlink import message


def test_a_message_carries_its_length_and_is_padded_to_four_bytes() -> None:
    data = message.Message(16, message.NLM_F_CREATE, b"abcde", "x").encode(7, message.NLM_F_REQUEST)
    assert data == struct.pack("=IHHII", 21, 16, 0x401, 7, 0) + b"abcde\0\0\0"


def test_messages_of_one_datagram_are_split_again() -> None:
    first = message.Message(16, 0, b"abcde", "x").encode(1)
    second = message.Message(17, 2, b"", "y").encode(2)
    found = [(reply.type, reply.flags, reply.sequence, reply.body) for reply in message.split_messages(first + second)]
    assert found == [(16, 0, 1, b"abcde"), (17, 2, 2, b"")]


def test_a_nested_attribute_holds_its_children() -> None:
    data = message.nested(5, message.u32(1, 9), message.string(2, "eth0"))
    (outer,) = message.walk_attributes(data)
    assert outer[0] == 5
    inner = message.parse_attributes(outer[1])
    assert inner[1] == struct.pack("=I", 9)
    assert message.text_of(inner[2]) == "eth0"


def test_numbers_for_nftables_are_in_network_byte_order() -> None:
    assert message.be32(1, 1) == struct.pack("=HH", 8, 1) + b"\0\0\0\1"
    assert message.be64(1, 1) == struct.pack("=HH", 12, 1) + b"\0\0\0\0\0\0\0\1"


def test_a_payload_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 65535"):
        message.attribute(1, bytes(65532))


@given(st.lists(st.tuples(st.integers(0, message.NLA_TYPE_MASK), st.binary(max_size=40))))
def test_attributes_survive_encoding(attributes: list[tuple[int, bytes]]) -> None:
    data = b"".join(message.attribute(kind, payload) for kind, payload in attributes)
    assert list(message.walk_attributes(data)) == attributes


@given(st.binary(max_size=200))
def test_garbage_is_read_or_is_a_value_error(data: bytes) -> None:
    for read in (message.walk_attributes, message.split_messages):
        try:
            list(read(data))
        except ValueError:
            pass


@pytest.mark.parametrize("capped", [True, False], ids=["capped", "with the request"])
def test_the_kernels_own_words_are_found_in_an_error(capped: bool) -> None:
    request = b"" if capped else b"12345678"
    head = struct.pack("=iIHHII", -22, 16 + len(request), 16, 5, 1, 0) + request
    flags = message.NLM_F_ACK_TLVS | (message.NLM_F_CAPPED if capped else 0)
    body = head + message.u32(message.NLMSGERR_ATTR_OFFS, 20) + message.string(message.NLMSGERR_ATTR_MSG, "no way")
    assert message.extended_ack_text(body, flags) == "no way"


def test_an_error_without_words_has_none() -> None:
    body = struct.pack("=iIHHII", -22, 16, 16, 5, 1, 0)
    assert message.extended_ack_text(body, 0) == ""
    assert message.extended_ack_text(body, message.NLM_F_ACK_TLVS | message.NLM_F_CAPPED) == ""
    assert message.extended_ack_text(body + b"\1\0", message.NLM_F_ACK_TLVS | message.NLM_F_CAPPED) == ""
