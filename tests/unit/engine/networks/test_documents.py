"""Records as Docker's documents."""

from __future__ import annotations

from sampan.api.docker.networks import EndpointSettings, PortBinding
from sampan.engine.networks.documents import dns_names, network_document, port_map, settings_document
from sampan.engine.networks.records import ContainerNetworking, Endpoint, Network, Publication, Sandbox

CONTAINER = ContainerNetworking(
    container_id="c" * 64,
    name="/web",
    hostname="box",
    endpoints={"bridge": EndpointSettings(), "mine": EndpointSettings(aliases=["db", "web"])},
    exposed_ports=("80/tcp", "443"),
    port_bindings={"53/udp": []},
)


def endpoint(network: str, address: str) -> Endpoint:
    return Endpoint(
        id=f"e-{network}",
        network_id=f"n-{network}",
        network_name=network,
        container_id="c" * 64,
        container_name="web",
        ip_address=address,
        prefix_len=16,
        gateway="10.1.0.1",
        mac_address="02:42:0a:01:00:02",
        link="veth0",
        ifname="eth0",
    )


def test_a_stopped_container_shows_its_memberships_without_addresses() -> None:
    settings = settings_document(CONTAINER, tuple(CONTAINER.endpoints), None, [], {"bridge": "n-bridge"})
    assert list(settings.networks) == ["bridge", "mine"]
    assert (settings.networks["bridge"].network_id, settings.networks["mine"].ip_address) == ("", "")
    assert (settings.ports, settings.sandbox_id) == ({}, "")


def test_a_running_container_shows_what_it_got() -> None:
    sandbox = Sandbox(
        id="s",
        container_id="c" * 64,
        kind="bridge",
        netns_path="/proc/9/ns/net",
        publications=[Publication(container_port=80, protocol="tcp", host_ip="0.0.0.0", host_port=8080)],
    )
    endpoints = [endpoint("bridge", "10.1.0.2"), endpoint("mine", "10.2.0.2")]
    identities = {"bridge": "n-bridge", "mine": "n-mine"}
    settings = settings_document(CONTAINER, tuple(CONTAINER.endpoints), sandbox, endpoints, identities)
    assert (settings.ip_address, settings.gateway, settings.ip_prefix_len) == ("10.1.0.2", "10.1.0.1", 16)
    assert (settings.sandbox_key, settings.endpoint_id) == ("/proc/9/ns/net", "e-bridge")
    mine = settings.networks["mine"]
    assert (mine.ip_address, mine.network_id, mine.endpoint_id) == ("10.2.0.2", "n-mine", "e-mine")
    assert mine.dns_names == ["web", "db", "c" * 12, "box"]
    assert settings.networks["bridge"].dns_names is None
    assert settings.ports == {"80/tcp": [PortBinding("0.0.0.0", "8080")], "443/tcp": None, "53/udp": None}


def test_a_port_published_twice_is_listed_twice() -> None:
    publications = [
        Publication(container_port=80, protocol="tcp", host_ip=address, host_port=8080)
        for address in ("127.0.0.1", "10.0.0.1")
    ]
    assert [binding.host_ip for binding in port_map(publications, (), {})["80/tcp"] or []] == ["127.0.0.1", "10.0.0.1"]


def test_names_are_listed_once() -> None:
    assert dns_names(CONTAINER, ["web", "box"]) == ["web", "box", "c" * 12]


def test_a_network_shows_its_members_and_its_pool() -> None:
    network = Network(
        id="n",
        name="mine",
        driver="bridge",
        created="2020-01-01T00:00:00.000000000Z",
        subnet="10.1.0.0/16",
        gateway="10.1.0.1",
        reserved={"router": "10.1.0.9"},
    )
    document = network_document(network, [endpoint("mine", "10.1.0.2")])
    assert document.containers["c" * 64].ipv4_address == "10.1.0.2/16"
    assert document.ipam.config is not None
    pool = document.ipam.config[0]
    assert (pool.subnet, pool.gateway, pool.auxiliary_addresses) == ("10.1.0.0/16", "10.1.0.1", {"router": "10.1.0.9"})
    assert (document.scope, document.ipam.options) == ("local", {})


def test_host_and_none_have_no_pool() -> None:
    document = network_document(Network(id="n", name="host", driver="host", created=""))
    assert (document.ipam.config, document.enable_ipv4) == (None, False)
