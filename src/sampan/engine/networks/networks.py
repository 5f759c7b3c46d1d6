"""Docker's bridge networking: the room's one door, class `Networks`.

What the containers room calls, in the order of a container's life (all are synchronous and quick; each is one
transaction, or part of the caller's when one is open on the connection):

    networks.configure(ContainerNetworking(...))      # create: remember what was asked for
    plan = networks.reserve(container_id)             # start, before the task: addresses, ports, lines of /etc/hosts
    networks.attach(plan, netns_fd)                   # start, when the task's netns exists: links, routes, ports
    networks.settings(container_id)                   # at any time: the NetworkSettings document
    networks.release(container_id)                    # after the exit, or to undo a failed start; idempotent
    networks.forget(container_id)                     # remove: drop what configure remembered

and once after a start of the daemon:

    networks.open()                                   # predefined networks, bridge devices, firewall table
    networks.reconcile(live_container_ids)            # release what died meanwhile, hold published ports again

The kernel is the live state, the rows are what it should be: a row is written before the device it names is made and
deleted after it, so that after a crash `open` completes what is missing and `reconcile` removes what is too much.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

from sampan.api.docker import networks as documents
from sampan.engine.filters import Filters
from sampan.engine.networks import filters as network_filters
from sampan.engine.networks.creation import new_network, predefined_networks
from sampan.engine.networks.devices import enable_forwarding
from sampan.engine.networks.documents import network_document
from sampan.engine.networks.firewall import Target
from sampan.engine.networks.records import Network, is_user_defined
from sampan.engine.networks.resolver import Directory
from sampan.engine.networks.sandboxes import Sandboxes, bridge_name, targets
from sampan.engine.networks.store import transaction
from sampan.errors import Error, Forbidden

log = logging.getLogger(__name__)


class Networks(Sandboxes):
    """The networks of one engine, with what containers have in them (`Sandboxes`). For one thread; nothing waits."""

    # the daemon

    def open(self) -> None:
        """Make the predefined networks, every bridge device and the firewall table, or complete what is there.

        InvalidArgument for a malformed `bip`; OSError naming what the kernel refused."""
        found = None if self._options.bip else self._devices.first_address(bridge_name(self._options))
        occupied = self._devices.occupied_subnets()
        with transaction(self._connection):
            for network in predefined_networks(self._options, self._store.networks(), found, occupied):
                self._store.put_network(network)
        for network in self._store.networks():
            if network.device:
                self._devices.ensure_bridge(network, fenced=bool(self._firewall))
        if self._options.ip_forward:
            enable_forwarding()
        self._rewrite_firewall()

    def reconcile(self, live: Collection[str]) -> None:
        """`live`: ids of the containers whose task still runs. What the others had is released, the live ones' ports
        are held again, and links that no endpoint owns are deleted."""
        for sandbox in self._store.sandboxes():
            if sandbox.container_id not in live:
                self.release(sandbox.container_id)
                continue
            for publication in sandbox.publications:
                try:
                    self._ports.hold(publication)
                except Error as error:
                    # Somebody took the port while no engine held it; traffic still goes to the container.
                    log.warning("container %s: %s", sandbox.container_id, error)
            if self._resolvers and any(map(is_user_defined, self._store.endpoints_of(sandbox.container_id))):
                self._resolvers.reopen(Directory(self._store, sandbox.container_id), sandbox.netns_path)
        owned = {endpoint.link for endpoint in self._store.endpoints()}
        for network in self._store.networks():
            if network.device:
                self._devices.unplug(set(self._devices.ports(network.device)) - owned - self._devices.leaving())

    def close(self) -> None:
        """Stop without touching what containers use: bridges, links and rules stay, only the ports are let go."""
        if self._resolvers:
            self._resolvers.close_all()
        self._devices.close()
        if self._firewall:
            self._firewall.close()
        self._ports.close()

    def _rewrite_firewall(self) -> None:
        if not self._firewall:
            return
        leads: list[Target] = []
        for sandbox in self._store.sandboxes():
            leads += targets(sandbox, self._store.endpoints_of(sandbox.container_id))
        self._firewall.rewrite(self._store.networks(), leads)

    # the Network tag

    def list(self, filters: Filters | None = None) -> Sequence[documents.Network]:
        """`GET /networks`. InvalidArgument `invalid filter 'KEY'`."""
        chosen = network_filters.select(self._store.networks(), filters or Filters(), self._used())
        return [network_document(network) for network in chosen]

    def inspect(self, name_or_id: str) -> documents.Network:
        """`GET /networks/{id}`. As `get`."""
        network = self.get(name_or_id)
        return network_document(network, self._store.endpoints_in(network.id))

    def create(self, request: documents.NetworkCreateRequest) -> Network:
        """A bridge network with its device and rules. Errors as `creation.new_network`; OSError from the kernel."""
        network = new_network(request, self._store.networks(), self._devices.occupied_subnets(), self._options.pools)
        with transaction(self._connection):
            self._store.put_network(network)
        try:
            self._devices.ensure_bridge(network, fenced=bool(self._firewall))
            self._rewrite_firewall()
        except BaseException:
            self._devices.remove_bridge(network.device)
            with transaction(self._connection):
                self._store.delete_network(network.id)
            raise
        self._publish_event("create", network.id)
        return network

    def remove(self, name_or_id: str) -> None:
        """Forbidden for a predefined network, and for one with active endpoints; NotFound."""
        network = self.get(name_or_id)
        if network.predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        endpoints = self._store.endpoints_in(network.id)
        if endpoints:
            members = ", ".join(f'name:"{each.container_name}" id:"{each.id[:12]}"' for each in endpoints)
            raise Forbidden(f"error while removing network: network {network.name} has active endpoints ({members})")
        self._devices.remove_bridge(network.device)
        with transaction(self._connection):
            self._store.delete_network(network.id)
        self._rewrite_firewall()
        self._publish_event("destroy", network.id, network=network)

    def prune(self, filters: Filters | None = None) -> Sequence[str]:
        """Remove the networks without endpoints that match; their names. InvalidArgument for a bad filter."""
        used, wanted = self._used(), filters or Filters()
        chosen = [each for each in self._store.networks() if network_filters.prunable(each, wanted, used)]
        for network in chosen:
            self.remove(network.id)
        return [network.name for network in chosen]
