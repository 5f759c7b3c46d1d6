"""The room's records as Docker's documents: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sampan.api.docker import networks as documents
from sampan.engine.networks.records import ContainerNetworking, Endpoint, Network, Publication, Sandbox

_DRIVERS_WITHOUT_IPAM = ("host", "null")


def network_document(network: Network, endpoints: Iterable[Endpoint] = ()) -> documents.Network:
    """`GET /networks/{id}`; without endpoints the entry of `GET /networks`."""
    config = []
    if network.subnet:
        config.append(
            documents.IPAMConfig(
                subnet=network.subnet,
                ip_range=network.ip_range,
                gateway=network.gateway,
                auxiliary_addresses=dict(network.reserved) or None,
            )
        )
    without_ipam = network.driver in _DRIVERS_WITHOUT_IPAM
    return documents.Network(
        name=network.name,
        id=network.id,
        created=network.created,
        scope="local",
        driver=network.driver,
        enable_ipv4=not without_ipam,
        enable_ipv6=network.enable_ipv6,
        ipam=documents.IPAM(
            options=dict(network.ipam_options) or (None if network.predefined else {}),
            config=None if without_ipam else config,
        ),
        internal=network.internal,
        attachable=network.attachable,
        ingress=False,
        config_from=documents.ConfigReference(),
        config_only=False,
        containers={
            endpoint.container_id: documents.NetworkContainer(
                name=endpoint.container_name,
                endpoint_id=endpoint.id,
                mac_address=endpoint.mac_address,
                ipv4_address=f"{endpoint.ip_address}/{endpoint.prefix_len}",
            )
            for endpoint in endpoints
        },
        options=dict(network.options),
        labels=dict(network.labels),
    )


def settings_document(
    container: ContainerNetworking,
    wanted: Sequence[str],
    sandbox: Sandbox | None,
    endpoints: Sequence[Endpoint],
    network_ids: Mapping[str, str],
) -> documents.NetworkSettings:
    """NetworkSettings of a container; `wanted` are the networks it is a member of, running or not."""
    networks = {}
    by_network = {endpoint.network_name: endpoint for endpoint in endpoints}
    for name in wanted:
        asked = container.endpoints.get(name) or documents.EndpointSettings()
        running = sandbox is not None
        networks[name] = _endpoint_settings(
            asked,
            by_network.get(name),
            container,
            network_ids.get(name, "") if running else asked.network_id,
            user_defined=name not in ("bridge", "host", "none"),
        )
        if running and not networks[name].endpoint_id and sandbox is not None and name in ("host", "none"):
            networks[name].endpoint_id = sandbox.id
    settings = documents.NetworkSettings(networks=networks)
    if sandbox is None:
        return settings
    settings.sandbox_id = sandbox.id
    settings.sandbox_key = sandbox.netns_path
    settings.ports = port_map(sandbox.publications, container.exposed_ports, container.port_bindings)
    default = by_network.get("bridge")
    if default:
        settings.endpoint_id = default.id
        settings.gateway = default.gateway
        settings.ip_address = default.ip_address
        settings.ip_prefix_len = default.prefix_len
        settings.mac_address = default.mac_address
    return settings


def _endpoint_settings(
    asked: documents.EndpointSettings,
    endpoint: Endpoint | None,
    container: ContainerNetworking,
    network_id: str,
    user_defined: bool,
) -> documents.EndpointSettings:
    return documents.EndpointSettings(
        ipam_config=asked.ipam_config,
        links=asked.links,
        aliases=asked.aliases,
        mac_address=endpoint.mac_address if endpoint else asked.mac_address,
        driver_opts=asked.driver_opts,
        gw_priority=asked.gw_priority,
        network_id=network_id,
        endpoint_id=endpoint.id if endpoint else "",
        gateway=endpoint.gateway if endpoint else "",
        ip_address=endpoint.ip_address if endpoint else "",
        ip_prefix_len=endpoint.prefix_len if endpoint else 0,
        dns_names=dns_names(container, asked.aliases or ()) if user_defined else None,
    )


def dns_names(container: ContainerNetworking, aliases: Sequence[str]) -> list[str]:
    """Container name, aliases, short id, hostname: each once, in this order."""
    names = [container.name.lstrip("/"), *aliases, container.container_id[:12], container.hostname]
    return list(dict.fromkeys(name for name in names if name))


def port_map(
    publications: Sequence[Publication], exposed: Iterable[str], bindings: documents.PortMap
) -> documents.PortMap:
    """NetworkSettings.Ports: published ports with where they are, exposed ones with null."""
    ports: documents.PortMap = {}
    for key in (*exposed, *bindings):
        ports[key if "/" in key else f"{key}/tcp"] = None
    for publication in publications:
        key = f"{publication.container_port}/{publication.protocol}"
        binding = documents.PortBinding(host_ip=publication.host_ip, host_port=str(publication.host_port))
        ports[key] = [*(ports.get(key) or []), binding]
    return ports
