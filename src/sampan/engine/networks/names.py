"""What the embedded DNS server says of a container's neighbours: Docker's rules, a pure function of the query.

On a user-defined network a container is known by its name, its aliases, its short id and its hostname, each also as
NAME.NETWORK; an address leads back to the name. The default bridge has no names. Everything else is asked of the
name servers that the container would have without us. Sources: RFC 1035, RFC 6891 (EDNS), RFC 8020 (a name that has no
record of the asked type exists all the same).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import msgspec
from dnslib import EDNS0, PTR, QTYPE, RCODE, RR, A, DNSRecord
from dnslib.dns import DNSError
from dnslib.label import DNSLabelError

TTL = 600
_ARPA = ".in-addr.arpa"
_PLAIN_SIZE = 512
_OWN_SIZE = 1232
"""The largest answer that is sent unfragmented over any link (DNS flag day 2020)."""


class Member(msgspec.Struct, frozen=True):
    """A container in a network, under every name that it has there, in lower case; the first is its own."""

    names: tuple[str, ...]
    network: str
    address: str


def parse(query: bytes) -> DNSRecord:
    """ValueError for what is no query with one question."""
    try:
        record = DNSRecord.parse(query)
    except (DNSError, DNSLabelError, ValueError, IndexError) as error:
        raise ValueError(f"not a DNS message: {error}") from None
    if record.header.qr or len(record.questions) != 1:
        raise ValueError("not a DNS query")
    return record


def answer(query: DNSRecord, known: Iterable[Member]) -> DNSRecord | None:
    """The reply, or None for a name that is not ours to know. Several addresses come in random order."""
    name = str(query.q.qname).rstrip(".").lower()
    if name.endswith(_ARPA):
        records = _pointers(query, name, known)
        return _reply(query, records) if records else None
    addresses = sorted({member.address for member in known if _is_called(member, name)})
    if not addresses:
        return None
    random.shuffle(addresses)
    if query.q.qtype not in (QTYPE.A, QTYPE.ANY):
        addresses = []  # it exists, and has nothing of that kind
    return _reply(query, [RR(query.q.qname, QTYPE.A, ttl=TTL, rdata=A(address)) for address in addresses])


def failure(query: DNSRecord) -> DNSRecord:
    """The reply when nobody who was asked has answered: SERVFAIL."""
    reply = _reply(query, [])
    reply.header.rcode = RCODE.SERVFAIL
    return reply


def datagram(query: DNSRecord, reply: DNSRecord) -> bytes:
    """The reply as it fits into what the asker takes by UDP; a longer one is cut, and says so: it asks again by TCP."""
    size = max([_PLAIN_SIZE, *(record.edns_len for record in query.ar if record.rtype == QTYPE.OPT)])
    packed: bytes = reply.pack()
    return packed if len(packed) <= size else bytes(reply.truncate().pack())


def _is_called(member: Member, name: str) -> bool:
    if name in member.names:
        return True
    first, _, network = name.rpartition(f".{member.network.lower()}")
    return not network and first in member.names


def _pointers(query: DNSRecord, name: str, known: Iterable[Member]) -> list[RR]:
    address = ".".join(reversed(name.removesuffix(_ARPA).split(".")))
    targets = [f"{member.names[0]}.{member.network}" for member in known if member.address == address]
    if query.q.qtype not in (QTYPE.PTR, QTYPE.ANY):
        return []
    return [RR(query.q.qname, QTYPE.PTR, ttl=TTL, rdata=PTR(target)) for target in targets]


def _reply(query: DNSRecord, records: Sequence[RR]) -> DNSRecord:
    reply = query.reply(ra=1, aa=0)
    for record in records:
        reply.add_answer(record)
    if any(record.rtype == QTYPE.OPT for record in query.ar):
        reply.add_ar(EDNS0(udp_len=_OWN_SIZE))
    return reply
