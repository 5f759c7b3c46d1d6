"""What containers have in networks: reservations, links, published ports, memberships. See `networks.Networks`."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence

import msgspec

from sampan.api.docker import networks as documents
from sampan.engine.networks.devices import Devices, bring_up_loopback, configure, set_default_route
from sampan.engine.networks.documents import settings_document
from sampan.engine.networks.firewall import Target, open_firewall
from sampan.engine.networks.membership import (
    HOST_CONFLICT,
    NONE_CONFLICT,
    SHARED_CONFLICT,
    check_asked,
    gateway_endpoint,
    kind_of,
    new_endpoint,
    normalized,
    with_endpoint,
    without_endpoint,
)
from sampan.engine.networks.netns import socket_in_netns
from sampan.engine.networks.ports import PortHolds, parse_requests
from sampan.engine.networks.records import (
    DEFAULT_BRIDGE,
    OPTION_HOST_BINDING,
    ContainerNetworking,
    Endpoint,
    Network,
    Options,
    Plan,
    Publication,
    Sandbox,
    is_user_defined,
)
from sampan.engine.networks.resolver import Directory, Resolvers
from sampan.engine.networks.store import NetworkStore, transaction
from sampan.engine.services import Events
from sampan.errors import Error, Forbidden, InvalidArgument, NotFound


class Sandboxes:
    """The containers' side of the room, over the parts that both sides share."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        options: Options,
        events: Events | None = None,
        resolvers: Resolvers | None = None,
    ) -> None:
        self._connection = connection
        self._options = options
        self._events = events
        self._store = NetworkStore(connection)
        self._devices = Devices()
        self._firewall, self.unfenced = open_firewall(bridge_name(options), wanted=options.iptables)
        self._ports = PortHolds()
        self._resolvers = resolvers
        # Addresses of links whose deletion is under way: the bridge still knows them by the old port.
        self._resting: dict[str, tuple[str, str]] = {}

    def configure(self, wanted: ContainerNetworking) -> None:
        """At create: remember what the container asks for.

        InvalidArgument for malformed addresses or ports and for what its networks do not offer, Unimplemented for sctp
        and IPv6 publications; that a network does not exist is found by `reserve`, as in Docker."""
        container = normalized(wanted, self._name_of)
        for name, asked in container.endpoints.items():
            for network in self._store.find_networks(name)[:1]:
                check_asked(network, asked)
        parse_requests(container.port_bindings, container.exposed_ports, container.publish_all_ports)
        with transaction(self._connection):
            self._store.put_container(container)

    def rename(self, container_id: str, name: str) -> None:
        """The container's new name, for inspect and error texts."""
        with transaction(self._connection):
            self._store.put_container(msgspec.structs.replace(self._container(container_id), name=name))
            for endpoint in self._store.endpoints_of(container_id):
                self._store.put_endpoint(msgspec.structs.replace(endpoint, container_name=name.lstrip("/")))

    def forget(self, container_id: str) -> None:
        """At remove. Releases first what is still reserved; no error for an unknown container."""
        self.release(container_id)
        with transaction(self._connection):
            self._store.delete_container(container_id)

    def reserve(self, container_id: str) -> Plan:
        """At start, before the task exists: choose addresses and hold host ports.

        NotFound `network NAME not found`; InvalidArgument for a static address where none may be; Conflict `Address
        already in use`; Error `driver failed programming external connectivity on endpoint NAME (ID): ...` for a
        taken port. Nothing is kept when it raises."""
        container = self._container(container_id)
        self.release(container_id)
        kind, name = kind_of(container.network_mode)
        endpoints: list[Endpoint] = []
        if kind == "bridge":
            for network_name, asked in container.endpoints.items():
                endpoints.append(self._new_endpoint(container, self.get(network_name), asked, endpoints))
        way_out = gateway_endpoint(endpoints)
        publications = self._hold_ports(container, way_out) if way_out else []
        sandbox = Sandbox(
            id=os.urandom(32).hex(),
            container_id=container_id,
            kind=kind,
            joined=name if kind == "container" else "",
            gateway_endpoint=way_out.id if way_out else "",
            publications=publications,
        )
        try:
            with transaction(self._connection):
                self._store.put_sandbox(sandbox)
                for endpoint in endpoints:
                    self._store.put_endpoint(endpoint)
        except BaseException:
            self._ports.release(publications)
            raise
        return self._plan(container, sandbox, endpoints)

    def attach(self, plan: Plan, netns_fd: int, netns_path: str = "") -> documents.NetworkSettings:
        """When the task's netns exists: make its links and routes, then lead its ports to it.

        `netns_path` is reported as SandboxKey. A plan of kind "host" or "container" changes nothing. OSError naming
        what the kernel refused; call `release` after one."""
        if plan.kind in ("bridge", "none"):
            self._wire(plan, netns_fd)
        sandbox = self._store.sandbox(plan.container_id)
        if sandbox and netns_path:
            sandbox = msgspec.structs.replace(sandbox, netns_path=netns_path)
            with transaction(self._connection):
                self._store.put_sandbox(sandbox)
        if sandbox and sandbox.publications and self._firewall:
            self._firewall.publish(targets(sandbox, plan.endpoints))
        if self._resolvers and plan.user_defined:
            self._resolvers.open(Directory(self._store, plan.container_id), netns_fd)
        for endpoint in plan.endpoints:
            self._publish_event("connect", endpoint.network_id, container=plan.container_id)
        return self.settings(plan.container_id)

    def _wire(self, plan: Plan, netns_fd: int) -> None:
        for endpoint in plan.endpoints:
            self._devices.plug(endpoint, self.get(endpoint.network_name).device, netns_fd)
        way_out = gateway_endpoint(plan.endpoints)
        with socket_in_netns(netns_fd) as netns:
            if not plan.endpoints:
                bring_up_loopback(netns)
            for endpoint in plan.endpoints:
                configure(netns, endpoint, default_route=endpoint is way_out)

    def release(self, container_id: str, sandbox_id: str = "") -> None:
        """After the exit, or to undo a start: ports, rules, addresses and links go. Idempotent.

        With `sandbox_id` (`Plan.sandbox_id`) only when that is still the container's sandbox, so that a late clean-up
        cannot hit the next start. The links' deletion ends in the background."""
        sandbox = self._store.sandbox(container_id)
        if not sandbox or (sandbox_id and sandbox.id != sandbox_id):
            return
        endpoints = self._store.endpoints_of(container_id)
        if self._firewall:
            self._firewall.unpublish(targets(sandbox, endpoints))
        self._ports.release(sandbox.publications)
        if self._resolvers:
            self._resolvers.close(container_id)
        self._unplug(endpoints)
        with transaction(self._connection):
            self._store.delete_sandbox(container_id)
        for endpoint in endpoints:
            self._publish_event("disconnect", endpoint.network_id, container=container_id)

    def settings(self, container_id: str) -> documents.NetworkSettings:
        """The NetworkSettings document, running or not. NotFound for a container that was never configured."""
        container = self._container(container_id)
        return settings_document(
            container,
            tuple(container.endpoints),
            self._store.sandbox(container_id),
            self._store.endpoints_of(container_id),
            {network.name: network.id for network in self._store.networks()},
        )

    def connect(
        self,
        network: str,
        container_id: str,
        asked: documents.EndpointSettings | None = None,
        netns_fd: int | None = None,
    ) -> None:
        """Make the container a member; when it runs (`netns_fd` given) it gets the link at once.

        NotFound `network NAME not found`; Forbidden when it is a member already; InvalidArgument where the modes
        conflict or the settings are malformed; otherwise as `reserve` and `attach`."""
        joined = self.get(network)
        container = self._container(container_id)
        asked = asked or documents.EndpointSettings()
        _check_connect(container, joined)
        check_asked(joined, asked)
        container = with_endpoint(container, joined.name, asked)
        sandbox = self._store.sandbox(container_id)
        if sandbox is None or netns_fd is None:
            with transaction(self._connection):
                self._store.put_container(container)
            return
        present = self._store.endpoints_of(container_id)
        endpoint = self._new_endpoint(container, joined, asked, present)
        with transaction(self._connection):
            self._store.put_container(container)
            self._store.put_endpoint(endpoint)
            try:
                self._devices.plug(endpoint, joined.device, netns_fd)
                with socket_in_netns(netns_fd) as netns:
                    configure(netns, endpoint, default_route=not sandbox.gateway_endpoint and bool(endpoint.gateway))
                if not sandbox.gateway_endpoint and endpoint.gateway:
                    self._move_way_out(container, sandbox, endpoint)
            except BaseException:
                self._unplug([endpoint])
                raise
        if self._resolvers:
            self._resolvers.open(Directory(self._store, container_id), netns_fd)
        self._publish_event("connect", joined.id, container=container_id)

    def plan(self, container_id: str) -> Plan | None:
        """The plan of a started container as its networks are now; None for one that does not run."""
        sandbox = self._store.sandbox(container_id)
        if sandbox is None:
            return None
        return self._plan(self._container(container_id), sandbox, self._store.endpoints_of(container_id))

    def disconnect(self, network: str, container_id: str, netns_fd: int | None = None, force: bool = False) -> None:
        """End the membership; a running container's link goes, and another gives the way out.

        NotFound `network NAME not found`; Error `container ID is not connected to the network NAME`. `force` is
        Docker's flag for a network that is gone: then only the membership is dropped."""
        found = self._store.find_networks(network)
        if not found and not force:
            raise NotFound(f"network {network} not found")
        name = found[0].name if found else network
        container = self._container(container_id)
        if kind_of(container.network_mode)[0] == "host" and name == "host":
            raise InvalidArgument(HOST_CONFLICT)
        if name not in container.endpoints:
            raise Error(f"container {container_id} is not connected to the network {name}")
        sandbox = self._store.sandbox(container_id)
        endpoints = self._store.endpoints_of(container_id)
        gone = next((endpoint for endpoint in endpoints if endpoint.network_name == name), None)
        with transaction(self._connection):
            self._store.put_container(without_endpoint(container, name))
            if sandbox and gone:
                self._store.delete_endpoint(gone.id)
                rest = [endpoint for endpoint in endpoints if endpoint is not gone]
                self._leave(container, sandbox, gone, rest, netns_fd)
        if gone:
            self._publish_event("disconnect", gone.network_id, container=container_id)

    def _leave(
        self,
        container: ContainerNetworking,
        sandbox: Sandbox,
        gone: Endpoint,
        rest: Sequence[Endpoint],
        netns_fd: int | None,
    ) -> None:
        if sandbox.gateway_endpoint == gone.id:
            if self._firewall:
                self._firewall.unpublish(targets(sandbox, [gone]))
            self._ports.release(sandbox.publications)
        self._devices.unplug_now(gone.link)
        if sandbox.gateway_endpoint != gone.id:
            return
        way_out = gateway_endpoint(rest)
        if way_out and netns_fd is not None:
            set_default_route(netns_fd, way_out)
        self._move_way_out(container, sandbox, way_out)

    def _move_way_out(self, container: ContainerNetworking, sandbox: Sandbox, to: Endpoint | None) -> None:
        """From now on `to` gives the way out, and the container's ports are published for it."""
        publications = self._hold_ports(container, to) if to else []
        sandbox = msgspec.structs.replace(sandbox, gateway_endpoint=to.id if to else "", publications=publications)
        try:
            self._store.put_sandbox(sandbox)
            if self._firewall and to:
                self._firewall.publish(targets(sandbox, [to]))
        except BaseException:
            self._ports.release(publications)
            raise

    def get(self, name_or_id: str) -> Network:
        """By name, id or unique id prefix. NotFound `network NAME not found`; InvalidArgument for an ambiguous one."""
        found = self._store.find_networks(name_or_id)
        if not found:
            raise NotFound(f"network {name_or_id} not found")
        if len(found) > 1:
            raise InvalidArgument(f"network {name_or_id} is ambiguous ({len(found)} matches found on ID prefix)")
        return found[0]

    def _container(self, container_id: str) -> ContainerNetworking:
        container = self._store.container(container_id)
        if container is None:
            raise NotFound(f"No such container: {container_id}")
        return container

    def _name_of(self, name_or_id: str) -> str:
        found = self._store.find_networks(name_or_id)
        return found[0].name if len(found) == 1 else name_or_id

    def _used(self) -> set[str]:
        return {endpoint.network_id for endpoint in self._store.endpoints()}

    def _new_endpoint(
        self,
        container: ContainerNetworking,
        network: Network,
        asked: documents.EndpointSettings,
        present: Sequence[Endpoint],
    ) -> Endpoint:
        leaving = self._devices.leaving()
        self._resting = {link: where for link, where in self._resting.items() if link in leaving}
        return new_endpoint(
            container,
            network,
            asked,
            taken=self._store.addresses_in(network.id),
            resting=[address for network_id, address in self._resting.values() if network_id == network.id],
            used_ifnames=[endpoint.ifname for endpoint in present],
        )

    def _hold_ports(self, container: ContainerNetworking, way_out: Endpoint) -> Sequence[Publication]:
        binding = self.get(way_out.network_name).options.get(OPTION_HOST_BINDING, "")
        requests = parse_requests(
            container.port_bindings, container.exposed_ports, container.publish_all_ports, binding
        )
        try:
            if requests and self.unfenced:
                raise Error(f"no port can be published: {self.unfenced}")
            return self._ports.allocate(requests)
        except Error as error:
            where = f"endpoint {way_out.container_name} ({way_out.id})"
            raise Error(f"driver failed programming external connectivity on {where}: {error}") from error

    def _unplug(self, endpoints: Sequence[Endpoint]) -> None:
        for endpoint in endpoints:
            self._resting[endpoint.link] = (endpoint.network_id, endpoint.ip_address)
        self._devices.unplug([endpoint.link for endpoint in endpoints])

    def _plan(self, container: ContainerNetworking, sandbox: Sandbox, endpoints: Sequence[Endpoint]) -> Plan:
        hostname = container.hostname or container.container_id[:12]
        names = (f"{hostname}.{container.domainname}", hostname) if container.domainname else (hostname,)
        return Plan(
            container_id=container.container_id,
            kind=sandbox.kind,
            sandbox_id=sandbox.id,
            joined=sandbox.joined,
            endpoints=endpoints,
            publications=sandbox.publications,
            hosts=[(endpoint.ip_address, names) for endpoint in endpoints],
            user_defined=any(map(is_user_defined, endpoints)),
        )

    def _publish_event(self, action: str, network_id: str, container: str = "", network: Network | None = None) -> None:
        network = network or self._store.network(network_id)
        if not self._events or not network:
            return
        attributes = {"name": network.name, "type": network.driver}
        if container:
            attributes["container"] = container
        self._events.publish("network", action, network.id, attributes)


def bridge_name(options: Options) -> str:
    return options.bridge if options.bridge not in ("", "none") else DEFAULT_BRIDGE


def targets(sandbox: Sandbox, endpoints: Sequence[Endpoint]) -> list[Target]:
    """Where each published port of a sandbox leads."""
    address = next((each.ip_address for each in endpoints if each.id == sandbox.gateway_endpoint), "")
    return [(address, publication) for publication in sandbox.publications] if address else []


def _check_connect(container: ContainerNetworking, network: Network) -> None:
    kind = kind_of(container.network_mode)[0]
    if network.driver == "host" or kind == "host":
        raise InvalidArgument(HOST_CONFLICT)
    if kind == "container":
        raise InvalidArgument(SHARED_CONFLICT)
    if network.driver == "null" or (kind == "none" and container.endpoints):
        raise InvalidArgument(NONE_CONFLICT)
    if network.name in container.endpoints:
        name = container.name.lstrip("/")
        raise Forbidden(f"endpoint with name {name} already exists in network {network.name}")
