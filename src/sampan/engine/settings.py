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
from urllib.parse import urlsplit

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
    registry_hosts_dirs: tuple[str, ...] = ()
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    runtimes: Mapping[str, str] = field(default_factory=dict)
    default_runtime: str = "sampan"
    exec_opts: tuple[str, ...] = ()
    cgroup_parent: str = ""
    default_ulimits: tuple[str, ...] = ()
    shm_size: int = 64 << 20
    init: bool = False
    log_driver: str = "json-file"
    log_opts: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    storage_driver: str = ""
    containerd_address: str = ""
    live_restore: bool = True
    experimental: bool = False
    shutdown_timeout: int = 15
    log_level: str = "info"
    debug: bool = False

    @property
    def systemd_cgroup(self) -> bool:
        """Whether systemd makes the cgroups of containers (`--exec-opt native.cgroupdriver=systemd`)."""
        return _cgroup_driver(self.exec_opts) == "systemd"


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
    _Option("max_download_attempts", "max-download-attempts", ("--max-download-attempts",), "int", "of each request"),
    _Option("registry_hosts_dirs", "registry-hosts-dirs", ("--registry-hosts-dir",), "list", "of hosts.toml, certs"),
    _Option("runtimes", "runtimes", ("--add-runtime",), "runtimes", "register an OCI runtime: name=path"),
    _Option("default_runtime", "default-runtime", ("--default-runtime",), "text", "OCI runtime for containers"),
    _Option("exec_opts", "exec-opts", ("--exec-opt",), "list", "native.cgroupdriver=cgroupfs|systemd"),
    _Option("cgroup_parent", "cgroup-parent", ("--cgroup-parent",), "text", "parent cgroup of containers"),
    _Option("default_ulimits", "default-ulimits", ("--default-ulimit",), "ulimits", "name=soft[:hard]"),
    _Option("shm_size", "default-shm-size", ("--default-shm-size",), "size", "size of /dev/shm"),
    _Option("init", "init", ("--init",), "bool", "run an init in each container"),
    _Option("log_driver", "log-driver", ("--log-driver",), "text", "default driver of container logs"),
    _Option("log_opts", "log-opts", ("--log-opt",), "map", "default log options"),
    _Option("labels", "labels", ("--label",), "list", "key=value of this daemon"),
    _Option("containerd_address", "containerd-address", ("--containerd-address",), "path", "serve containerd's API"),
    _Option("storage_driver", "storage-driver", ("-s", "--storage-driver"), "text", "snapshotter"),
    _Option("live_restore", "live-restore", ("--live-restore",), "bool", "leave containers running (default)"),
    _Option("experimental", "experimental", ("--experimental",), "bool", "experimental features: checkpoints"),
    _Option("shutdown_timeout", "shutdown-timeout", ("--shutdown-timeout",), "int", "seconds to stop containers"),
    _Option("log_level", "log-level", ("-l", "--log-level"), "text", "|".join(LEVELS)),
    _Option("debug", "debug", ("-D", "--debug"), "bool", "debug mode"),
)

_CGROUP_DRIVER = "native.cgroupdriver"

# Keys of daemon.json about things that are not offered at all, so that a usual file is accepted. Keys that would change
# what is offered (tls, ip) must stay unknown: to ignore them would be to promise what is not kept.
_IGNORED = frozenset(("features", "builder"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sampand", description="The engine of sampan", allow_abbrev=False)
    parser.add_argument("-v", "--version", action="version", version=f"sampand version {VERSION}")
    parser.add_argument("--config-file", default=None, metavar="FILE", help=f"configuration file ({CONFIG})")
    parser.add_argument("--validate", action="store_true", help="check the configuration and exit")
    for option in _OPTIONS:
        if option.shape == "bool":
            parser.add_argument(*option.flags, dest=option.field, nargs="?", const="true", help=option.help)
        elif option.shape in ("text", "path", "int", "size"):
            parser.add_argument(*option.flags, dest=option.field, help=option.help)
        else:
            parser.add_argument(*option.flags, dest=option.field, action="append", help=option.help)
    return parser


def from_arguments(arguments: Sequence[str]) -> tuple[Settings, bool]:
    """The settings for a command line, and whether it only asked to validate them.

    InvalidArgument with dockerd's words; exits like argparse for a malformed command line or --version."""
    given = vars(_parser().parse_args(list(arguments)))
    path, only_check = given.pop("config_file"), given.pop("validate")
    flags = {name: value for name, value in given.items() if value is not None}
    return combine(flags, load_file(path)), only_check


def load_file(path: str | None) -> dict[str, Any]:
    """daemon.json as a mapping; the default file may be missing. InvalidArgument."""
    if path is None and not os.path.exists(CONFIG):
        return {}
    path = path or CONFIG
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        document = json.loads(text) if text.strip() else {}
    except OSError as error:
        raise InvalidArgument(
            f"unable to configure the Docker daemon with file {path}: open {path}: {_words(error)}"
        ) from error
    except ValueError as error:
        raise InvalidArgument(f"unable to configure the Docker daemon with file {path}: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArgument(f"unable to configure the Docker daemon with file {path}: not an object")
    return document


def combine(flags: Mapping[str, Any], file: Mapping[str, Any]) -> Settings:
    """One value from parsed flags (by field) and daemon.json (by key). InvalidArgument."""
    keys = {option.key: option for option in _OPTIONS}
    unknown = sorted(key for key in file if key not in keys and key not in _IGNORED)
    if unknown:
        raise InvalidArgument("the following directives don't match any configuration option: " + ", ".join(unknown))
    values: dict[str, Any] = {}
    for option in _OPTIONS:
        in_file, in_flags = option.key in file, option.field in flags
        if in_file and in_flags and option.shape in ("text", "path", "int", "size", "bool"):
            raise InvalidArgument(
                "the following directives are specified both as a flag and in the configuration file: "
                f"{option.key}: (from flag: {flags[option.field]}, from file: {file[option.key]})"
            )
        parts = []
        if in_file:
            parts.append(_SHAPES[option.shape](option, file[option.key]))
        if in_flags:
            parts.append(_SHAPES[option.shape](option, flags[option.field]))
        if parts:
            values[option.field] = parts[0] if len(parts) == 1 else _join(parts[0], parts[1])
    return _complete(values)


def _complete(values: dict[str, Any]) -> Settings:
    state = values.get("state", STATE)
    values.setdefault("pidfile", f"{state}/sampand.pid")
    values.setdefault("hosts", (f"unix://{state}/docker.sock",))
    if values.get("log_level", "info") not in LEVELS:
        raise InvalidArgument(f"invalid logging level: {values['log_level']}")
    driver = _cgroup_driver(values.get("exec_opts", ()))
    if driver not in ("cgroupfs", "systemd"):
        raise InvalidArgument(f"native.cgroupdriver option {driver} not supported")
    if driver == "systemd" and values.get("cgroup_parent"):
        check_slice(values["cgroup_parent"])
    for mirror in values.get("registry_mirrors", ()):
        _check_mirror(mirror)
    if values.get("max_download_attempts", 1) < 1:
        raise InvalidArgument(f"invalid max download attempts: {values['max_download_attempts']}")
    runtime = values.get("default_runtime", "sampan")
    if runtime != "sampan" and runtime not in values.get("runtimes", {}) and runtime not in FOUND_BY_NAME:
        raise InvalidArgument(f"specified default runtime '{runtime}' does not exist")
    return Settings(**values)


def _cgroup_driver(exec_opts: Sequence[str]) -> str:
    """The first that is named; other options are let be, as dockerd does."""
    parted = (text.partition("=") for text in exec_opts)
    return next((value.strip() for key, _, value in parted if key.strip().lower() == _CGROUP_DRIVER), "cgroupfs")


def check_slice(parent: str) -> None:
    """InvalidArgument in Docker's words unless `parent` can be systemd's parent of a container's scope."""
    if len(parent) <= len(".slice") or not parent.endswith(".slice"):
        raise InvalidArgument('cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"')


def _check_mirror(url: str) -> None:
    """dockerd's rule: a base URL and nothing else. InvalidArgument."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidArgument(f'invalid mirror: "{url}" is not a valid URI: {error}') from error
    if parts.scheme not in ("http", "https"):
        raise InvalidArgument(f'invalid mirror: unsupported scheme "{parts.scheme}" in "{url}"')
    if not parts.netloc or parts.query or parts.fragment:
        raise InvalidArgument(f'invalid mirror: query or fragment at end of the URI "{url}"')
    if parts.username is not None or parts.password is not None:
        raise InvalidArgument(f'invalid mirror: username/password not allowed in URI "{url}"')


# Runtimes that need no --add-runtime: their binary is looked up on PATH when a container asks for them.
FOUND_BY_NAME = ("runc", "crun")


def _join(first: Any, second: Any) -> Any:
    if isinstance(first, dict):
        return {**first, **second}
    return (*first, *second)


def _read_text(option: _Option, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"invalid value for {option.key}: {value!r} is not a string")
    return value


def _read_path(option: _Option, value: Any) -> str:
    return os.path.abspath(_read_text(option, value))


def _read_int(option: _Option, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise InvalidArgument(f"invalid value for {option.key}: {value!r} is not a number") from None


def _read_bool(option: _Option, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in ("1", "t", "true"):
        return True
    if word in ("0", "f", "false"):
        return False
    raise InvalidArgument(f'invalid argument "{value}" for "--{option.key}" flag: must be true or false')


def _read_size(option: _Option, value: Any) -> int:
    """Bytes from 64M, 1g, 1048576 (binary units, as Docker's RAMInBytes)."""
    text = str(value).strip().lower().removesuffix("ib").removesuffix("b")
    factor = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}.get(text[-1:], 1)
    try:
        return int(float(text[:-1] if factor > 1 else text) * factor)
    except ValueError:
        raise InvalidArgument(f"invalid size: '{value}'") from None


def _read_list(option: _Option, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidArgument(f"invalid value for {option.key}: {value!r} is not a list of strings")
    return tuple(value)


def _read_map(option: _Option, value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        return {str(key): str(item) for key, item in value.items()}
    pairs = {}
    for item in value:
        key, equals, text = item.partition("=")
        if not equals:
            raise InvalidArgument(f"invalid value for {option.key}: {item!r} is not key=value")
        pairs[key] = text
    return pairs


def _read_runtimes(option: _Option, value: Any) -> dict[str, str]:
    if isinstance(value, dict):
        found = {name: entry.get("path", "") for name, entry in value.items() if isinstance(entry, dict)}
    else:
        found = _read_map(option, value)
    for name, path in found.items():
        if name == "sampan":
            raise InvalidArgument("runtime name 'sampan' is reserved")
        if not path:
            raise InvalidArgument(f"runtime '{name}': path is required")
    return found


def _read_pools(option: _Option, value: Any) -> tuple[tuple[str, int], ...]:
    pools = []
    for item in value:
        if isinstance(item, str):
            item = dict(part.partition("=")[::2] for part in item.split(","))
        try:
            pools.append((str(item["base"]), int(item["size"])))
        except (KeyError, TypeError, ValueError):
            raise InvalidArgument(f"invalid value for {option.key}: base and size are needed") from None
    return tuple(pools)


def _read_ulimits(option: _Option, value: Any) -> tuple[str, ...]:
    if isinstance(value, dict):
        return tuple(f"{name}={limit.get('Soft', 0)}:{limit.get('Hard', 0)}" for name, limit in value.items())
    return _read_list(option, value)


_SHAPES = {
    "text": _read_text,
    "path": _read_path,
    "int": _read_int,
    "bool": _read_bool,
    "size": _read_size,
    "list": _read_list,
    "map": _read_map,
    "runtimes": _read_runtimes,
    "pools": _read_pools,
    "ulimits": _read_ulimits,
}


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
