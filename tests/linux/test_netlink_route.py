"""Links, addresses and routes on the real kernel, in a netns of the test's own, read back from /sys and /proc."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest
from tests.linux.private_netns import inside, new_netns, private_host

from sampan.linux.netlink import route
from sampan.linux.netlink.connection import NETLINK_ROUTE, NetlinkSocket

pytestmark = pytest.mark.root


@pytest.fixture
def kernel() -> Iterator[NetlinkSocket]:
    with private_host(), NetlinkSocket(NETLINK_ROUTE) as connection:
        yield connection


def names() -> set[str]:
    return {name for _index, name in socket.if_nameindex()}


def test_a_bridge_is_made_with_its_address_and_deleted(kernel: NetlinkSocket) -> None:
    before = names()
    kernel.perform([route.add_bridge("br-test", bytes.fromhex("02420ad50001"), 1400)])
    link = route.link(kernel, "br-test")
    assert (link.kind, link.up, link.mtu, link.address.hex()) == ("bridge", True, 1400, "02420ad50001")
    kernel.perform([route.add_address(link.index, socket.inet_aton("10.213.0.1"), 16)])
    assert [(a.local, a.prefix_len) for a in route.addresses(kernel, index=link.index)] == [
        (socket.inet_aton("10.213.0.1"), 16)
    ]
    assert [(r.destination, r.prefix_len) for r in route.routes(kernel)] == [(socket.inet_aton("10.213.0.0"), 16)]
    kernel.perform([route.delete_address(link.index, socket.inet_aton("10.213.0.1"), 16)])
    assert route.addresses(kernel, index=link.index) == []
    kernel.perform([route.delete_link("br-test")])
    assert names() == before


def test_a_veth_pair_is_made_straight_into_another_netns(kernel: NetlinkSocket) -> None:
    with new_netns() as netns:
        kernel.perform([route.add_bridge("br-test")])
        bridge = route.link(kernel, "br-test").index
        mac = bytes.fromhex("02420ad50002")
        kernel.perform(
            [
                route.add_veth("veth-test", "eth0", netns, bridge, peer_mac=mac, mtu=1300),
                route.set_hairpin("veth-test"),
            ]
        )
        near = route.link(kernel, "veth-test")
        assert (near.kind, near.up, near.master, near.mtu) == ("veth", True, bridge, 1300)
        assert [link.name for link in route.links(kernel, master=bridge)] == ["veth-test"]
        with inside(netns, lambda: NetlinkSocket(NETLINK_ROUTE)) as other:
            far = route.link(other, "eth0")
            assert (far.up, far.address, far.mtu) == (False, mac, 1300)
        assert "eth0" not in names()


def test_a_socket_acts_in_the_netns_it_was_made_in(kernel: NetlinkSocket) -> None:
    with new_netns() as netns, inside(netns, lambda: NetlinkSocket(NETLINK_ROUTE)) as other:
        other.perform([route.set_link("lo", up=True), route.add_bridge("br-there")])
        index = route.link(other, "br-there").index
        other.perform(
            [
                route.set_no_link_local(index),
                route.add_address(index, socket.inet_aton("10.213.0.2"), 16, socket.inet_aton("10.213.255.255")),
                route.add_default_route(socket.inet_aton("10.213.0.1"), index),
            ]
        )
        found = {(r.destination, r.prefix_len, r.gateway) for r in route.routes(other)}
        assert (b"", 0, socket.inet_aton("10.213.0.1")) in found
        assert "br-there" not in names()
        assert "br-there" in inside(netns, names)


def test_an_error_names_the_message_and_carries_the_errno(kernel: NetlinkSocket) -> None:
    with pytest.raises(OSError, match='RTM_DELLINK "nothing"') as missing:
        kernel.perform([route.delete_link("nothing")])
    assert missing.value.errno == errno.ENODEV
    kernel.perform([route.add_bridge("br-test")])
    with pytest.raises(FileExistsError, match='RTM_NEWLINK bridge "br-test"'):
        kernel.perform([route.add_bridge("br-test")])


def test_an_error_says_the_kernels_own_words(kernel: NetlinkSocket) -> None:
    with pytest.raises(OSError, match="Attribute failed policy validation"):
        kernel.perform([route.add_bridge("a-name-that-is-too-long")])


def test_the_first_failure_of_a_batch_is_the_one_reported(kernel: NetlinkSocket) -> None:
    with pytest.raises(OSError, match='RTM_DELLINK "first"'):
        kernel.perform([route.delete_link("first"), route.delete_link("second"), route.add_bridge("br-test")])
    # The connection is in step afterwards: nothing of the failed batch is left to be read.
    assert route.link(kernel, "br-test").kind == "bridge"


def test_an_empty_batch_asks_nothing(kernel: NetlinkSocket) -> None:
    kernel.perform([])


def test_many_links_are_dumped_completely(kernel: NetlinkSocket) -> None:
    wanted = {f"br{number:03}" for number in range(120)}
    kernel.perform([route.add_bridge(name) for name in sorted(wanted)])
    assert wanted <= {link.name for link in route.links(kernel)}
    assert wanted <= names()


def test_a_link_moves_up_down_and_out_of_its_bridge(kernel: NetlinkSocket) -> None:
    kernel.perform([route.add_bridge("br-test"), route.add_veth("left", "right")])
    bridge = route.link(kernel, "br-test").index
    kernel.perform([route.set_link("right", up=True, master=bridge, mtu=1280)])
    right = route.link(kernel, "right")
    assert (right.up, right.master, right.mtu) == (True, bridge, 1280)
    assert os.path.exists("/proc/self/net/dev")
    kernel.perform([route.set_link("right", up=False, master=0)])
    right = route.link(kernel, "right")
    assert (right.up, right.master) == (False, 0)
    kernel.perform([route.delete_link("left")])
    assert "right" not in names()
