"""Which networks a container belongs to, and its endpoint in each: pure rules over what it asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv4Network

import msgspec

from sampan.api.docker.networks import EndpointSettings
from sampan.engine.networks.ipam import choose_address, mac_of, parse_address
from sampan.engine.networks.records import (
    OPTION_MTU,
    ContainerNetworking,
    Endpoint,
    Kind,
    Network,
)
from sampan.errors import InvalidArgument

HOST_CONFLICT = "container cannot be disconnected from host network or connected to host network"
SHARED_CONFLICT = (
    "container sharing network namespace with another container or host cannot be connected to any other network"
)
NONE_CONFLICT = "container cannot be connected to multiple networks with one of the networks in private (none) mode"
_DEFAULT_MTU = 1500


def kind_of(network_mode: str) -> tuple[Kind, str]:
    """(kind, name): the network's name or id for "bridge", the other container for "container"."""
    if network_mode in ("", "default", "bridge"):
        return "bridge", "bridge"
    if network_mode in ("host", "none"):
        return ("host" if network_mode == "host" else "none"), network_mode
    if network_mode.startswith("container:"):
        return "container", network_mode.removeprefix("container:")
    return "bridge", network_mode


def normalized(wanted: ContainerNetworking, name_of: Callable[[str], str]) -> ContainerNetworking:
    """The same with `endpoints` keyed by network names and naming every network to join, the mode's own included.

    `name_of` turns a name or id into the network's name, and leaves what it does not know. InvalidArgument for
    networks that cannot go together."""
    kind, primary = kind_of(wanted.network_mode)
    if kind == "container":
        if wanted.port_bindings:
            raise InvalidArgument("conflicting options: port publishing and the container type network mode")
        return msgspec.structs.replace(wanted, endpoints={})
    endpoints = {name_of("bridge" if key == "default" else key): asked for key, asked in wanted.endpoints.items()}
    primary = name_of(primary)
    if kind != "bridge" and set(endpoints) - {primary}:
        raise InvalidArgument(HOST_CONFLICT if kind == "host" else NONE_CONFLICT)
    asked = endpoints.get(primary) or EndpointSettings()
    if wanted.mac_address and not asked.mac_address:
        asked = msgspec.structs.replace(asked, mac_address=wanted.mac_address)
    for each in (asked, *endpoints.values()):
        _check_addresses(each)
    rest = {name: endpoints[name] for name in sorted(endpoints) if name != primary}
    return msgspec.structs.replace(wanted, endpoints={primary: asked} | rest)


def with_endpoint(wanted: ContainerNetworking, name: str, asked: EndpointSettings) -> ContainerNetworking:
    """A member of one more network."""
    return msgspec.structs.replace(wanted, endpoints={**wanted.endpoints, name: asked})


def without_endpoint(wanted: ContainerNetworking, name: str) -> ContainerNetworking:
    """A member of one network less."""
    rest = {key: value for key, value in wanted.endpoints.items() if key != name}
    return msgspec.structs.replace(wanted, endpoints=rest)


def _check_addresses(asked: EndpointSettings) -> None:
    if asked.mac_address:
        parse_mac(asked.mac_address)
    if asked.ipam_config and asked.ipam_config.ipv4_address:
        parse_address(asked.ipam_config.ipv4_address, "IPv4")


def parse_mac(text: str) -> str:
    """Lower case, colons. InvalidArgument."""
    parts = text.lower().replace("-", ":").split(":")
    if len(parts) != 6 or not all(len(part) == 2 and set(part) <= set("0123456789abcdef") for part in parts):
        raise InvalidArgument(f"invalid MAC address: {text}")
    if int(parts[0], 16) & 1:
        raise InvalidArgument(f"invalid MAC address: {text} is a group address")
    return ":".join(parts)


def check_asked(network: Network, asked: EndpointSettings) -> None:
    """May an endpoint in this network ask for this? InvalidArgument in Docker's words."""
    address = asked.ipam_config.ipv4_address if asked.ipam_config else ""
    if network.predefined:
        if address:
            raise InvalidArgument("user specified IP address is supported on user defined networks only")
        if asked.aliases:
            raise InvalidArgument("network-scoped alias is supported only for containers in user defined networks")
    elif address and not network.user_pool:
        raise InvalidArgument(
            "user specified IP address is supported only when connecting to networks with user configured subnets"
        )


def new_endpoint(
    container: ContainerNetworking,
    network: Network,
    asked: EndpointSettings,
    taken: Collection[str],
    resting: Collection[str],
    used_ifnames: Collection[str],
) -> Endpoint:
    """The container's endpoint in a bridge network. `taken` addresses belong to others; `resting` ones are free but
    only given to a container that asks for them. Errors as `ipam.choose_address`."""
    check_asked(network, asked)
    requested = asked.ipam_config.ipv4_address if asked.ipam_config else ""
    occupied = {*taken, network.gateway, *network.reserved.values()}
    address = choose_address(
        IPv4Network(network.subnet),
        IPv4Network(network.ip_range) if network.ip_range else None,
        occupied if requested else occupied | set(resting),
        requested,
        f"{network.name} ({network.id})",
    )
    endpoint_id = os.urandom(32).hex()
    ifname = next(name for name in (f"eth{number}" for number in range(256)) if name not in used_ifnames)
    return Endpoint(
        id=endpoint_id,
        network_id=network.id,
        network_name=network.name,
        container_id=container.container_id,
        container_name=container.name.lstrip("/"),
        ip_address=str(address),
        prefix_len=network.prefix_len,
        gateway="" if network.internal else network.gateway,
        mac_address=parse_mac(asked.mac_address) if asked.mac_address else mac_of(str(address)),
        # Eleven digits, the most that fit: 2^44 names make a collision with a link of somebody else's unlikely.
        link=f"veth{endpoint_id[:11]}",
        ifname=ifname,
        mtu=int(network.options.get(OPTION_MTU) or _DEFAULT_MTU),
        priority=asked.gw_priority,
        aliases=tuple(asked.aliases or ()),
    )


def gateway_endpoint(endpoints: Sequence[Endpoint]) -> Endpoint | None:
    """The endpoint that gives the default route: highest priority, then the first network by name."""
    candidates = [endpoint for endpoint in endpoints if endpoint.gateway]
    return min(candidates, key=lambda endpoint: (-endpoint.priority, endpoint.network_name), default=None)
