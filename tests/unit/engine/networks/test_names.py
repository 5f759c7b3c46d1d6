"""The embedded DNS server's answers: pure, from bytes to bytes."""

from __future__ import annotations

import pytest
from dnslib import EDNS0, QTYPE, RCODE, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine.networks import names
from sampan.engine.networks.names import Member

FLEET = [
    Member(("quay", "dock", "0123456789ab"), "harbour", "10.0.0.2"),
    Member(("boat", "dock"), "Harbour", "10.0.0.3"),
    Member(("quay",), "bay", "10.1.0.2"),
]


def addresses(name: str, kind: str = "A") -> set[str] | None:
    answer = names.answer(DNSRecord.question(name, kind), FLEET)
    return None if answer is None else {str(record.rdata) for record in answer.rr}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("boat", {"10.0.0.3"}),
        ("BOAT.", {"10.0.0.3"}),
        ("boat.harbour", {"10.0.0.3"}),
        ("dock", {"10.0.0.2", "10.0.0.3"}),
        ("quay", {"10.0.0.2", "10.1.0.2"}),
        ("quay.bay", {"10.1.0.2"}),
        ("0123456789ab", {"10.0.0.2"}),
        ("boat.bay", None),
        ("harbour", None),
        ("boat.harbour.example", None),
        ("example.test", None),
        (".", None),
    ],
)
def test_a_member_is_called_by_each_of_its_names_with_or_without_the_network(name: str, found: set[str] | None) -> None:
    assert addresses(name) == found


def test_a_known_name_has_no_records_of_other_kinds() -> None:
    for kind in ("AAAA", "MX", "TXT", "HTTPS"):
        assert addresses("boat", kind) == set()


def test_an_address_leads_back_to_the_first_name() -> None:
    assert addresses("3.0.0.10.in-addr.arpa", "PTR") == {"boat.Harbour."}
    assert addresses("9.0.0.10.in-addr.arpa", "PTR") is None
    assert addresses("x.in-addr.arpa", "PTR") is None


def test_the_reply_is_to_the_question_and_says_that_recursion_is_offered() -> None:
    query = DNSRecord.question("boat")
    reply = names.answer(query, FLEET)
    assert reply is not None
    header = reply.header
    assert (header.id, header.qr, header.ra, header.aa, header.rcode) == (query.header.id, 1, 1, 0, RCODE.NOERROR)
    assert [record.ttl for record in reply.rr] == [names.TTL]
    assert reply.q == query.q


def test_edns_is_answered_with_edns_and_only_then() -> None:
    plain = DNSRecord.question("boat")
    asking = DNSRecord.question("boat")
    asking.add_ar(EDNS0(udp_len=4096))
    for query, expected in ((plain, 0), (asking, 1)):
        reply = names.answer(query, FLEET)
        assert reply is not None
        assert len([record for record in reply.ar if record.rtype == QTYPE.OPT]) == expected


def test_a_reply_too_long_for_a_datagram_is_cut_and_says_so() -> None:
    fleet = [Member(("dock",), "harbour", f"10.0.{number}.1") for number in range(200)]
    query = DNSRecord.question("dock")
    reply = names.answer(query, fleet)
    assert reply is not None and len(reply.rr) == 200
    sent = names.datagram(query, reply)
    assert len(sent) <= 512 and DNSRecord.parse(sent).header.tc == 1
    query.add_ar(EDNS0(udp_len=4096))
    whole = DNSRecord.parse(names.datagram(query, reply))
    assert whole.header.tc == 0 and len(whole.rr) == 200


def test_a_failure_is_servfail() -> None:
    assert names.failure(DNSRecord.question("x")).header.rcode == RCODE.SERVFAIL


@given(st.binary(max_size=600))
def test_any_bytes_are_a_query_or_a_value_error(data: bytes) -> None:
    try:
        query = names.parse(data)
    except ValueError:
        return
    answer = names.answer(query, FLEET)
    if answer is not None:
        names.datagram(query, answer)
    names.failure(query).pack()


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_a_mutated_query_is_a_query_or_a_value_error(at: int, junk: bytes) -> None:
    data = bytearray(DNSRecord.question("boat.harbour").pack())
    data[at % len(data) : at % len(data) + len(junk)] = junk
    try:
        query = names.parse(bytes(data))
    except ValueError:
        return
    names.answer(query, FLEET)


def test_a_reply_is_no_query() -> None:
    with pytest.raises(ValueError, match="not a DNS query"):
        names.parse(DNSRecord.question("boat").reply().pack())
