"""The bytes of netlink: message headers and attributes. Pure; sources: netlink(7), linux/netlink.h.

A message to send is a `Message` value: type, flags, body and the words that name it in an error. Attributes are
made by the functions named after their payload and joined with `+`; `parse_attributes` takes them apart again.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSG_MIN_TYPE = 0x10

NLM_F_REQUEST = 0x01
NLM_F_MULTI = 0x02
NLM_F_ACK = 0x04
NLM_F_DUMP_INTR = 0x10
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLM_F_ROOT = 0x100
NLM_F_MATCH = 0x200
NLM_F_DUMP = NLM_F_ROOT | NLM_F_MATCH
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

NLMSGERR_ATTR_MSG = 1
NLMSGERR_ATTR_OFFS = 2

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")


class Message:
    """A request. `body` is the family header with its attributes; `name` is for errors: `RTM_NEWLINK "eth0"`."""

    __slots__ = ("body", "flags", "name", "type")

    def __init__(self, kind: int, flags: int, body: bytes, name: str) -> None:
        self.type = kind
        self.flags = flags
        self.body = body
        self.name = name

    def encode(self, sequence: int, flags: int = 0) -> bytes:
        """The whole message, padded to four bytes; `flags` are added to its own."""
        size = HEADER.size + len(self.body)
        header = HEADER.pack(size, self.type, self.flags | flags, sequence, 0)
        return header + self.body + bytes(-size % 4)


class Reply:
    """A received message without its header."""

    __slots__ = ("body", "flags", "sequence", "type")

    def __init__(self, kind: int, flags: int, sequence: int, body: bytes) -> None:
        self.type = kind
        self.flags = flags
        self.sequence = sequence
        self.body = body


def split_messages(data: bytes) -> Iterator[Reply]:
    """The messages of one received datagram. ValueError when a length does not fit."""
    offset = 0
    while offset < len(data):
        if len(data) - offset < HEADER.size:
            raise ValueError("netlink message is shorter than its header")
        size, kind, flags, sequence, _port = HEADER.unpack_from(data, offset)
        if size < HEADER.size or offset + size > len(data):
            raise ValueError("netlink message length is out of bounds")
        yield Reply(kind, flags, sequence, data[offset + HEADER.size : offset + size])
        offset += size + (-size % 4)


def parse_attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Attribute type (flag bits removed) to payload; the last of equal types wins. ValueError on a bad length."""
    return dict(walk_attributes(data, offset))


def walk_attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Each attribute in order, for lists in which the type repeats."""
    while offset < len(data):
        if len(data) - offset < _ATTRIBUTE.size:
            raise ValueError("netlink attribute is shorter than its header")
        size, kind = _ATTRIBUTE.unpack_from(data, offset)
        if size < _ATTRIBUTE.size or offset + size > len(data):
            raise ValueError("netlink attribute length is out of bounds")
        yield kind & NLA_TYPE_MASK, data[offset + _ATTRIBUTE.size : offset + size]
        offset += size + (-size % 4)


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute with its padding. ValueError when the payload does not fit into sixteen bits."""
    size = _ATTRIBUTE.size + len(payload)
    if size > 0xFFFF:
        raise ValueError("netlink attribute is longer than 65535 bytes")
    return _ATTRIBUTE.pack(size, kind) + payload + bytes(-size % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def string(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(1, "little"))


def u32(kind: int, value: int) -> bytes:
    """In the machine's byte order, as route netlink has it."""
    return attribute(kind, struct.pack("=I", value))


def be32(kind: int, value: int) -> bytes:
    """In network byte order, as nftables has it."""
    return attribute(kind, struct.pack(">I", value))


def be64(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack(">Q", value))


def text_of(payload: bytes) -> str:
    """A string attribute's text, without its terminating NUL."""
    return payload.partition(b"\0")[0].decode(errors="replace")


def extended_ack_text(body: bytes, flags: int) -> str:
    """The kernel's own words in an NLMSG_ERROR body (NETLINK_EXT_ACK), or ""."""
    if not flags & NLM_F_ACK_TLVS or len(body) < 4 + HEADER.size:
        return ""
    # A capped reply carries only the request's header, an uncapped one the whole request, before the attributes.
    start = 4 + HEADER.size
    if not flags & NLM_F_CAPPED:
        size: int = HEADER.unpack_from(body, 4)[0]
        start = 4 + size + (-size % 4)
    try:
        return text_of(parse_attributes(body, start).get(NLMSGERR_ATTR_MSG, b""))
    except ValueError:
        return ""
