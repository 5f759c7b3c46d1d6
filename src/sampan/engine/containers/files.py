"""The three files that Docker puts into every container: /etc/hostname, /etc/hosts, /etc/resolv.conf."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from sampan.api.docker.containers import HostConfig
from sampan.engine.networks import etc
from sampan.engine.networks.records import Plan

PATHS = {"/etc/resolv.conf": "resolv.conf", "/etc/hostname": "hostname", "/etc/hosts": "hosts"}


def write(
    directory: str,
    hostname: str,
    plan: Plan,
    host_config: HostConfig,
    daemon_dns: Sequence[str] = (),
    daemon_search: Sequence[str] = (),
) -> Mapping[str, str]:
    """Write them for this start; host path by container path. OSError, InvalidArgument (host-gateway without one)."""
    contents = {"hostname": hostname + "\n", **_of_networks(plan, host_config, daemon_dns, daemon_search)}
    for name, content in contents.items():
        _write(f"{directory}/{name}", content)
    return {path: f"{directory}/{name}" for path, name in PATHS.items()}


def follow(
    directory: str,
    before: Plan,
    after: Plan,
    host_config: HostConfig,
    daemon_dns: Sequence[str] = (),
    daemon_search: Sequence[str] = (),
) -> None:
    """The networks of a running container have changed: hosts and resolv.conf too, unless it wrote its own. OSError."""
    old = _of_networks(before, host_config, daemon_dns, daemon_search)
    for name, content in _of_networks(after, host_config, daemon_dns, daemon_search).items():
        if content != old[name] and _read(f"{directory}/{name}") == old[name]:
            _write(f"{directory}/{name}", content)


def _of_networks(
    plan: Plan, host_config: HostConfig, daemon_dns: Sequence[str], daemon_search: Sequence[str]
) -> dict[str, str]:
    resolv = etc.resolv_text(
        _read("/etc/resolv.conf"),
        host_config.dns or daemon_dns,
        host_config.dns_search or daemon_search,
        host_config.dns_options,
        host_network=plan.kind == "host",
        embedded=plan.user_defined,
    )
    return {"hosts": _hosts(plan, host_config), "resolv.conf": resolv}


def _write(path: str, content: str) -> None:
    # Written in place, never renamed: a container that runs, or is restarted, has this very inode mounted.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, content.encode())
    finally:
        os.close(fd)


def _hosts(plan: Plan, host_config: HostConfig) -> str:
    """With the host's network the host's own file is the beginning, as in Docker."""
    gateway = next((endpoint.gateway for endpoint in plan.endpoints if endpoint.gateway), "")
    if plan.kind != "host":
        return etc.hosts_text(plan.hosts, host_config.extra_hosts, gateway)
    extra = [etc.parse_extra_host(entry) for entry in host_config.extra_hosts]
    return _read("/etc/hosts") + "".join(
        f"{'127.0.0.1' if address == 'host-gateway' else address}\t{name}\n" for name, address in extra
    )


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
