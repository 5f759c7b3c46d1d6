"""Route netlink messages say what they were asked to say."""

from __future__ import annotations

import socket
import struct

from sampan.linux.netlink import message, route


def attributes(request: message.Message, header: int) -> dict[int, bytes]:
    return message.parse_attributes(request.body, header)


def test_a_veth_pair_is_one_message_with_its_far_end_in_the_other_netns() -> None:
    request = route.add_veth("vethA", "eth0", peer_netns_fd=9, master=4, peer_mac=b"\2\x42\1\2\3\4", mtu=1400)
    near = attributes(request, 16)
    assert message.text_of(near[route.IFLA_IFNAME]) == "vethA"
    assert near[route.IFLA_MASTER] == struct.pack("=I", 4)
    info = message.parse_attributes(near[route.IFLA_LINKINFO])
    assert message.text_of(info[route.IFLA_INFO_KIND]) == "veth"
    peer = message.parse_attributes(info[route.IFLA_INFO_DATA])[route.VETH_INFO_PEER]
    far = message.parse_attributes(peer, 16)
    assert message.text_of(far[route.IFLA_IFNAME]) == "eth0"
    assert far[route.IFLA_NET_NS_FD] == struct.pack("=I", 9)
    assert far[route.IFLA_ADDRESS] == b"\2\x42\1\2\3\4"
    assert far[route.IFLA_MTU] == near[route.IFLA_MTU] == struct.pack("=I", 1400)


def test_the_near_end_of_a_veth_pair_is_up_and_the_far_end_is_not() -> None:
    request = route.add_veth("vethA", "eth0")
    assert struct.unpack_from("=II", request.body, 8) == (route.IFF_UP, route.IFF_UP)
    info = message.parse_attributes(attributes(request, 16)[route.IFLA_LINKINFO])
    peer = message.parse_attributes(info[route.IFLA_INFO_DATA])[route.VETH_INFO_PEER]
    assert struct.unpack_from("=II", peer, 8) == (0, 0)


def test_a_link_is_changed_by_its_index_without_renaming_it() -> None:
    request = route.set_link(index=3, up=True)
    assert struct.unpack_from("=i", request.body, 4) == (3,)
    assert route.IFLA_IFNAME not in attributes(request, 16)
    assert request.flags & message.NLM_F_CREATE == 0


def test_an_address_names_its_broadcast_and_scope() -> None:
    request = route.add_address(2, socket.inet_aton("10.1.2.3"), 16, socket.inet_aton("10.1.255.255"))
    assert request.body[:8] == struct.pack("=BBBBI", socket.AF_INET, 16, 0, route.RT_SCOPE_UNIVERSE, 2)
    assert attributes(request, 8)[route.IFA_BROADCAST] == socket.inet_aton("10.1.255.255")
    loopback = route.add_address(1, socket.inet_aton("127.0.0.1"), 8)
    assert loopback.body[3] == route.RT_SCOPE_HOST


def test_the_default_route_has_no_destination() -> None:
    request = route.add_default_route(socket.inet_aton("10.1.0.1"), 2)
    found = attributes(request, 12)
    assert request.body[1] == 0
    assert route.RTA_DST not in found
    assert found[route.RTA_GATEWAY] == socket.inet_aton("10.1.0.1")


def test_errors_can_name_each_message() -> None:
    named = [
        route.delete_link("eth7").name,
        route.add_address(2, socket.inet_aton("10.1.2.3"), 16).name,
        route.add_route(socket.inet_aton("10.9.0.0"), 24).name,
        route.set_hairpin("vethA").name,
    ]
    assert named == [
        'RTM_DELLINK "eth7"',
        'RTM_NEWADDR "10.1.2.3/16" on link 2',
        'RTM_NEWROUTE "10.9.0.0/24"',
        'RTM_NEWLINK hairpin "vethA"',
    ]
