"""Bridge networking on the real kernel: a private netns is the host, others are containers and the world outside."""

from __future__ import annotations

import os
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest
from tests.linux.private_netns import ask, echo_server, inside, new_netns, private_host

from sampan.api.docker.networks import (
    IPAM,
    EndpointIPAMConfig,
    EndpointSettings,
    IPAMConfig,
    NetworkCreateRequest,
    NetworkSettings,
    PortBinding,
)
from sampan.engine.networks.networks import Networks
from sampan.engine.networks.records import ContainerNetworking, Options, Plan
from sampan.errors import Conflict, Error, Forbidden, InvalidArgument, NotFound
from sampan.linux.netlink import nftables as nft
from sampan.linux.netlink import route
from sampan.linux.netlink.connection import NETLINK_NETFILTER, NETLINK_ROUTE, NetlinkSocket

pytestmark = pytest.mark.root

HOST = "10.214.0.1"
WORLD = "10.214.0.2"
OPTIONS = Options(bridge="sp-test", bip="10.213.0.1/16", pools=(("10.215.0.0/16", 24),))


def identity(name: str) -> str:
    return name[0] * 64


def eventually(state: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not state():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


@dataclass
class Room:
    """One engine's networks with its database, and the netns of each container that runs."""

    stack: ExitStack
    database: str
    options: Options = OPTIONS
    netns: dict[str, int] = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    networks: Networks = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def publish(self, kind: str, action: str, actor_id: str, attributes: dict[str, str]) -> None:
        self.events.append((action, attributes["name"]))

    def start(self) -> None:
        self.connection = sqlite3.connect(self.database)
        self.networks = Networks(self.connection, self.options, self)  # type: ignore[arg-type]
        self.networks.open()

    def stop(self) -> None:
        self.networks.close()
        self.connection.close()

    def configure(self, name: str, **wanted: object) -> str:
        self.networks.configure(
            ContainerNetworking(container_id=identity(name), name=f"/{name}", **wanted)  # type: ignore[arg-type]
        )
        return identity(name)

    def run(self, name: str, **wanted: object) -> NetworkSettings:
        self.configure(name, **wanted)
        return self.begin(name)

    def begin(self, name: str) -> NetworkSettings:
        plan = self.networks.reserve(identity(name))
        return self.networks.attach(plan, self.namespace(name), "/proc/1/ns/net")

    def namespace(self, name: str) -> int:
        self.netns[name] = self.netns.get(name) or self.stack.enter_context(new_netns())
        return self.netns[name]


@pytest.fixture
def room(tmp_path: object) -> Iterator[Room]:
    with private_host(), ExitStack() as stack:
        room = Room(stack, f"{tmp_path}/engine.db")
        yield room
        room.stop()


@pytest.fixture
def world(room: Room) -> int:
    """A netns that is connected to the host as another machine is: by a link of its own."""
    netns = room.stack.enter_context(new_netns())
    with NetlinkSocket(NETLINK_ROUTE) as kernel:
        kernel.perform([route.add_veth("up0", "eth0", netns)])
        kernel.perform([route.add_address(route.link(kernel, "up0").index, socket.inet_aton(HOST), 24)])
    with inside(netns, lambda: NetlinkSocket(NETLINK_ROUTE)) as kernel:
        index = route.link(kernel, "eth0").index
        kernel.perform(
            [
                route.set_link("eth0", up=True),
                route.add_address(index, socket.inet_aton(WORLD), 24),
                # So that only the firewall stands between this machine and a container's address.
                route.add_default_route(socket.inet_aton(HOST), index),
            ]
        )
    return netns


def links() -> set[str]:
    return {name for _index, name in socket.if_nameindex()}


def elements() -> dict[str, int]:
    table = nft.Table("sampan-sp-test")
    with NetlinkSocket(NETLINK_NETFILTER) as kernel:
        return {name: len(list(table.elements(kernel, name))) for name in ("published", "published_at", "bridges")}


def refused(netns: int | None, address: str, port: int) -> bool:
    """No answer comes: refused at once, or dropped."""
    try:
        ask(netns, address, port, timeout=0.3)
    except OSError:
        return True
    return False


# Container, host and world


def test_containers_reach_each_other_by_address(room: Room) -> None:
    first, second = room.run("a"), room.run("b")
    assert (first.ip_address, second.ip_address) == ("10.213.0.2", "10.213.0.3")
    with echo_server(room.netns["b"], 80):
        assert ask(room.netns["a"], second.ip_address, 80) == first.ip_address
        assert ask(None, second.ip_address, 80) == "10.213.0.1"


def test_a_container_reaches_the_world_under_the_hosts_address(room: Room, world: int) -> None:
    room.run("a")
    with echo_server(world, 99):
        assert ask(room.netns["a"], WORLD, 99) == HOST


def test_a_published_port_is_reached_by_every_way(room: Room, world: int) -> None:
    settings = room.run("a", port_bindings={"80/tcp": [PortBinding("", "8080")]})
    room.run("b")
    assert settings.ports == {"80/tcp": [PortBinding("0.0.0.0", "8080")]}
    with echo_server(room.netns["a"], 80):
        assert ask(world, HOST, 8080) == WORLD
        assert ask(None, HOST, 8080) == HOST
        assert ask(None, "127.0.0.1", 8080) == "10.213.0.1"
        assert ask(None, "10.213.0.1", 8080) == "10.213.0.1"
        # Hairpin: a neighbour, and the container itself, by the host's address.
        assert ask(room.netns["b"], HOST, 8080) == "10.213.0.1"
        assert ask(room.netns["a"], HOST, 8080) == "10.213.0.1"


def test_a_published_udp_port_is_reached(room: Room, world: int) -> None:
    room.run("a", port_bindings={"53/udp": [PortBinding("", "5353")]})
    with echo_server(room.netns["a"], 53, socket.SOCK_DGRAM):
        assert ask(world, HOST, 5353, socket.SOCK_DGRAM) == WORLD
        assert ask(None, "127.0.0.1", 5353, socket.SOCK_DGRAM) == "10.213.0.1"


def test_a_port_published_at_loopback_is_not_reached_from_outside(room: Room, world: int) -> None:
    room.run("a", port_bindings={"80/tcp": [PortBinding("127.0.0.1", "8080")]})
    with echo_server(room.netns["a"], 80):
        assert ask(None, "127.0.0.1", 8080) == "10.213.0.1"
        assert refused(world, HOST, 8080)
        assert refused(None, HOST, 8080)


def test_a_port_that_is_not_published_is_not_reached_from_outside(room: Room, world: int) -> None:
    settings = room.run("a")
    with echo_server(room.netns["a"], 80):
        assert refused(world, settings.ip_address, 80)


def test_the_hosts_loopback_is_not_reached_through_the_bridge(room: Room) -> None:
    """route_localnet is on for the bridge; CVE-2020-8558 was that alone."""
    room.run("a")

    def route_loopback_to_the_host() -> None:
        commands = ["ip addr del 127.0.0.1/8 dev lo", "ip link set lo down", "ip route add 127.0.0.0/8 via 10.213.0.1"]
        subprocess.run(
            ["sh", "-ec", "; ".join(["echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet", *commands])], check=True
        )

    inside(room.netns["a"], route_loopback_to_the_host)
    with echo_server(None, 700):
        assert ask(None, "127.0.0.1", 700) == "127.0.0.1"
        assert refused(room.netns["a"], "127.0.0.1", 700)


def test_different_networks_are_isolated_from_each_other(room: Room) -> None:
    other = room.networks.create(NetworkCreateRequest(name="other"))
    room.run("a", port_bindings={"80/tcp": [PortBinding("", "8080")]})
    settings = room.run("b", network_mode="other")
    address = settings.networks["other"].ip_address
    assert address == other.subnet.replace(".0/24", ".2")
    with echo_server(room.netns["b"], 80), echo_server(room.netns["a"], 80):
        assert ask(None, address, 80) == other.gateway
        assert refused(room.netns["a"], address, 80)
        # What is published is for everybody, members of other networks included.
        assert ask(room.netns["b"], "10.213.0.1", 8080) == "10.213.0.1"


def test_an_internal_network_has_no_way_out_and_none_in(room: Room, world: int) -> None:
    room.networks.create(NetworkCreateRequest(name="inner", internal=True))
    bindings = {"80/tcp": [PortBinding("", "8080")]}
    first = room.run("a", network_mode="inner", port_bindings=bindings).networks["inner"]
    second = room.run("b", network_mode="inner").networks["inner"]
    assert (first.gateway, room.networks.settings(identity("a")).ports) == ("", {"80/tcp": None})
    with echo_server(room.netns["b"], 80), echo_server(world, 99):
        assert ask(room.netns["a"], second.ip_address, 80) == first.ip_address
        assert refused(room.netns["a"], WORLD, 99)
        with inside(room.netns["a"], lambda: NetlinkSocket(NETLINK_ROUTE)) as kernel:
            gateway = room.networks.get("inner").gateway
            kernel.perform([route.add_default_route(socket.inet_aton(gateway))])
        assert refused(room.netns["a"], WORLD, 99)


def test_members_of_a_network_without_icc_do_not_reach_each_other(room: Room) -> None:
    option = {"com.docker.network.bridge.enable_icc": "false"}
    room.networks.create(NetworkCreateRequest(name="apart", options=option))
    room.run("a", network_mode="apart")
    address = room.run("b", network_mode="apart").networks["apart"].ip_address
    with echo_server(room.netns["b"], 80):
        assert refused(room.netns["a"], address, 80)


# What a container finds


def test_a_container_finds_its_links_as_docker_makes_them(room: Room) -> None:
    settings = room.run("a")
    with inside(room.netns["a"], lambda: NetlinkSocket(NETLINK_ROUTE)) as kernel:
        eth0, lo = route.link(kernel, "eth0"), route.link(kernel, "lo")
        assert (eth0.up, eth0.mtu, eth0.address.hex(":")) == (True, 1500, "02:42:0a:d5:00:02")
        assert lo.up
        assert [(a.local, a.prefix_len) for a in route.addresses(kernel, index=eth0.index)] == [
            (socket.inet_aton("10.213.0.2"), 16)
        ]
        # Nothing of IPv6, which the network does not offer.
        assert route.addresses(kernel, socket.AF_INET6, eth0.index) == []
        gateways = [r.gateway for r in route.routes(kernel) if r.prefix_len == 0]
        assert gateways == [socket.inet_aton("10.213.0.1")]
    endpoint = settings.networks["bridge"]
    assert endpoint.mac_address == settings.mac_address == "02:42:0a:d5:00:02"
    assert endpoint.network_id == room.networks.get("bridge").id
    assert (endpoint.gateway, endpoint.ip_prefix_len) == ("10.213.0.1", 16)
    assert settings.sandbox_key == "/proc/1/ns/net"
    assert len(settings.sandbox_id) == len(endpoint.endpoint_id) == 64


def test_none_has_only_loopback(room: Room) -> None:
    settings = room.run("a", network_mode="none")
    with inside(room.netns["a"], lambda: NetlinkSocket(NETLINK_ROUTE)) as kernel:
        assert [(link.name, link.up) for link in route.links(kernel) if link.up] == [("lo", True)]
    assert list(settings.networks) == ["none"]
    assert settings.networks["none"].ip_address == ""


def test_host_leaves_the_netns_alone(room: Room) -> None:
    before = links()
    room.configure("a", network_mode="host", port_bindings={"80/tcp": [PortBinding("", "8080")]})
    plan = room.networks.reserve(identity("a"))
    settings = room.networks.attach(plan, -1)
    assert (plan.kind, plan.publications, links()) == ("host", [], before)
    assert (list(settings.networks), settings.ports) == (["host"], {"80/tcp": None})


def test_a_container_may_join_anothers_netns(room: Room) -> None:
    room.configure("a", network_mode="container:web")
    plan = room.networks.reserve(identity("a"))
    assert (plan.kind, plan.joined, plan.endpoints) == ("container", "web", [])
    assert room.networks.settings(identity("a")).networks == {}


def test_a_static_address_and_mac_are_honoured(room: Room) -> None:
    ipam = IPAM(config=[IPAMConfig(subnet="10.216.0.0/24", gateway="10.216.0.9")])
    room.networks.create(NetworkCreateRequest(name="mine", ipam=ipam))
    asked = EndpointSettings(
        ipam_config=EndpointIPAMConfig(ipv4_address="10.216.0.77"), mac_address="02:00:00:00:00:77", aliases=["db"]
    )
    settings = room.run("a", network_mode="mine", endpoints={"mine": asked}).networks["mine"]
    assert (settings.ip_address, settings.mac_address) == ("10.216.0.77", "02:00:00:00:00:77")
    assert (settings.gateway, settings.aliases) == ("10.216.0.9", ["db"])
    assert settings.dns_names == ["a", "db", identity("a")[:12]]
    room.configure("b", network_mode="mine", endpoints={"mine": asked})
    with pytest.raises(Conflict, match="Address already in use"):
        room.networks.reserve(identity("b"))


# Ports


def test_a_port_of_another_container_is_already_allocated(room: Room) -> None:
    bindings = {"80/tcp": [PortBinding("", "8080")]}
    room.run("a", port_bindings=bindings)
    room.configure("b", port_bindings=bindings)
    with pytest.raises(Error) as taken:
        room.networks.reserve(identity("b"))
    text = str(taken.value)
    assert text.startswith("driver failed programming external connectivity on endpoint b (")
    assert text.endswith("): Bind for 0.0.0.0:8080 failed: port is already allocated")
    assert room.networks.settings(identity("b")).sandbox_id == ""
    room.networks.release(identity("a"))
    assert room.networks.reserve(identity("b")).publications[0].host_port == 8080


def test_a_port_of_a_foreign_process_is_in_use(room: Room) -> None:
    room.configure("a", port_bindings={"80/tcp": [PortBinding("", "8081")], "90/tcp": [PortBinding("", "8082")]})
    with echo_server(None, 8082), pytest.raises(Error) as taken:
        room.networks.reserve(identity("a"))
    assert str(taken.value).endswith("): failed to bind host port 0.0.0.0:8082/tcp: address already in use")
    with echo_server(None, 8081):
        pass


def test_a_published_port_is_taken_for_everybody_else(room: Room) -> None:
    room.run("a", port_bindings={"80/tcp": [PortBinding("", "8080")], "80/udp": [PortBinding("", "8080")]})
    with socket.socket() as server, pytest.raises(OSError, match="Address already in use"):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("0.0.0.0", 8080))
        server.listen()
    with socket.socket(type=socket.SOCK_DGRAM) as server, pytest.raises(OSError, match="Address already in use"):
        server.bind(("0.0.0.0", 8080))


def test_two_engines_do_not_publish_the_same_port(room: Room, tmp_path: object) -> None:
    room.run("a", port_bindings={"80/tcp": [PortBinding("", "8080")]})
    second = Room(room.stack, f"{tmp_path}/second.db", Options(bridge="sp-two", bip="10.217.0.1/16"))
    second.configure("b", port_bindings={"80/tcp": [PortBinding("", "8080")]})
    room.stack.callback(second.stop)
    with pytest.raises(Error, match="address already in use"):
        second.networks.reserve(identity("b"))
    with NetlinkSocket(NETLINK_NETFILTER) as kernel:
        assert nft.tables(kernel) == ["sampan-sp-test", "sampan-sp-two"]


def test_a_connection_before_the_container_is_ready_is_refused(room: Room) -> None:
    room.configure("a", port_bindings={"80/tcp": [PortBinding("", "8080")]})
    room.networks.reserve(identity("a"))
    with pytest.raises(ConnectionRefusedError):
        ask(None, "127.0.0.1", 8080)


# Networks


def test_a_network_is_made_inspected_and_removed(room: Room) -> None:
    before = links()
    network = room.networks.create(NetworkCreateRequest(name="other", labels={"a": "b"}))
    assert links() - before == {f"br-{network.id[:12]}"}
    settings = room.run("a", network_mode="other")
    document = room.networks.inspect(network.id[:6])
    assert (document.name, document.labels, document.driver) == ("other", {"a": "b"}, "bridge")
    member = document.containers[identity("a")]
    assert member.ipv4_address == f"{settings.networks['other'].ip_address}/24"
    with pytest.raises(Forbidden, match="network other has active endpoints"):
        room.networks.remove("other")
    room.networks.release(identity("a"))
    room.networks.remove("other")
    assert eventually(lambda: links() == before)
    assert elements()["bridges"] == 1
    with pytest.raises(NotFound, match="network other not found"):
        room.networks.inspect("other")
    assert room.events == [("create", "other"), ("connect", "other"), ("disconnect", "other"), ("destroy", "other")]


def test_a_new_network_avoids_what_the_host_routes_to(room: Room) -> None:
    with NetlinkSocket(NETLINK_ROUTE) as kernel:
        kernel.perform([route.add_bridge("br-foreign")])
        index = route.link(kernel, "br-foreign").index
        kernel.perform([route.add_address(index, socket.inet_aton("10.215.0.1"), 24)])
    assert room.networks.create(NetworkCreateRequest(name="other")).subnet == "10.215.1.0/24"


def test_a_running_container_is_connected_and_disconnected(room: Room, world: int) -> None:
    room.networks.create(NetworkCreateRequest(name="first"))
    room.networks.create(NetworkCreateRequest(name="second"))
    room.run("a", network_mode="first", port_bindings={"80/tcp": [PortBinding("", "8080")]})
    room.run("b", network_mode="second")
    a = room.netns["a"]
    room.networks.connect("second", identity("a"), EndpointSettings(aliases=["x"]), a)
    settings = room.networks.settings(identity("a"))
    assert list(settings.networks) == ["first", "second"]
    with pytest.raises(Forbidden, match="endpoint with name a already exists in network second"):
        room.networks.connect("second", identity("a"), None, a)
    with echo_server(a, 80), echo_server(world, 99):
        assert ask(room.netns["b"], settings.networks["second"].ip_address, 80)
        room.networks.disconnect("first", identity("a"), a)
        # The way out, and the published port with it, moved to the network that is left.
        assert ask(a, WORLD, 99) == HOST
        assert ask(world, HOST, 8080) == WORLD
    assert list(room.networks.settings(identity("a")).networks) == ["second"]
    assert inside(a, links) == {"lo", "eth1"} | (inside(a, links) - {"eth0", "eth1"})
    with pytest.raises(Error, match="is not connected to the network first"):
        room.networks.disconnect("first", identity("a"), a)


def test_a_membership_changed_while_stopped_counts_at_the_next_start(room: Room) -> None:
    room.networks.create(NetworkCreateRequest(name="other"))
    room.configure("a")
    room.networks.connect("other", identity("a"))
    room.networks.disconnect("bridge", identity("a"))
    assert list(room.begin("a").networks) == ["other"]


def test_a_container_on_a_network_that_is_gone_does_not_start(room: Room) -> None:
    room.configure("a", network_mode="nowhere")
    with pytest.raises(NotFound, match="network nowhere not found"):
        room.networks.reserve(identity("a"))


def test_an_address_is_not_chosen_freely_on_the_default_network(room: Room) -> None:
    asked = EndpointSettings(ipam_config=EndpointIPAMConfig(ipv4_address="10.213.0.9"))
    with pytest.raises(InvalidArgument, match="supported on user defined networks only"):
        room.configure("a", endpoints={"bridge": asked})
    # A network that comes later is asked when the container starts.
    room.configure("b", network_mode="later", endpoints={"later": asked})
    room.networks.create(NetworkCreateRequest(name="later"))
    with pytest.raises(InvalidArgument, match="networks with user configured subnets"):
        room.networks.reserve(identity("b"))


# Ends


def test_a_released_container_leaves_nothing_behind(room: Room) -> None:
    before = (links(), elements(), len(os.listdir("/proc/self/fd")))
    bindings = {"80/tcp": [PortBinding("", "8080"), PortBinding("127.0.0.1", "8081")]}
    room.run("a", port_bindings=bindings)
    assert elements() == {"published": 1, "published_at": 1, "bridges": 1}
    room.networks.release(identity("a"))
    room.networks.release(identity("a"))
    assert eventually(lambda: links() == before[0])
    assert elements() == before[1]
    with echo_server(None, 8080), echo_server(None, 8081):
        pass
    assert room.networks.inspect("bridge").containers == {}
    room.networks.forget(identity("a"))
    with pytest.raises(NotFound):
        room.networks.settings(identity("a"))


def test_a_start_that_fails_in_the_netns_leaves_nothing_behind(room: Room) -> None:
    before = links(), elements()
    room.configure("a", port_bindings={"80/tcp": [PortBinding("", "8080")]})
    plan = room.networks.reserve(identity("a"))
    with open("/dev/null") as nothing, pytest.raises(OSError, match="RTM_NEWLINK veth"):
        room.networks.attach(plan, nothing.fileno())
    room.networks.release(identity("a"))
    assert eventually(lambda: (links(), elements()) == before)


def test_a_late_release_does_not_hit_the_next_start(room: Room) -> None:
    room.configure("a")
    first = room.networks.reserve(identity("a"))
    second = room.networks.reserve(identity("a"))
    room.networks.release(identity("a"), first.sandbox_id)
    assert room.networks.settings(identity("a")).sandbox_id == second.sandbox_id


def test_an_address_rests_until_its_link_is_gone(room: Room) -> None:
    """The bridge would send the new container's packets to the old one's port."""
    room.run("a")
    room.networks.release(identity("a"))
    room.configure("b")
    before = room.networks._devices.leaving()
    address = room.networks.reserve(identity("b")).endpoints[0].ip_address
    after = room.networks._devices.leaving()
    assert address == "10.213.0.3" if after else not before or address in ("10.213.0.2", "10.213.0.3")
    room.networks.release(identity("b"))
    assert eventually(lambda: not room.networks._devices.leaving())
    assert room.networks.reserve(identity("b")).endpoints[0].ip_address == "10.213.0.2"


# A new daemon


def test_after_a_crash_everything_goes_on_and_ports_are_held_again(room: Room, world: int) -> None:
    before = room.run("a", port_bindings={"80/tcp": [PortBinding("", "8080")]})
    with echo_server(room.netns["a"], 80):
        room.stop()
        assert ask(world, HOST, 8080) == WORLD
        room.start()
        assert ask(world, HOST, 8080) == WORLD
        room.networks.reconcile([identity("a")])
        assert room.networks.settings(identity("a")) == before
        assert ask(world, HOST, 8080) == WORLD
    with socket.socket() as server, pytest.raises(OSError, match="Address already in use"):
        server.bind(("0.0.0.0", 8080))


def test_after_a_crash_what_died_is_released(room: Room) -> None:
    before = links(), elements()
    room.run("a", port_bindings={"80/tcp": [PortBinding("", "8080")]})
    room.run("b")
    with NetlinkSocket(NETLINK_ROUTE) as kernel:
        # A link whose row was never committed.
        bridge = route.link(kernel, "sp-test").index
        kernel.perform([route.add_veth("veth-lost", "lost0", master=bridge)])
    room.stop()
    room.start()
    room.networks.reconcile([])
    assert eventually(lambda: (links(), elements()) == before)
    assert room.networks.inspect("bridge").containers == {}


def test_bridges_and_rules_lost_with_a_reboot_come_back(room: Room) -> None:
    network = room.networks.create(NetworkCreateRequest(name="other"))
    before = links(), elements()
    room.stop()
    with NetlinkSocket(NETLINK_ROUTE) as kernel:
        kernel.perform([route.delete_link(network.device), route.delete_link("sp-test")])
    with NetlinkSocket(NETLINK_NETFILTER) as kernel:
        nft.transact(kernel, [nft.Table("sampan-sp-test").delete()])
    room.start()
    assert (links(), elements()) == before
    assert room.networks.get("other") == network


def test_the_default_bridge_follows_changed_settings(room: Room) -> None:
    identifier = room.networks.get("bridge").id
    room.stop()
    room.options = Options(bridge="sp-test", bip="10.218.0.1/24")
    room.start()
    network = room.networks.get("bridge")
    assert (network.id, network.subnet) == (identifier, "10.218.0.0/24")
    assert room.run("a").ip_address == "10.218.0.2"


def test_forwarding_is_switched_on_unless_it_is_to_be_left_alone(room: Room) -> None:
    def forwarding(text: str = "") -> str:
        if text:
            with open("/proc/sys/net/ipv4/ip_forward", "w") as file:
                file.write(text)
        with open("/proc/sys/net/ipv4/ip_forward") as file:
            return file.read()

    for option, found in ((True, "1\n"), (False, "0\n")):
        room.stop()
        assert forwarding("0") == "0\n"
        room.options = Options(bridge="sp-test", bip="10.213.0.1/16", ip_forward=option)
        room.start()
        assert forwarding() == found


def test_a_plan_names_the_lines_for_etc_hosts(room: Room) -> None:
    room.configure("a", hostname="web", domainname="example.org")
    plan: Plan = room.networks.reserve(identity("a"))
    assert plan.hosts == [("10.213.0.2", ("web.example.org", "web"))]
    assert not plan.user_defined
