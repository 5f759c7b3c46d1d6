"""What port bindings ask for, and what Docker says to malformed ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.docker.networks import PortBinding, PortMap
from sampan.engine.networks.ports import PortRequest, parse_port, parse_requests
from sampan.errors import Error, InvalidArgument, Unimplemented


def requests(bindings: PortMap, exposed: tuple[str, ...] = (), publish_all: bool = False) -> list[PortRequest]:
    return parse_requests(bindings, exposed, publish_all)


def test_a_binding_without_an_address_is_for_every_address() -> None:
    assert requests({"80/tcp": [PortBinding("", "8080")]}) == [PortRequest(80, "tcp", "0.0.0.0", 8080, 8080)]


def test_a_range_and_no_port_leave_the_choice() -> None:
    found = requests({"80": [PortBinding("", "8000-8010")], "81/udp": [PortBinding("127.0.0.1", "")]})
    assert found == [PortRequest(80, "tcp", "0.0.0.0", 8000, 8010), PortRequest(81, "udp", "127.0.0.1", 0, 0)]


def test_publish_all_takes_the_exposed_ports_that_have_no_binding() -> None:
    found = requests({"80/tcp": [PortBinding("", "8080")]}, ("80/tcp", "81/tcp", "53/udp"), publish_all=True)
    assert [(each.container_port, each.protocol, each.first) for each in found] == [
        (80, "tcp", 8080),
        (53, "udp", 0),
        (81, "tcp", 0),
    ]


def test_exposed_ports_alone_publish_nothing() -> None:
    assert requests({"80/tcp": None}, ("81/tcp",)) == []


def test_a_networks_own_binding_address_is_the_default() -> None:
    assert parse_requests({"80/tcp": [PortBinding()]}, (), False, "10.0.0.1")[0].host_ip == "10.0.0.1"


@pytest.mark.parametrize("text", ["x/tcp", "0/tcp", "65536/tcp", "", "8080-8090/tcp", "²/tcp"])
def test_a_malformed_container_port_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid port specification"):
        parse_port(text)


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="invalid proto: icmp"):
        parse_port("80/icmp")


@pytest.mark.parametrize("text", ["x", "65536", "10-5", "1-2-3", "-1", "8080/tcp"])
def test_a_malformed_host_port_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid port specification"):
        requests({"80/tcp": [PortBinding("", text)]})


def test_a_malformed_host_address_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="invalid IP address: here"):
        requests({"80/tcp": [PortBinding("here", "1")]})


def test_what_is_not_offered_is_refused_clearly() -> None:
    with pytest.raises(Unimplemented, match="publishing sctp ports is not supported: 80/sctp"):
        requests({"80/sctp": [PortBinding("", "80")]})
    with pytest.raises(Unimplemented, match=r"publishing on an IPv6 address is not supported: \[::1\] for 80/tcp"):
        requests({"80/tcp": [PortBinding("::1", "80")]})


@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=12))
def test_garbage_is_refused_with_a_kind(port: str, address: str, host_port: str) -> None:
    try:
        requests({port: [PortBinding(address, host_port)]})
    except Error:
        pass
