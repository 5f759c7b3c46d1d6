"""The texts of a container's /etc/hosts and /etc/resolv.conf: pure; the containers room writes the files.

Sources: hosts(5), resolv.conf(5); which lines there are follows Docker 28.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address

from sampan.errors import InvalidArgument

EMBEDDED_DNS = "127.0.0.11"
"""Where a container of a user-defined network asks for names (`resolver`)."""

DEFAULT_NAMESERVERS = ("8.8.8.8", "8.8.4.4")

_STANDARD_HOSTS = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)
_HOST_GATEWAY = "host-gateway"


def hosts_text(
    own: Iterable[tuple[str, Sequence[str]]], extra_hosts: Iterable[str] = (), host_gateway: str = ""
) -> str:
    """/etc/hosts: the standard lines, `extra_hosts` (HostConfig.ExtraHosts), then the container's own (`Plan.hosts`).

    InvalidArgument for a malformed entry, and for `host-gateway` without a `host_gateway`."""
    lines = [f"{address}\t{names}" for address, names in _STANDARD_HOSTS]
    for entry in extra_hosts:
        name, address = parse_extra_host(entry)
        if address == _HOST_GATEWAY:
            if not host_gateway:
                raise InvalidArgument(f"unable to derive the IP value for host-gateway: {name}:{address}")
            address = host_gateway
        lines.append(f"{address}\t{name}")
    lines += [f"{address}\t{' '.join(names)}" for address, names in own]
    return "\n".join(lines) + "\n"


def parse_extra_host(entry: str) -> tuple[str, str]:
    """`name:address` or `name=address` to (name, address); the address may be "host-gateway". InvalidArgument."""
    at = min((index for index in (entry.find(":"), entry.find("=")) if index > 0), default=-1)
    if at < 0:
        raise InvalidArgument(f'bad format for add-host: "{entry}"')
    name, address = entry[:at], entry[at + 1 :]
    if address == _HOST_GATEWAY:
        return name, address
    try:
        return name, str(ip_address(address.strip("[]")))
    except ValueError:
        raise InvalidArgument(f'invalid IP address in add-host: "{address}"') from None


def resolv_text(
    host: str,
    dns: Sequence[str] = (),
    dns_search: Sequence[str] = (),
    dns_options: Sequence[str] = (),
    host_network: bool = False,
    embedded: bool = False,
) -> str:
    """/etc/resolv.conf from the host's own text and the container's settings, which win where they are given.

    A container of its own netns cannot reach the host's loopback name servers: those are left out, IPv6 ones too, and
    Google's public ones come in when none is left. With `host_network` all stay. A search list of "." means none.
    `embedded`: the engine's own server is asked, which asks those (`upstreams`); a name without a dot is one of its."""
    nameservers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in host.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = words[1:]
        elif words[0] == "options":
            options += words[1:]
    if embedded:
        nameservers = [EMBEDDED_DNS]
    elif dns:
        nameservers = list(dns)
    elif not host_network:
        nameservers = [server for server in nameservers if _reachable(server)] or list(DEFAULT_NAMESERVERS)
    search = list(dns_search) if dns_search else search
    options = list(dns_options) if dns_options else options
    if embedded and not any(option.startswith("ndots:") for option in options):
        options = [*options, "ndots:0"]
    lines = [f"nameserver {server}" for server in nameservers]
    if search and search != ["."]:
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join(lines) + "\n"


def upstreams(host: str, dns: Sequence[str] = ()) -> list[str]:
    """Whom the embedded server asks, from the host's netns: the container's own choice, or the host's name servers."""
    lines = (line.split("#", 1)[0].split() for line in host.splitlines())
    return list(dns) or [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def _reachable(server: str) -> bool:
    try:
        address = ip_address(server.partition("%")[0])
    except ValueError:
        return False
    return address.version == 4 and not address.is_loopback
