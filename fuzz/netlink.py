"""Netlink datagrams: lengths inside lengths."""

from __future__ import annotations

from random import Random

from sampan.linux.netlink import message

_ATTRIBUTES = (
    message.string(3, "eth0") + message.nested(18, message.string(1, "veth"), message.u32(2, 7)) + message.be32(4, 1)
)
_LINK = message.Message(16, 0, bytes(16) + _ATTRIBUTES, "link").encode(1)
_ACK = message.Message(
    2, message.NLM_F_ACK_TLVS, bytes(4) + _LINK[:16] + message.string(1, "no such device"), "ack"
).encode(2)
SEEDS = [_LINK, _LINK + _ACK, _ACK]
ERRORS = (ValueError,)


def feed(data: bytes, random: Random) -> None:
    """Messages, their attributes, and the attributes in those."""
    for reply in message.split_messages(data):
        message.extended_ack_text(reply.body, reply.flags)
        for _, payload in message.walk_attributes(reply.body, 16):
            message.text_of(payload)
            try:
                message.parse_attributes(payload)
            except ValueError:
                continue
