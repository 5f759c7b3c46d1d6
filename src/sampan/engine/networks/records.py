"""What the networks room remembers and hands out: frozen values, no behaviour beyond simple derivations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from sampan.api.docker.networks import EndpointSettings, PortMap

Kind = Literal["bridge", "host", "none", "container"]

DEFAULT_POOLS: tuple[tuple[str, int], ...] = (
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
)
"""Docker's own private pools, less the one of its docker0: (base, prefix length of each network cut from it)."""

PREDEFINED = ("bridge", "host", "none")

DEFAULT_BRIDGE = "sampan0"
DEFAULT_BIP = "172.30.0.1/16"

OPTION_BRIDGE_NAME = "com.docker.network.bridge.name"
OPTION_DEFAULT_BRIDGE = "com.docker.network.bridge.default_bridge"
OPTION_ICC = "com.docker.network.bridge.enable_icc"
OPTION_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
OPTION_HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
OPTION_MTU = "com.docker.network.driver.mtu"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the room, in the words of the daemon's flags; "" takes the default.

    `bridge` "none" leaves the default bridge out. `bip` is the default bridge's address with its prefix length,
    `fixed_cidr` the part of its subnet that containers get. `iptables` off leaves the firewall alone."""

    bridge: str = ""
    bip: str = ""
    fixed_cidr: str = ""
    mtu: int = 1500
    pools: tuple[tuple[str, int], ...] = DEFAULT_POOLS
    ip_forward: bool = True
    ip_masq: bool = True
    icc: bool = True
    iptables: bool = True


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
    user_pool: bool = False
    """The client chose the subnet itself; only then may it choose addresses."""

    @property
    def prefix_len(self) -> int:
        return int(self.subnet.rpartition("/")[2] or 0)

    @property
    def predefined(self) -> bool:
        """One of the three that exist from the start and cannot be removed."""
        return self.name in PREDEFINED

    def allows(self, option: str) -> bool:
        """A boolean driver option that is on unless it is switched off."""
        return self.options.get(option, "true").lower() not in ("false", "0", "f")


class ContainerNetworking(msgspec.Struct, frozen=True, kw_only=True):
    """What a container asked for when it was created (`configure`), kept until it is removed (`forget`).

    `network_mode` is HostConfig.NetworkMode ("", default, bridge, host, none, container:ID, or a network's name or
    id). `endpoints` is NetworkingConfig.EndpointsConfig, keyed by the network's name; `port_bindings`
    HostConfig.PortBindings; `exposed_ports` the keys of Config.ExposedPorts ("80/tcp"); `dns` the name servers to ask
    instead of the host's."""

    container_id: str
    name: str
    hostname: str = ""
    domainname: str = ""
    network_mode: str = "default"
    endpoints: Mapping[str, EndpointSettings] = {}
    port_bindings: PortMap = {}
    exposed_ports: Sequence[str] = ()
    publish_all_ports: bool = False
    mac_address: str = ""
    dns: Sequence[str] = ()


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
    mtu: int = 1500
    priority: int = 0
    aliases: Sequence[str] = ()


def is_user_defined(endpoint: Endpoint) -> bool:
    """Whether members are known by name there: everywhere but on the default bridge."""
    return endpoint.network_name != "bridge"


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """The network stack of a started container. `joined` names the container whose stack it shares, when it does;
    `netns_path` is what inspect reports as SandboxKey. `gateway_endpoint` is the id of the endpoint that gives the way
    out, to which the published ports lead; "" without one."""

    id: str
    container_id: str
    kind: Kind
    joined: str = ""
    netns_path: str = ""
    gateway_endpoint: str = ""
    publications: Sequence[Publication] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of `reserve`: everything about a container's network before its netns exists.

    `kind` tells the spec planner what to do: "bridge" and "none" need a netns of their own, "host" none,
    "container" that of another (`joined`, a container name or id). `hosts` are the container's own lines of
    /etc/hosts: (address, names). `user_defined` says that a network other than the default bridge is joined."""

    container_id: str
    kind: Kind
    sandbox_id: str
    joined: str = ""
    endpoints: Sequence[Endpoint] = ()
    publications: Sequence[Publication] = ()
    hosts: Sequence[tuple[str, Sequence[str]]] = ()
    user_defined: bool = False
