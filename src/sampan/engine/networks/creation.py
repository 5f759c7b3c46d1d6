"""What a new network will be: checks of the request and the choice of its pool. Pure, Docker's texts."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

from sampan.api.docker.networks import IPAMConfig, NetworkCreateRequest
from sampan.engine.networks.ipam import check_pool, choose_gateway, choose_pool, parse_address, parse_subnet
from sampan.engine.networks.records import (
    DEFAULT_BIP,
    DEFAULT_BRIDGE,
    OPTION_BRIDGE_NAME,
    OPTION_DEFAULT_BRIDGE,
    OPTION_HOST_BINDING,
    OPTION_ICC,
    OPTION_MASQUERADE,
    OPTION_MTU,
    PREDEFINED,
    Network,
    Options,
)
from sampan.errors import Conflict, Forbidden, InvalidArgument, NotFound, Unimplemented

_LINK_NAME_LIMIT = 15
_SMALLEST = 31
_MTU = range(68, 65536)


def new_network(
    request: NetworkCreateRequest,
    existing: Sequence[Network],
    occupied: Sequence[IPv4Network],
    pools: Sequence[tuple[str, int]],
) -> Network:
    """The network that the request asks for. `occupied` are subnets of the host that no pool may touch.

    Conflict, Forbidden, InvalidArgument, NotFound or Unimplemented when there can be none."""
    _check_request(request, existing)
    network_id = os.urandom(32).hex()
    options = dict(request.options or {})
    device = options.get(OPTION_BRIDGE_NAME) or f"br-{network_id[:12]}"
    _check_device(device, existing)
    _check_options(options)
    config = _ipam_config(request)
    taken = [IPv4Network(network.subnet) for network in existing if network.subnet]
    if config.subnet:
        subnet = parse_subnet(config.subnet)
        check_pool(subnet, taken)
    else:
        subnet = choose_pool(pools, [*taken, *occupied])
    if subnet.prefixlen > _SMALLEST:
        raise InvalidArgument(f"invalid network config:\ninvalid subnet {subnet}: no room for a container")
    within = _range(config, subnet)
    gateway = _gateway(config, subnet, within)
    return Network(
        id=network_id,
        name=request.name,
        driver="bridge",
        created=timestamp(),
        device=device,
        subnet=str(subnet),
        gateway=str(gateway),
        ip_range=str(within) if within else "",
        internal=request.internal,
        attachable=request.attachable,
        options=options,
        labels=request.labels or {},
        ipam_options=(request.ipam.options if request.ipam else None) or {},
        reserved=_reserved(config, subnet),
        user_pool=bool(config.subnet),
    )


def _check_request(request: NetworkCreateRequest, existing: Sequence[Network]) -> None:
    if not request.name.strip():
        raise InvalidArgument("invalid network name: name is empty")
    if request.scope == "swarm":
        raise Forbidden("cannot create a swarm scoped network when swarm is not active")
    if request.name in PREDEFINED or request.name == "default":
        raise Forbidden(f"operation is not permitted on predefined {request.name} network")
    if any(network.name == request.name for network in existing):
        raise Conflict(f"network with name {request.name} already exists")
    if request.driver in ("host", "null"):
        raise Forbidden(f'only one instance of "{request.driver}" network is allowed')
    if request.driver not in ("", "bridge"):
        raise NotFound(f'plugin "{request.driver}" not found')
    if request.ipam and request.ipam.driver not in ("", "default"):
        raise NotFound(f'plugin "{request.ipam.driver}" not found')
    if request.ingress:
        raise InvalidArgument("ingress networks are only supported in swarm mode")
    if request.config_only or (request.config_from and request.config_from.network):
        raise Unimplemented("config-only networks are not supported")
    if request.enable_ipv6:
        raise Unimplemented("IPv6 networks are not supported")
    if request.enable_ipv4 is False:
        raise InvalidArgument("IPv4 or IPv6 must be enabled")


def _check_device(device: str, existing: Sequence[Network]) -> None:
    if len(device) > _LINK_NAME_LIMIT or "/" in device or not device.isascii() or not device.isprintable():
        raise InvalidArgument(f"invalid bridge name: {device}")
    for network in existing:
        if network.device == device:
            raise Forbidden(f"conflicts with network {network.id} ({network.device}): networks have same bridge name")


def _check_options(options: Mapping[str, str]) -> None:
    mtu = options.get(OPTION_MTU)
    if mtu is not None and not (mtu.isascii() and mtu.isdigit() and int(mtu) in _MTU):
        raise InvalidArgument(f"invalid value for {OPTION_MTU}: {mtu}")
    if options.get(OPTION_HOST_BINDING):
        parse_address(options[OPTION_HOST_BINDING], "host binding")


def _ipam_config(request: NetworkCreateRequest) -> IPAMConfig:
    configs = [config for config in (request.ipam.config if request.ipam else None) or [] if config.subnet]
    empty = [config for config in (request.ipam.config if request.ipam else None) or [] if not config.subnet]
    for config in empty:
        if config.gateway:
            raise InvalidArgument(f"no matching subnet for gateway {config.gateway}")
        if config.ip_range:
            raise InvalidArgument(f"no matching subnet for range {config.ip_range}")
    if any(":" in config.subnet for config in configs):
        raise Unimplemented("IPv6 networks are not supported")
    if len(configs) > 1:
        raise Forbidden("bridge driver doesn't support multiple subnets")
    return configs[0] if configs else IPAMConfig()


def _range(config: IPAMConfig, subnet: IPv4Network) -> IPv4Network | None:
    if not config.ip_range:
        return None
    within = parse_subnet(config.ip_range)
    if not within.subnet_of(subnet):
        raise InvalidArgument(f"no matching subnet for range {config.ip_range}")
    return within


def _gateway(config: IPAMConfig, subnet: IPv4Network, within: IPv4Network | None) -> IPv4Address:
    if not config.gateway:
        return choose_gateway(subnet, within)
    gateway = parse_address(config.gateway.partition("/")[0], "gateway")
    if gateway not in subnet:
        raise InvalidArgument(f"no matching subnet for gateway {config.gateway}")
    return gateway


def _reserved(config: IPAMConfig, subnet: IPv4Network) -> Mapping[str, str]:
    reserved = config.auxiliary_addresses or {}
    for address in reserved.values():
        if parse_address(address, "auxiliary") not in subnet:
            raise InvalidArgument(f"no matching subnet for aux-address {address}")
    return reserved


def predefined_networks(
    options: Options,
    existing: Sequence[Network],
    found: tuple[str, int] | None = None,
    occupied: Sequence[IPv4Network] = (),
) -> list[Network]:
    """host, none and (unless switched off) bridge, each with the id it had.

    When no `bip` is set, the bridge keeps `found`, the address that its link has already; else it gets the default
    subnet, or the next pool when that overlaps another network or the host's `occupied` subnets. InvalidArgument for a
    malformed `bip`; Error when no pool is left."""
    kept = {network.name: network for network in existing}
    networks = [
        kept.get(name) or Network(id=os.urandom(32).hex(), name=name, driver=driver, created=timestamp())
        for name, driver in (("none", "null"), ("host", "host"))
    ]
    if options.bridge == "none":
        return networks
    device = options.bridge or DEFAULT_BRIDGE
    bip = options.bip or (f"{found[0]}/{found[1]}" if found else _free_bip(options, existing, occupied))
    gateway = bip.partition("/")[0]
    subnet = parse_subnet(bip)
    old = kept.get("bridge")
    networks.append(
        Network(
            id=old.id if old else os.urandom(32).hex(),
            name="bridge",
            driver="bridge",
            created=timestamp(),
            device=device,
            subnet=str(subnet),
            gateway=str(parse_address(gateway, "bridge")),
            ip_range=str(parse_subnet(options.fixed_cidr)) if options.fixed_cidr else "",
            options={
                OPTION_DEFAULT_BRIDGE: "true",
                OPTION_ICC: str(options.icc).lower(),
                OPTION_MASQUERADE: str(options.ip_masq).lower(),
                OPTION_HOST_BINDING: "0.0.0.0",
                OPTION_BRIDGE_NAME: device,
                OPTION_MTU: str(options.mtu),
            },
        )
    )
    return networks


def _free_bip(options: Options, existing: Sequence[Network], occupied: Sequence[IPv4Network]) -> str:
    taken = [IPv4Network(network.subnet) for network in existing if network.subnet and network.name != "bridge"]
    default = (str(parse_subnet(DEFAULT_BIP)), parse_subnet(DEFAULT_BIP).prefixlen)
    subnet = choose_pool((default, *options.pools), [*taken, *occupied])
    return f"{choose_gateway(subnet, None)}/{subnet.prefixlen}"


def timestamp() -> str:
    """Now, in RFC 3339 with nanoseconds, UTC."""
    now = time.time_ns()
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 1_000_000_000))
    return f"{seconds}.{now % 1_000_000_000:09d}Z"
