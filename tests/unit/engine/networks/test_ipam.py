"""Docker's default IPAM rules: which pool, which gateway, which address, which MAC."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine.networks import ipam
from sampan.errors import Conflict, Error, Forbidden, InvalidArgument

SUBNET = IPv4Network("10.1.0.0/29")


def test_the_first_free_pool_is_chosen() -> None:
    pools = (("10.1.0.0/16", 16), ("10.2.0.0/15", 16))
    assert str(ipam.choose_pool(pools, [])) == "10.1.0.0/16"
    assert str(ipam.choose_pool(pools, [IPv4Network("10.1.5.0/24"), IPv4Network("10.0.0.0/14")][:1])) == "10.2.0.0/16"
    assert str(ipam.choose_pool(pools, [IPv4Network("10.1.5.0/24"), IPv4Network("10.2.0.0/24")])) == "10.3.0.0/16"


def test_no_free_pool_is_said_in_dockers_words() -> None:
    with pytest.raises(Error, match="all predefined address pools have been fully subnetted"):
        ipam.choose_pool((("10.1.0.0/16", 16),), [IPv4Network("10.0.0.0/8")])


def test_an_overlapping_pool_is_forbidden() -> None:
    with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
        ipam.check_pool(SUBNET, [IPv4Network("10.1.0.0/16")])
    ipam.check_pool(SUBNET, [IPv4Network("10.2.0.0/16")])


@pytest.mark.parametrize("text", ["10.1.0.0", "10.1.0.0/33", "nonsense/8", "", "::1/64"])
def test_a_malformed_subnet_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid CIDR address"):
        ipam.parse_subnet(text)


def test_host_bits_of_a_subnet_are_cut_off() -> None:
    assert str(ipam.parse_subnet("10.1.2.3/16")) == "10.1.0.0/16"


def test_the_gateway_is_the_first_host_or_the_first_of_the_range() -> None:
    assert str(ipam.choose_gateway(IPv4Network("10.1.0.0/16"), None)) == "10.1.0.1"
    assert str(ipam.choose_gateway(IPv4Network("10.1.0.0/16"), IPv4Network("10.1.9.0/24"))) == "10.1.9.0"
    assert str(ipam.choose_gateway(IPv4Network("10.1.0.0/16"), IPv4Network("10.1.0.0/16"))) == "10.1.0.1"


def test_the_lowest_free_address_is_given() -> None:
    taken = {"10.1.0.1", "10.1.0.2", "10.1.0.4"}
    assert str(ipam.choose_address(SUBNET, None, taken, "", "n")) == "10.1.0.3"


def test_addresses_come_from_the_range() -> None:
    wide = IPv4Network("10.1.0.0/16")
    assert str(ipam.choose_address(wide, IPv4Network("10.1.5.0/24"), (), "", "n")) == "10.1.5.0"


def test_a_full_subnet_says_which_network() -> None:
    taken = {f"10.1.0.{number}" for number in range(1, 7)}
    with pytest.raises(Error, match=r"no available IPv4 addresses on this network's address pools: web \(123\)"):
        ipam.choose_address(SUBNET, None, taken, "", "web (123)")


@pytest.mark.parametrize(
    ("requested", "kind"),
    [
        ("10.1.0.3", Conflict),
        ("10.1.0.0", Conflict),
        ("10.1.0.7", Conflict),
        ("10.2.0.1", InvalidArgument),
        ("no", InvalidArgument),
    ],
)
def test_an_address_that_cannot_be_had_is_refused(requested: str, kind: type[Error]) -> None:
    with pytest.raises(kind):
        ipam.choose_address(SUBNET, None, {"10.1.0.3"}, requested, "n")


@given(st.sets(st.integers(1, 6).map(lambda number: f"10.1.0.{number}"), max_size=5))
def test_a_given_address_is_never_taken_nor_an_edge(taken: set[str]) -> None:
    chosen = str(ipam.choose_address(SUBNET, None, taken, "", "n"))
    assert chosen not in taken | {"10.1.0.0", "10.1.0.7"}


def test_the_mac_carries_the_address() -> None:
    assert ipam.mac_of("172.17.0.2") == "02:42:ac:11:00:02"
