"""The three files that Docker puts into every container: /etc/hostname, /etc/hosts, /etc/resolv.conf."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from sampan.api.docker.containers import HostConfig
from sampan.engine.networks.records import Plan
from sampan.errors import InvalidArgument

PATHS = {"/etc/resolv.conf": "resolv.conf", "/etc/hostname": "hostname", "/etc/hosts": "hosts"}

_LOCALHOST = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""

_PUBLIC_RESOLVERS = ("8.8.8.8", "8.8.4.4")


def write(
    directory: str,
    hostname: str,
    domainname: str,
    plan: Plan,
    host_config: HostConfig,
    daemon_dns: Sequence[str] = (),
    daemon_search: Sequence[str] = (),
) -> Mapping[str, str]:
    """Write them for this start; host path by container path. OSError."""
    contents = {
        "hostname": hostname + "\n",
        "hosts": hosts(hostname, domainname, plan, host_config.extra_hosts, _read("/etc/hosts")),
        "resolv.conf": resolv_conf(_read("/etc/resolv.conf"), host_config, plan, daemon_dns, daemon_search),
    }
    for name, content in contents.items():
        # Written in place, never renamed: a restarted container has this very inode mounted.
        fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, content.encode())
        finally:
            os.close(fd)
    return {path: f"{directory}/{name}" for path, name in PATHS.items()}


def hosts(hostname: str, domainname: str, plan: Plan, extra: Sequence[str], host_file: str) -> str:
    """The text of /etc/hosts. With the host's network the host's own file is the beginning, as in Docker."""
    lines = [host_file if plan.kind == "host" and host_file else _LOCALHOST]
    gateway = next((endpoint.gateway for endpoint in plan.endpoints if endpoint.gateway), "")
    for entry in extra:
        name, address = split_extra_host(entry)
        if address == "host-gateway":
            address = gateway or "127.0.0.1"
        lines.append(f"{address}\t{name}\n")
    names = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    for address, own in plan.hosts:
        lines.append(f"{address}\t{' '.join(own) or names}\n")
    return "".join(lines)


def split_extra_host(entry: str) -> tuple[str, str]:
    """(name, address) of one --add-host, `name:address` or `name=address`. InvalidArgument."""
    name, found, address = entry.partition("=" if "=" in entry else ":")
    if not found or not name or not address:
        raise InvalidArgument(f'bad format for add-host: "{entry}"')
    return name, address.strip("[]")


def resolv_conf(
    host_file: str, host_config: HostConfig, plan: Plan, daemon_dns: Sequence[str], daemon_search: Sequence[str]
) -> str:
    """The text of /etc/resolv.conf: the host's, less resolvers that only the host itself can reach.

    With the host's or another container's network nothing needs to be left out."""
    nameservers, search, options = _parse(host_file)
    if plan.kind not in ("host", "container"):
        nameservers = [address for address in nameservers if not _is_loopback(address)]
        if not nameservers:
            nameservers = list(_PUBLIC_RESOLVERS)
    nameservers = list(host_config.dns) or list(daemon_dns) or nameservers
    search = list(host_config.dns_search) or list(daemon_search) or search
    options = list(host_config.dns_options) or options
    if search == ["."]:
        search = []
    lines = [f"nameserver {address}\n" for address in nameservers]
    if search:
        lines.append(f"search {' '.join(search)}\n")
    if options:
        lines.append(f"options {' '.join(options)}\n")
    return "".join(lines)


def _parse(text: str) -> tuple[list[str], list[str], list[str]]:
    nameservers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            nameservers.append(words[1])
        elif words[0] in ("search", "domain"):
            search = words[1:]
        elif words[0] == "options":
            options += words[1:]
    return nameservers, search, options


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
