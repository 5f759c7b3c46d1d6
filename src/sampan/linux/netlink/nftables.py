"""nftables objects as message tables: tables, chains, rules, sets and maps. Sources: nft(8),
linux/netfilter/nf_tables.h. The expressions inside a rule are in `nftables_expressions`.

Functions named after a verb yield a `Message`; `transact` sends a list of them as one transaction, which the kernel
performs entirely or not at all.
"""

from __future__ import annotations

import struct

from sampan.linux.netlink.connection import NetlinkSocket
from sampan.linux.netlink.message import (
    NLA_F_NESTED,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    Message,
    Reply,
    attribute,
    be32,
    be64,
    nested,
    parse_attributes,
    string,
    text_of,
    walk_attributes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NFPROTO_INET = 1
NFPROTO_IPV4 = 2
NFPROTO_IPV6 = 10

NF_INET_PRE_ROUTING = 0
NF_INET_LOCAL_IN = 1
NF_INET_FORWARD = 2
NF_INET_LOCAL_OUT = 3
NF_INET_POST_ROUTING = 4

NF_IP_PRI_RAW = -300
NF_IP_PRI_NAT_DST = -100
NF_IP_PRI_FILTER = 0
NF_IP_PRI_NAT_SRC = 100

NF_DROP = 0
NF_ACCEPT = 1

NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN = 0x10
NFNL_MSG_BATCH_END = 0x11

_SUBSYSTEM = NFNL_SUBSYS_NFTABLES << 8
NFT_MSG_NEWTABLE = _SUBSYSTEM | 0
NFT_MSG_GETTABLE = _SUBSYSTEM | 1
NFT_MSG_DELTABLE = _SUBSYSTEM | 2
NFT_MSG_NEWCHAIN = _SUBSYSTEM | 3
NFT_MSG_GETCHAIN = _SUBSYSTEM | 4
NFT_MSG_DELCHAIN = _SUBSYSTEM | 5
NFT_MSG_NEWRULE = _SUBSYSTEM | 6
NFT_MSG_GETRULE = _SUBSYSTEM | 7
NFT_MSG_DELRULE = _SUBSYSTEM | 8
NFT_MSG_NEWSET = _SUBSYSTEM | 9
NFT_MSG_GETSET = _SUBSYSTEM | 10
NFT_MSG_DELSET = _SUBSYSTEM | 11
NFT_MSG_NEWSETELEM = _SUBSYSTEM | 12
NFT_MSG_GETSETELEM = _SUBSYSTEM | 13
NFT_MSG_DELSETELEM = _SUBSYSTEM | 14

NFTA_TABLE_NAME = 1
NFTA_CHAIN_TABLE, NFTA_CHAIN_HANDLE, NFTA_CHAIN_NAME, NFTA_CHAIN_HOOK = 1, 2, 3, 4
NFTA_CHAIN_POLICY, NFTA_CHAIN_TYPE = 5, 7
NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY = 1, 2
NFTA_RULE_TABLE, NFTA_RULE_CHAIN, NFTA_RULE_HANDLE, NFTA_RULE_EXPRESSIONS = 1, 2, 3, 4
NFTA_RULE_USERDATA = 7
NFTA_LIST_ELEM = 1
NFTA_EXPR_NAME = 1
NFTA_SET_TABLE, NFTA_SET_NAME, NFTA_SET_FLAGS, NFTA_SET_KEY_TYPE, NFTA_SET_KEY_LEN = 1, 2, 3, 4, 5
NFTA_SET_DATA_TYPE, NFTA_SET_DATA_LEN, NFTA_SET_ID, NFTA_SET_USERDATA = 6, 7, 10, 13
NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET, NFTA_SET_ELEM_LIST_ELEMENTS = 1, 2, 3
NFTA_SET_ELEM_KEY, NFTA_SET_ELEM_DATA = 1, 2
NFTA_DATA_VALUE = 1

NFT_SET_MAP = 0x8
# udata of a rule: type, length, text with NUL; type 0 is the comment that `nft list` prints.
NFTNL_UDATA_RULE_COMMENT = 0
_COMMENT_LIMIT = 127
# udata of a set: without the key's byte order nft(8) prints link names as empty strings.
NFTNL_UDATA_SET_KEYBYTEORDER = 0
_BYTEORDER_HOST_ENDIAN = 1
_BYTEORDER_BIG_ENDIAN = 2
# Attributes hold at most 64 kB; an element of ours is below 80 bytes.
_ELEMENTS_PER_MESSAGE = 512

# The numbers by which nft(8) names data types when it lists a set (nft's datatype.h); the kernel only keeps them.
TYPE_IPADDR = 7
TYPE_INET_PROTOCOL = 12
TYPE_INET_SERVICE = 13
TYPE_IFNAME = 41


def concatenation(*types: int) -> int:
    """The number of a concatenated data type: six bits for each part."""
    number = 0
    for part in types:
        number = number << 6 | part
    return number


class Rule:
    """A rule as dumped: its handle, its comment, and the names of its expressions in order."""

    __slots__ = ("chain", "comment", "expressions", "handle")

    def __init__(self, chain: str, handle: int, comment: str, expressions: tuple[str, ...]) -> None:
        self.chain = chain
        self.handle = handle
        self.comment = comment
        self.expressions = expressions


def transact(connection: NetlinkSocket, messages: Sequence[Message]) -> None:
    """Perform all of `messages`, or none. OSError names the one that the kernel refused."""
    header = struct.pack(">BBH", 0, 0, NFNL_SUBSYS_NFTABLES)
    begin = Message(NFNL_MSG_BATCH_BEGIN, 0, header, "NFNL_MSG_BATCH_BEGIN")
    end = Message(NFNL_MSG_BATCH_END, 0, header, "NFNL_MSG_BATCH_END")
    connection.perform_batch(begin, messages, end)


class Table:
    """The messages about one table: a name and a family, no state."""

    __slots__ = ("_header", "family", "name")

    def __init__(self, name: str, family: int = NFPROTO_IPV4) -> None:
        self.name = name
        self.family = family
        self._header = struct.pack(">BBH", family, 0, 0)

    def _message(self, kind: int, flags: int, body: bytes, what: str) -> Message:
        return Message(kind, flags, self._header + body, what)

    def add(self) -> Message:
        """No error when it is there: `delete` after it never fails, so both together empty it."""
        return self._message(
            NFT_MSG_NEWTABLE, NLM_F_CREATE, string(NFTA_TABLE_NAME, self.name), f'NEWTABLE "{self.name}"'
        )

    def delete(self) -> Message:
        """With all that it holds. ENOENT when there is none."""
        return self._message(NFT_MSG_DELTABLE, 0, string(NFTA_TABLE_NAME, self.name), f'DELTABLE "{self.name}"')

    def add_chain(self, chain: str) -> Message:
        """A regular chain: only jumps lead into it."""
        body = string(NFTA_CHAIN_TABLE, self.name) + string(NFTA_CHAIN_NAME, chain)
        return self._message(NFT_MSG_NEWCHAIN, NLM_F_CREATE, body, f'NEWCHAIN "{chain}"')

    def add_hook_chain(self, chain: str, kind: str, hook: int, priority: int, policy: int = NF_ACCEPT) -> Message:
        """A base chain of type `kind` (filter, nat, route) at a hook."""
        body = string(NFTA_CHAIN_TABLE, self.name) + string(NFTA_CHAIN_NAME, chain)
        body += nested(
            NFTA_CHAIN_HOOK,
            be32(NFTA_HOOK_HOOKNUM, hook),
            be32(NFTA_HOOK_PRIORITY, priority & 0xFFFFFFFF),
        )
        body += be32(NFTA_CHAIN_POLICY, policy) + string(NFTA_CHAIN_TYPE, kind)
        return self._message(NFT_MSG_NEWCHAIN, NLM_F_CREATE, body, f'NEWCHAIN "{chain}"')

    def delete_chain(self, chain: str) -> Message:
        body = string(NFTA_CHAIN_TABLE, self.name) + string(NFTA_CHAIN_NAME, chain)
        return self._message(NFT_MSG_DELCHAIN, 0, body, f'DELCHAIN "{chain}"')

    def add_rule(self, chain: str, expressions: Sequence[bytes], comment: str = "") -> Message:
        """At the end of the chain. `comment` says who asked for the rule, in `nft list` and in an error."""
        body = string(NFTA_RULE_TABLE, self.name) + string(NFTA_RULE_CHAIN, chain)
        body += nested(NFTA_RULE_EXPRESSIONS, *[attribute(NFTA_LIST_ELEM | NLA_F_NESTED, each) for each in expressions])
        if comment:
            text = comment.encode()[:_COMMENT_LIMIT] + b"\0"
            body += attribute(NFTA_RULE_USERDATA, bytes((NFTNL_UDATA_RULE_COMMENT, len(text))) + text)
        name = f'NEWRULE in "{chain}" ({comment})'
        return self._message(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, body, name)

    def delete_rule(self, chain: str, handle: int) -> Message:
        """ENOENT when there is no rule of that handle."""
        body = string(NFTA_RULE_TABLE, self.name) + string(NFTA_RULE_CHAIN, chain)
        body += be64(NFTA_RULE_HANDLE, handle)
        return self._message(NFT_MSG_DELRULE, 0, body, f'DELRULE {handle} in "{chain}"')

    def flush_chain(self, chain: str) -> Message:
        """Delete all rules of the chain."""
        body = string(NFTA_RULE_TABLE, self.name) + string(NFTA_RULE_CHAIN, chain)
        return self._message(NFT_MSG_DELRULE, 0, body, f'DELRULE in "{chain}"')

    def add_set(self, name: str, identity: int, key_type: int, key_len: int) -> Message:
        """A set. `identity` is any number unique in the transaction; lengths in bytes, parts padded to four."""
        return self._message(
            NFT_MSG_NEWSET,
            NLM_F_CREATE | NLM_F_EXCL,
            self._set_body(name, identity, key_type, key_len, 0),
            f'NEWSET "{name}"',
        )

    def add_map(self, name: str, identity: int, key_type: int, key_len: int, data_type: int, data_len: int) -> Message:
        """A set whose elements carry data of another type."""
        body = self._set_body(name, identity, key_type, key_len, NFT_SET_MAP)
        body += be32(NFTA_SET_DATA_TYPE, data_type) + be32(NFTA_SET_DATA_LEN, data_len)
        return self._message(NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL, body, f'NEWSET "{name}"')

    def _set_body(self, name: str, identity: int, key_type: int, key_len: int, flags: int) -> bytes:
        body = string(NFTA_SET_TABLE, self.name) + string(NFTA_SET_NAME, name)
        body += be32(NFTA_SET_FLAGS, flags) + be32(NFTA_SET_ID, identity)
        body += be32(NFTA_SET_KEY_TYPE, key_type) + be32(NFTA_SET_KEY_LEN, key_len)
        order = _BYTEORDER_HOST_ENDIAN if key_type == TYPE_IFNAME else _BYTEORDER_BIG_ENDIAN
        return body + attribute(NFTA_SET_USERDATA, struct.pack("=BBI", NFTNL_UDATA_SET_KEYBYTEORDER, 4, order))

    def add_elements(self, name: str, elements: Sequence[tuple[bytes, bytes]]) -> list[Message]:
        """Into a set or map: (key, data), data empty in a set. EEXIST when a key is there."""
        return self._elements(NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, "NEWSETELEM", name, elements)

    def delete_elements(self, name: str, keys: Sequence[bytes]) -> list[Message]:
        """ENOENT when one is not there."""
        return self._elements(NFT_MSG_DELSETELEM, 0, "DELSETELEM", name, [(key, b"") for key in keys])

    def _elements(
        self, kind: int, flags: int, verb: str, name: str, elements: Sequence[tuple[bytes, bytes]]
    ) -> list[Message]:
        messages = []
        for start in range(0, len(elements), _ELEMENTS_PER_MESSAGE):
            body = string(NFTA_SET_ELEM_LIST_TABLE, self.name) + string(NFTA_SET_ELEM_LIST_SET, name)
            chunk = elements[start : start + _ELEMENTS_PER_MESSAGE]
            body += nested(NFTA_SET_ELEM_LIST_ELEMENTS, *[_element(key, data) for key, data in chunk])
            messages.append(self._message(kind, flags, body, f'{verb} in "{name}"'))
        return messages

    def exists(self, connection: NetlinkSocket) -> bool:
        body = string(NFTA_TABLE_NAME, self.name)
        try:
            connection.ask(self._message(NFT_MSG_GETTABLE, 0, body, f'GETTABLE "{self.name}"'))
        except FileNotFoundError:
            return False
        return True

    def rules(self, connection: NetlinkSocket) -> list[Rule]:
        """All rules of the table, chain by chain, in order."""
        body = string(NFTA_RULE_TABLE, self.name)
        request = self._message(NFT_MSG_GETRULE, 0, body, f'GETRULE "{self.name}"')
        return [rule for rule in map(self._parse_rule, connection.dump(request)) if rule is not None]

    def _parse_rule(self, reply: Reply) -> Rule | None:
        attributes = parse_attributes(reply.body, 4)
        if text_of(attributes.get(NFTA_RULE_TABLE, b"")) != self.name:
            return None
        names = tuple(
            text_of(parse_attributes(payload).get(NFTA_EXPR_NAME, b""))
            for _kind, payload in walk_attributes(attributes.get(NFTA_RULE_EXPRESSIONS, b""))
        )
        handle = int.from_bytes(attributes.get(NFTA_RULE_HANDLE, b""), "big")
        comment = text_of(attributes.get(NFTA_RULE_USERDATA, b"")[2:])
        return Rule(text_of(attributes.get(NFTA_RULE_CHAIN, b"")), handle, comment, names)

    def elements(self, connection: NetlinkSocket, name: str) -> Iterator[tuple[bytes, bytes]]:
        """(key, data) of each element of a set or map. ENOENT when there is no such set."""
        body = string(NFTA_SET_ELEM_LIST_TABLE, self.name) + string(NFTA_SET_ELEM_LIST_SET, name)
        request = self._message(NFT_MSG_GETSETELEM, 0, body, f'GETSETELEM "{name}"')
        for reply in connection.dump(request):
            listing = parse_attributes(reply.body, 4).get(NFTA_SET_ELEM_LIST_ELEMENTS, b"")
            for _kind, payload in walk_attributes(listing):
                parts = parse_attributes(payload)
                key = parse_attributes(parts.get(NFTA_SET_ELEM_KEY, b"")).get(NFTA_DATA_VALUE, b"")
                data = parse_attributes(parts.get(NFTA_SET_ELEM_DATA, b"")).get(NFTA_DATA_VALUE, b"")
                yield key, data


def tables(connection: NetlinkSocket, family: int = NFPROTO_IPV4) -> list[str]:
    """Names of the tables of a family."""
    request = Message(NFT_MSG_GETTABLE, 0, struct.pack(">BBH", family, 0, 0), "GETTABLE")
    found = []
    for reply in connection.dump(request):
        found.append(text_of(parse_attributes(reply.body, 4).get(NFTA_TABLE_NAME, b"")))
    return found


def _element(key: bytes, data: bytes) -> bytes:
    body = nested(NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, key))
    if data:
        body += nested(NFTA_SET_ELEM_DATA, attribute(NFTA_DATA_VALUE, data))
    return nested(NFTA_LIST_ELEM, body)
