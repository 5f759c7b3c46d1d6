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
    contents = {
        "hostname": hostname + "\n",
        "hosts": _hosts(plan, host_config),
        "resolv.conf": etc.resolv_text(
            _read("/etc/resolv.conf"),
            host_config.dns or daemon_dns,
            host_config.dns_search or daemon_search,
            host_config.dns_options,
            host_network=plan.kind == "host",
        ),
    }
    for name, content in contents.items():
        # Written in place, never renamed: a restarted container has this very inode mounted.
        fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, content.encode())
        finally:
            os.close(fd)
    return {path: f"{directory}/{name}" for path, name in PATHS.items()}


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
