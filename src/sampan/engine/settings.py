"""sampand's settings: flags and daemon.json (dockerd's names) as one frozen value.

A key that is both a flag and in the file is an error, as in dockerd, except lists, which are joined.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sampan import VERSION
from sampan.errors import InvalidArgument

ROOT = "/var/lib/sampan"
STATE = "/run/sampan"
CONFIG = "/etc/sampan/daemon.json"
LEVELS = ("debug", "info", "warn", "error", "fatal")


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are and what is allowed. Paths are absolute.

    `runtimes` maps a name to an OCI runtime's binary path; "sampan" is ours and needs no entry. `bridge` is ""
    for the default bridge, "none" to switch bridge networking off. `live_restore`: containers outlive sampand."""

    hosts: tuple[str, ...] = (f"unix://{STATE}/docker.sock",)
    root: str = ROOT
    state: str = STATE
    pidfile: str = f"{STATE}/sampand.pid"
    group: str = "docker"
    bridge: str = ""
    bip: str = ""
    fixed_cidr: str = ""
    default_address_pools: tuple[tuple[str, int], ...] = ()
    mtu: int = 1500
    iptables: bool = True
    ip_forward: bool = True
    ip_masq: bool = True
    icc: bool = True
    userland_proxy: bool = True
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    insecure_registries: tuple[str, ...] = ()
    registry_mirrors: tuple[str, ...] = ()
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    runtimes: Mapping[str, str] = field(default_factory=dict)
    default_runtime: str = "sampan"
    cgroup_parent: str = ""
    default_ulimits: tuple[str, ...] = ()
    shm_size: int = 64 << 20
    init: bool = False
    log_driver: str = "json-file"
    log_opts: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    storage_driver: str = ""
    live_restore: bool = True
    shutdown_timeout: int = 15
    log_level: str = "info"
    debug: bool = False


@dataclass(frozen=True, slots=True)
class _Option:
    """One setting: its daemon.json key, flags, shape (how its text is read) and help."""

    field: str
    key: str
    flags: tuple[str, ...]
    shape: str
    help: str


_OPTIONS = (
    _Option("hosts", "hosts", ("-H", "--host"), "list", "daemon socket(s) to connect to"),
    _Option("root", "data-root", ("--data-root", "--root"), "path", "root directory of persistent data"),
    _Option("state", "exec-root", ("--exec-root", "--state"), "path", "root directory of execution state files"),
    _Option("pidfile", "pidfile", ("-p", "--pidfile"), "path", "path of the daemon's PID file"),
    _Option("group", "group", ("-G", "--group"), "text", "group of the unix socket"),
    _Option("bridge", "bridge", ("-b", "--bridge"), "text", 'attach containers to a network bridge ("none": off)'),
    _Option("bip", "bip", ("--bip",), "text", "IP address and prefix of the default bridge"),
    _Option("fixed_cidr", "fixed-cidr", ("--fixed-cidr",), "text", "IPv4 subnet for fixed addresses"),
    _Option("default_address_pools", "default-address-pools", ("--default-address-pool",), "pools", "base=,size="),
    _Option("mtu", "mtu", ("--mtu",), "int", "MTU of the default bridge's containers"),
    _Option("iptables", "iptables", ("--iptables",), "bool", "set firewall rules"),
    _Option("ip_forward", "ip-forward", ("--ip-forward",), "bool", "enable net.ipv4.ip_forward"),
    _Option("ip_masq", "ip-masq", ("--ip-masq",), "bool", "masquerade the bridge's traffic"),
    _Option("icc", "icc", ("--icc",), "bool", "let containers of the default bridge talk to each other"),
    _Option("userland_proxy", "userland-proxy", ("--userland-proxy",), "bool", "relay loopback traffic to ports"),
    _Option("dns", "dns", ("--dns",), "list", "DNS server to use"),
    _Option("dns_search", "dns-search", ("--dns-search",), "list", "DNS search domain"),
    _Option("insecure_registries", "insecure-registries", ("--insecure-registry",), "list", "registry to trust"),
    _Option("registry_mirrors", "registry-mirrors", ("--registry-mirror",), "list", "mirror of Docker Hub"),
    _Option("max_concurrent_downloads", "max-concurrent-downloads", ("--max-concurrent-downloads",), "int", "layers"),
    _Option("max_concurrent_uploads", "max-concurrent-uploads", ("--max-concurrent-uploads",), "int", "layers"),
    _Option("runtimes", "runtimes", ("--add-runtime",), "runtimes", "register an OCI runtime: name=path"),
    _Option("default_runtime", "default-runtime", ("--default-runtime",), "text", "OCI runtime for containers"),
    _Option("cgroup_parent", "cgroup-parent", ("--cgroup-parent",), "text", "parent cgroup of containers"),
    _Option("default_ulimits", "default-ulimits", ("--default-ulimit",), "ulimits", "name=soft[:hard]"),
    _Option("shm_size", "default-shm-size", ("--default-shm-size",), "size", "size of /dev/shm"),
    _Option("init", "init", ("--init",), "bool", "run an init in each container"),
    _Option("log_driver", "log-driver", ("--log-driver",), "text", "default driver of container logs"),
    _Option("log_opts", "log-opts", ("--log-opt",), "map", "default log options"),
    _Option("labels", "labels", ("--label",), "list", "key=value of this daemon"),
    _Option("storage_driver", "storage-driver", ("-s", "--storage-driver"), "text", "snapshotter"),
    _Option("live_restore", "live-restore", ("--live-restore",), "bool", "leave containers running (default)"),
    _Option("shutdown_timeout", "shutdown-timeout", ("--shutdown-timeout",), "int", "seconds to stop containers"),
    _Option("log_level", "log-level", ("-l", "--log-level"), "text", "|".join(LEVELS)),
    _Option("debug", "debug", ("-D", "--debug"), "bool", "debug mode"),
)

# Keys of daemon.json about things that are not offered at all, so that a usual file is accepted. Keys that would change
# what is offered (tls, exec-opts, ip) must stay unknown: to ignore them would be to promise what is not kept.
_IGNORED = frozenset(("experimental", "features", "builder"))
