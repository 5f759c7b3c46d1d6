"""Docker's bridge networking: the room's one door, class `Networks`.

What the containers room calls, in the order of a container's life (all are synchronous and take well under a
millisecond, except where they say so; each is one transaction, or part of the caller's when one is open):

    networks.configure(ContainerNetworking(...))      # create: remember what was asked for
    plan = networks.reserve(container_id)             # start, before the task: addresses, ports, lines for /etc/hosts
    networks.attach(plan, netns_fd)                   # start, when the task's netns exists: links, routes, publications
    networks.settings(container_id)                   # at any time: the NetworkSettings document
    networks.release(container_id)                    # after the exit, or to undo a failed start; idempotent
    networks.forget(container_id)                     # remove: drop what configure remembered

and once after a start of the daemon:

    networks.open()                                   # default networks, bridge devices, firewall table
    networks.reconcile(live_container_ids)            # release what died meanwhile, hold published ports again
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence

from sampan.api.docker import networks as documents
from sampan.engine.networks.records import ContainerNetworking, Network, Options, Plan


class Networks:
    """Signatures first: the bodies land in the next commits."""

    def __init__(self, connection: sqlite3.Connection, options: Options) -> None: ...

    # the daemon
    def open(self) -> None:
        """Make the tables, the default networks, the bridge devices and the firewall table. OSError."""

    def reconcile(self, live: Collection[str]) -> None:
        """`live`: ids of containers whose task still runs. Everything of others is released; ports are held again."""

    # the containers room
    def configure(self, wanted: ContainerNetworking) -> None:
        """At create. InvalidArgument for a malformed address or port; a missing network is reserve's to report."""

    def rename(self, container_id: str, name: str) -> None: ...

    def forget(self, container_id: str) -> None: ...

    def reserve(self, container_id: str) -> Plan:
        """At start, before the task. NotFound `network NAME not found`; Conflict / Error for a taken address or
        port in Docker's words. Nothing is kept when it raises."""
        raise NotImplementedError

    def attach(self, plan: Plan, netns_fd: int, netns_path: str = "") -> documents.NetworkSettings:
        """When the task's netns exists. `netns_path` is reported as SandboxKey. OSError; after one, call release."""
        raise NotImplementedError

    def release(self, container_id: str) -> None:
        """After the exit, or to undo. Idempotent, never raises for what is gone already."""

    def settings(self, container_id: str) -> documents.NetworkSettings:
        """The NetworkSettings document, running or not."""
        raise NotImplementedError

    def connect(
        self,
        network: str,
        container_id: str,
        config: documents.EndpointSettings | None = None,
        netns_fd: int | None = None,
    ) -> None:
        """`netns_fd` when the container runs."""

    def disconnect(
        self, network: str, container_id: str, netns_fd: int | None = None, force: bool = False
    ) -> None: ...

    # the Network tag
    def create(self, request: documents.NetworkCreateRequest) -> Network:
        raise NotImplementedError

    def get(self, name_or_id: str) -> Network:
        """By name, id or unique id prefix. NotFound `network NAME not found`."""
        raise NotImplementedError

    def remove(self, name_or_id: str) -> Network:
        raise NotImplementedError

    def list(self, filters: Mapping[str, Sequence[str]] | None = None) -> Sequence[Network]:
        raise NotImplementedError
