"""The texts of /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

import pytest

from sampan.engine.networks.etc import hosts_text, parse_extra_host, resolv_text, upstreams
from sampan.errors import InvalidArgument


def test_hosts_has_the_standard_lines_then_extra_ones_then_the_containers_own() -> None:
    text = hosts_text([("172.30.0.2", ("web",))], ["db:10.0.0.9", "gw:host-gateway"], "172.30.0.1")
    assert text.splitlines() == [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::\tip6-localnet",
        "ff00::\tip6-mcastprefix",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
        "10.0.0.9\tdb",
        "172.30.0.1\tgw",
        "172.30.0.2\tweb",
    ]
    assert text.endswith("\n")


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("db:10.0.0.9", ("db", "10.0.0.9")),
        ("db=10.0.0.9", ("db", "10.0.0.9")),
        ("db:::1", ("db", "::1")),
        ("db:[fd00::1]", ("db", "fd00::1")),
        ("gw:host-gateway", ("gw", "host-gateway")),
    ],
)
def test_an_extra_host_is_a_name_and_an_address(entry: str, found: tuple[str, str]) -> None:
    assert parse_extra_host(entry) == found


@pytest.mark.parametrize("entry", ["db", ":10.0.0.9", "db:nowhere", "", "db:"])
def test_a_malformed_extra_host_is_refused(entry: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_extra_host(entry)


def test_host_gateway_needs_one() -> None:
    with pytest.raises(InvalidArgument, match="unable to derive the IP value for host-gateway"):
        hosts_text([], ["gw:host-gateway"])


HOST = """# the host's own
nameserver 127.0.0.53
nameserver 10.0.0.2  # first
nameserver fe80::1%eth0
search one.example two.example
options edns0
options trust-ad
"""


def test_name_servers_on_loopback_and_ipv6_ones_are_left_out() -> None:
    assert resolv_text(HOST) == "nameserver 10.0.0.2\nsearch one.example two.example\noptions edns0 trust-ad\n"


def test_public_name_servers_stand_in_when_none_is_left() -> None:
    assert resolv_text("nameserver 127.0.0.1\n") == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_on_the_hosts_network_its_own_servers_stay() -> None:
    lines = resolv_text(HOST, host_network=True).splitlines()
    assert lines[:3] == ["nameserver 127.0.0.53", "nameserver 10.0.0.2", "nameserver fe80::1%eth0"]


def test_the_containers_settings_win() -> None:
    text = resolv_text(HOST, ["1.1.1.1"], ["a.example"], ["ndots:2"])
    assert text == "nameserver 1.1.1.1\nsearch a.example\noptions ndots:2\n"


def test_a_dot_means_no_search_list() -> None:
    assert "search" not in resolv_text(HOST, dns_search=["."])


def test_with_the_embedded_server_it_is_the_only_one_and_short_names_are_its_own() -> None:
    text = resolv_text(HOST, embedded=True)
    assert text == "nameserver 127.0.0.11\nsearch one.example two.example\noptions edns0 trust-ad ndots:0\n"
    assert "ndots" not in resolv_text(HOST)
    assert resolv_text(HOST, dns=["9.9.9.9"], dns_options=["ndots:5"], embedded=True).splitlines() == [
        "nameserver 127.0.0.11",
        "search one.example two.example",
        "options ndots:5",
    ]


def test_the_embedded_server_asks_whom_the_host_asks_its_loopback_too() -> None:
    assert upstreams(HOST) == ["127.0.0.53", "10.0.0.2", "fe80::1%eth0"]
    assert upstreams(HOST, ["9.9.9.9"]) == ["9.9.9.9"]
    assert upstreams("") == []
