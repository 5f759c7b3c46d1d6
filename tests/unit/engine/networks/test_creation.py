"""What a create request becomes, and Docker's answers to what cannot be."""

from __future__ import annotations

import re
from ipaddress import IPv4Network

import pytest

from sampan.api.docker.networks import IPAM, ConfigReference, IPAMConfig, NetworkCreateRequest
from sampan.engine.networks.creation import new_network, predefined_networks
from sampan.engine.networks.records import Network, Options
from sampan.errors import Conflict, Error, Forbidden, InvalidArgument, NotFound, Unimplemented

POOLS = (("10.5.0.0/16", 24),)


def create(existing: tuple[Network, ...] = (), occupied: tuple[str, ...] = (), **wanted: object) -> Network:
    request = NetworkCreateRequest(**{"name": "web"} | wanted)  # type: ignore[arg-type]
    return new_network(request, existing, [IPv4Network(each) for each in occupied], POOLS)


def pool(**config: str) -> IPAM:
    return IPAM(config=[IPAMConfig(**config)])  # type: ignore[arg-type]


def test_a_network_without_wishes_gets_the_next_pool() -> None:
    network = create(occupied=("10.5.0.0/24",))
    assert (network.subnet, network.gateway, network.user_pool) == ("10.5.1.0/24", "10.5.1.1", False)
    assert network.device == f"br-{network.id[:12]}"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", network.created)


def test_wishes_are_honoured() -> None:
    network = create(
        ipam=pool(subnet="10.9.3.4/16", gateway="10.9.0.254", ip_range="10.9.8.0/24"),
        options={"com.docker.network.bridge.name": "mybr"},
        labels={"a": "b"},
        internal=True,
    )
    assert (network.subnet, network.gateway, network.ip_range) == ("10.9.0.0/16", "10.9.0.254", "10.9.8.0/24")
    assert (network.device, network.labels, network.internal, network.user_pool) == ("mybr", {"a": "b"}, True, True)


def test_a_subnet_of_the_host_is_allowed_when_it_is_asked_for() -> None:
    assert create(occupied=("10.9.0.0/16",), ipam=pool(subnet="10.9.0.0/16")).subnet == "10.9.0.0/16"


@pytest.mark.parametrize(
    ("wanted", "kind", "text"),
    [
        ({"name": " "}, InvalidArgument, "invalid network name: name is empty"),
        (
            {"name": "n", "scope": "swarm"},
            Forbidden,
            "cannot create a swarm scoped network when swarm is not active",
        ),
        ({"name": "host"}, Forbidden, "operation is not permitted on predefined host network"),
        ({"name": "first"}, Conflict, "network with name first already exists"),
        ({"driver": "host"}, Forbidden, 'only one instance of "host" network is allowed'),
        ({"driver": "odd"}, NotFound, 'plugin "odd" not found'),
        ({"ipam": IPAM(driver="odd")}, NotFound, 'plugin "odd" not found'),
        ({"enable_ipv6": True}, Unimplemented, "IPv6 networks are not supported"),
        ({"enable_ipv4": False}, InvalidArgument, "IPv4 or IPv6 must be enabled"),
        ({"config_from": ConfigReference("x")}, Unimplemented, "config-only networks are not supported"),
        ({"ipam": pool(subnet="10.4.1.0/24")}, Forbidden, "Pool overlaps with other one on this address space"),
        ({"ipam": pool(gateway="10.9.0.1")}, InvalidArgument, "no matching subnet for gateway 10.9.0.1"),
        ({"ipam": pool(subnet="10.9.0.0/24", gateway="10.8.0.1")}, InvalidArgument, "no matching subnet for gateway"),
        ({"ipam": pool(subnet="10.9.0.0/24", ip_range="10.8.0.0/24")}, InvalidArgument, "no matching subnet for range"),
        ({"ipam": pool(subnet="fd00::/64")}, Unimplemented, "IPv6 networks are not supported"),
        ({"ipam": pool(subnet="10.9.0.0/32")}, InvalidArgument, "invalid subnet 10.9.0.0/32"),
        (
            {"ipam": IPAM(config=[IPAMConfig(subnet="10.9.0.0/24", auxiliary_addresses={"a": "10.8.0.1"})])},
            InvalidArgument,
            "no matching subnet for aux-address 10.8.0.1",
        ),
        ({"options": {"com.docker.network.driver.mtu": "big"}}, InvalidArgument, "invalid value for"),
        ({"options": {"com.docker.network.bridge.host_binding_ipv4": "x"}}, InvalidArgument, "invalid host binding"),
        ({"options": {"com.docker.network.bridge.name": "x" * 16}}, InvalidArgument, "invalid bridge name"),
        ({"options": {"com.docker.network.bridge.name": "br-first"}}, Forbidden, "networks have same bridge name"),
    ],
)
def test_what_cannot_be_is_refused_in_dockers_words(wanted: dict[str, object], kind: type[Error], text: str) -> None:
    first = Network(
        id="f", name="first", driver="bridge", created="", device="br-first", subnet="10.4.0.0/16", gateway="10.4.0.1"
    )
    with pytest.raises(kind, match=re.escape(text)):
        create((first,), (), **wanted)


def test_the_predefined_networks_keep_their_ids() -> None:
    first = predefined_networks(Options(), [], None)
    assert [network.name for network in first] == ["none", "host", "bridge"]
    second = predefined_networks(Options(bip="10.1.0.1/24"), first, None)
    assert [network.id for network in second] == [network.id for network in first]
    assert (second[2].subnet, second[2].gateway, second[2].device) == ("10.1.0.0/24", "10.1.0.1", "sampan0")


def test_a_bridge_that_is_there_keeps_its_address_unless_one_is_set() -> None:
    found = ("10.77.0.5", 24)
    assert predefined_networks(Options(bridge="br7"), [], found)[2].gateway == "10.77.0.5"
    assert predefined_networks(Options(bridge="br7", bip="10.1.0.1/24"), [], found)[2].gateway == "10.1.0.1"


def test_two_engines_of_one_host_do_not_take_the_same_default_subnet() -> None:
    first = predefined_networks(Options(), [], None, [])[2]
    second = predefined_networks(Options(bridge="other0"), [], None, [IPv4Network(first.subnet)])[2]
    assert (first.subnet, second.subnet) == ("172.30.0.0/16", "172.18.0.0/16")
    assert second.gateway == "172.18.0.1"


def test_the_default_bridge_can_be_left_out() -> None:
    assert [network.name for network in predefined_networks(Options(bridge="none"), [], None)] == ["none", "host"]


def test_a_malformed_bip_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        predefined_networks(Options(bip="10.1.0.1"), [], None)
