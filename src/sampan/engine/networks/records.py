"""What the networks room remembers and hands out: frozen values, no behaviour beyond simple derivations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from sampan.api.docker.networks import EndpointSettings, PortMap

Kind = Literal["bridge", "host", "none", "container"]

DEFAULT_POOLS: tuple[tuple[str, int], ...] = (
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
)
"""Docker's own private pools: (base, prefix length of each network cut from it)."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the room. `bip` is the default bridge's address with its prefix length."""

    bridge: str = "sampan0"
    bip: str = "172.30.0.1/16"
    mtu: int = 1500
    pools: tuple[tuple[str, int], ...] = DEFAULT_POOLS
    ip_forward: bool = True


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network. `subnet` and `gateway` are "" for host and none; `device` is the bridge's link name."""

    id: str
    name: str
    driver: str
    created: str
    device: str = ""
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    internal: bool = False
    attachable: bool = False
    enable_ipv6: bool = False
    options: Mapping[str, str] = {}
    labels: Mapping[str, str] = {}
    ipam_options: Mapping[str, str] = {}
    reserved: Mapping[str, str] = {}
    """IPAM auxiliary addresses: name to an address never given out."""
    configured_ipam: bool = True
    """False when the client asked for no pool of its own (shown in inspect all the same)."""

    @property
    def prefix_len(self) -> int:
        return int(self.subnet.rpartition("/")[2] or 0)


class ContainerNetworking(msgspec.Struct, frozen=True, kw_only=True):
    """What a container asked for when it was created (`configure`), kept until it is removed (`forget`).

    `network_mode` is HostConfig.NetworkMode ("", default, bridge, host, none, container:ID, or a network's name or
    id). `endpoints` is NetworkingConfig.EndpointsConfig, keyed by the network's name; `port_bindings`
    HostConfig.PortBindings; `exposed_ports` the keys of Config.ExposedPorts ("80/tcp")."""

    container_id: str
    name: str
    hostname: str = ""
    network_mode: str = "default"
    endpoints: Mapping[str, EndpointSettings] = {}
    port_bindings: PortMap = {}
    exposed_ports: Sequence[str] = ()
    publish_all_ports: bool = False
    mac_address: str = ""


class Publication(msgspec.Struct, frozen=True, kw_only=True):
    """One host port that leads to a container's port."""

    container_port: int
    protocol: str
    host_ip: str
    host_port: int


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A container's allocated place in one bridge network. `link` is the host's end of the veth pair, `ifname`
    the container's end; `gateway` is "" on an internal network."""

    id: str
    network_id: str
    network_name: str
    container_id: str
    container_name: str
    ip_address: str
    prefix_len: int
    gateway: str
    mac_address: str
    link: str
    ifname: str
    aliases: Sequence[str] = ()
    default_route: bool = False


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of `reserve`: everything about a container's network before its netns exists.

    `kind` tells the spec planner what to do: "bridge" and "none" need a netns of their own, "host" none,
    "container" that of another (`joined`, a container name or id). `hosts` are the container's own lines of
    /etc/hosts: (address, names)."""

    container_id: str
    kind: Kind
    sandbox_id: str
    joined: str = ""
    endpoints: Sequence[Endpoint] = ()
    publications: Sequence[Publication] = ()
    hosts: Sequence[tuple[str, Sequence[str]]] = ()
    user_defined: bool = False
