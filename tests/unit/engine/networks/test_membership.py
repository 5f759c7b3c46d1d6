"""Which networks a container joins by its mode and endpoints, and what it may ask for in each."""

from __future__ import annotations

import pytest

from sampan.api.docker.networks import EndpointIPAMConfig, EndpointSettings, PortBinding
from sampan.engine.networks import membership
from sampan.engine.networks.records import ContainerNetworking, Endpoint, Network
from sampan.errors import InvalidArgument

WEB = Network(
    id="1" * 64,
    name="web",
    driver="bridge",
    created="",
    device="br-web",
    subnet="10.1.0.0/24",
    gateway="10.1.0.1",
    reserved={"router": "10.1.0.2"},
    user_pool=True,
)


def wanted(mode: str = "default", **other: object) -> ContainerNetworking:
    return ContainerNetworking(container_id="c" * 64, name="/c", network_mode=mode, **other)  # type: ignore[arg-type]


def name_of(name: str) -> str:
    return {"1" * 12: "web"}.get(name, name)


def endpoint(name: str, gateway: str = "10.1.0.1", priority: int = 0) -> Endpoint:
    return Endpoint(
        id=name,
        network_id=name,
        network_name=name,
        container_id="c",
        container_name="c",
        ip_address="10.1.0.9",
        prefix_len=24,
        gateway=gateway,
        mac_address="",
        link="",
        ifname="eth0",
        priority=priority,
    )


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        ("", ("bridge", "bridge")),
        ("default", ("bridge", "bridge")),
        ("host", ("host", "host")),
        ("none", ("none", "none")),
        ("container:web", ("container", "web")),
        ("mine", ("bridge", "mine")),
    ],
)
def test_the_mode_says_the_kind(mode: str, found: tuple[str, str]) -> None:
    assert membership.kind_of(mode) == found


def test_the_modes_network_comes_first() -> None:
    asked = {"alpha": EndpointSettings(), "zeta": EndpointSettings(aliases=["z"])}
    container = membership.normalized(wanted("zeta", endpoints=asked), name_of)
    assert list(container.endpoints) == ["zeta", "alpha"]
    assert container.endpoints["zeta"].aliases == ["z"]


def test_a_network_named_by_its_id_is_kept_by_its_name() -> None:
    container = membership.normalized(wanted("1" * 12, endpoints={"1" * 12: EndpointSettings()}), name_of)
    assert list(container.endpoints) == ["web"]


def test_default_means_the_bridge() -> None:
    container = membership.normalized(wanted(endpoints={"default": EndpointSettings()}), name_of)
    assert list(container.endpoints) == ["bridge"]


def test_the_containers_mac_goes_to_its_first_network_and_not_into_the_request() -> None:
    asked = {"web": EndpointSettings()}
    container = membership.normalized(wanted("web", endpoints=asked, mac_address="02:00:00:00:00:01"), name_of)
    assert container.endpoints["web"].mac_address == "02:00:00:00:00:01"
    assert asked["web"].mac_address == ""


@pytest.mark.parametrize(
    "container",
    [
        wanted("host", endpoints={"web": EndpointSettings()}),
        wanted("none", endpoints={"web": EndpointSettings()}),
        wanted("container:x", port_bindings={"80/tcp": [PortBinding()]}),
        wanted(mac_address="01:00:5e:00:00:01"),
        wanted(mac_address="02-00-00"),
        wanted("web", endpoints={"web": EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="1.2.3"))}),
    ],
)
def test_what_cannot_go_together_is_refused(container: ContainerNetworking) -> None:
    with pytest.raises(InvalidArgument):
        membership.normalized(container, name_of)


def test_an_endpoint_avoids_gateway_reserved_taken_and_resting_addresses() -> None:
    made = membership.new_endpoint(wanted(), WEB, EndpointSettings(), ["10.1.0.3"], ["10.1.0.4"], ["eth0"])
    assert (made.ip_address, made.ifname, made.mac_address) == ("10.1.0.5", "eth1", "02:42:0a:01:00:05")
    assert len(made.link) == 15


def test_a_resting_address_is_given_to_who_asks_for_it() -> None:
    asked = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="10.1.0.4"))
    assert membership.new_endpoint(wanted(), WEB, asked, [], ["10.1.0.4"], []).ip_address == "10.1.0.4"


def test_addresses_are_chosen_only_where_the_subnet_was() -> None:
    asked = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="10.1.0.4"))
    unchosen = Network(id="2", name="auto", driver="bridge", created="", subnet="10.1.0.0/24", gateway="10.1.0.1")
    with pytest.raises(InvalidArgument, match="networks with user configured subnets"):
        membership.check_asked(unchosen, asked)
    bridge = Network(id="3", name="bridge", driver="bridge", created="")
    with pytest.raises(InvalidArgument, match="user defined networks only"):
        membership.check_asked(bridge, asked)
    with pytest.raises(InvalidArgument, match="network-scoped alias is supported only"):
        membership.check_asked(bridge, EndpointSettings(aliases=["x"]))


def test_the_way_out_goes_by_priority_then_name_and_never_by_an_internal_network() -> None:
    assert membership.gateway_endpoint([endpoint("b"), endpoint("a")]).network_name == "a"  # type: ignore[union-attr]
    chosen = membership.gateway_endpoint([endpoint("a"), endpoint("b", priority=5), endpoint("c", "", 9)])
    assert chosen is not None
    assert chosen.network_name == "b"
    assert membership.gateway_endpoint([endpoint("a", "")]) is None


def test_memberships_come_and_go() -> None:
    container = membership.normalized(wanted(), name_of)
    more = membership.with_endpoint(container, "web", EndpointSettings())
    assert list(more.endpoints) == ["bridge", "web"]
    assert list(membership.without_endpoint(more, "bridge").endpoints) == ["web"]
