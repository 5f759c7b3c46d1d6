"""Documents of Docker's network endpoints and of the network parts of a container (Engine API 1.24 to 1.51).

Fields are snake case here and Docker's Pascal case on the wire; `None` is written as `null`, which is what a Go
client sends and expects for an absent map or list.
"""

from __future__ import annotations

import msgspec
from msgspec import field

_INITIALISMS = {
    "id": "Id",
    "ipam": "IPAM",
    "ipam_config": "IPAMConfig",
    "ip_range": "IPRange",
    "enable_ipv4": "EnableIPv4",
    "enable_ipv6": "EnableIPv6",
    "ipv4_address": "IPv4Address",
    "ipv6_address": "IPv6Address",
    "link_local_ips": "LinkLocalIPs",
    "network_id": "NetworkID",
    "endpoint_id": "EndpointID",
    "sandbox_id": "SandboxID",
    "ip_address": "IPAddress",
    "ip_prefix_len": "IPPrefixLen",
    "ipv6_gateway": "IPv6Gateway",
    "global_ipv6_address": "GlobalIPv6Address",
    "global_ipv6_prefix_len": "GlobalIPv6PrefixLen",
    "link_local_ipv6_address": "LinkLocalIPv6Address",
    "link_local_ipv6_prefix_len": "LinkLocalIPv6PrefixLen",
    "secondary_ip_addresses": "SecondaryIPAddresses",
    "secondary_ipv6_addresses": "SecondaryIPv6Addresses",
    "dns_names": "DNSNames",
}


def wire_name(name: str) -> str:
    """The JSON key of a field: Pascal case, with Docker's own spelling of initialisms."""
    return _INITIALISMS.get(name) or "".join(part.capitalize() for part in name.split("_"))


class Document(msgspec.Struct, rename=wire_name):
    """Base of the documents here: the renaming, nothing else. Unknown keys are ignored, as Docker does."""


class PortBinding(Document):
    """Where a container's port is published. `host_port` is decimal text, "" any, or a range "8000-8010"."""

    host_ip: str = ""
    host_port: str = ""


PortMap = dict[str, list[PortBinding] | None]
"""Keyed by `<port>/<proto>`, for example `80/tcp`; null for a port that is exposed and not published."""


class EndpointIPAMConfig(Document, omit_defaults=True):
    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: list[str] | None = None


class EndpointSettings(Document):
    """A container's place in one network: what was asked for, then what it got."""

    ipam_config: EndpointIPAMConfig | None = None
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str = ""
    driver_opts: dict[str, str] | None = None
    gw_priority: int = 0
    network_id: str = ""
    endpoint_id: str = ""
    gateway: str = ""
    ip_address: str = ""
    ip_prefix_len: int = 0
    ipv6_gateway: str = ""
    global_ipv6_address: str = ""
    global_ipv6_prefix_len: int = 0
    dns_names: list[str] | None = None


class NetworkingConfig(Document):
    """Part of a container create request: the networks to join, by name or id."""

    endpoints_config: dict[str, EndpointSettings | None] | None = None


class Address(Document):
    addr: str = ""
    prefix_len: int = 0


class NetworkSettings(Document):
    """`NetworkSettings` of a container inspect; the address fields repeat the default bridge's endpoint."""

    bridge: str = ""
    sandbox_id: str = ""
    sandbox_key: str = ""
    ports: PortMap = field(default_factory=dict)
    hairpin_mode: bool = False
    link_local_ipv6_address: str = ""
    link_local_ipv6_prefix_len: int = 0
    secondary_ip_addresses: list[Address] | None = None
    secondary_ipv6_addresses: list[Address] | None = None
    endpoint_id: str = ""
    gateway: str = ""
    global_ipv6_address: str = ""
    global_ipv6_prefix_len: int = 0
    ip_address: str = ""
    ip_prefix_len: int = 0
    ipv6_gateway: str = ""
    mac_address: str = ""
    networks: dict[str, EndpointSettings] = field(default_factory=dict)


class IPAMConfig(Document, omit_defaults=True):
    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    auxiliary_addresses: dict[str, str] | None = None


class IPAM(Document):
    driver: str = "default"
    options: dict[str, str] | None = None
    config: list[IPAMConfig] | None = None


class ConfigReference(Document):
    network: str = ""


class NetworkContainer(Document):
    """One member in a network inspect; `ipv4_address` carries its prefix length, `172.19.0.2/16`."""

    name: str = ""
    endpoint_id: str = ""
    mac_address: str = ""
    ipv4_address: str = ""
    ipv6_address: str = ""


class Network(Document):
    """`GET /networks` and `GET /networks/{id}`. `created` is RFC 3339 with nanoseconds."""

    name: str
    id: str
    created: str
    scope: str
    driver: str
    enable_ipv4: bool
    enable_ipv6: bool
    ipam: IPAM
    internal: bool
    attachable: bool
    ingress: bool
    config_from: ConfigReference
    config_only: bool
    containers: dict[str, NetworkContainer]
    options: dict[str, str]
    labels: dict[str, str]


class NetworkCreateRequest(Document):
    """`POST /networks/create`. `enable_ipv4` and `enable_ipv6` are null when the client leaves them to the engine."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_only: bool = False
    config_from: ConfigReference | None = None
    ipam: IPAM | None = None
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class NetworkCreateResponse(Document):
    id: str
    warning: str = ""


class NetworkConnectRequest(Document):
    container: str = ""
    endpoint_config: EndpointSettings | None = None


class NetworkDisconnectRequest(Document):
    container: str = ""
    force: bool = False


class NetworkPruneResponse(Document):
    """Names of what was removed; null when nothing was."""

    networks_deleted: list[str] | None = None
