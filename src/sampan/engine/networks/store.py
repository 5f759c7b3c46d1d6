"""The networks room's rows: networks, what containers asked for, sandboxes and endpoints.

Every user-visible step is one transaction: `transaction` opens one, or joins the caller's when one is open already.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from sampan.engine.networks.records import ContainerNetworking, Endpoint, Network, Sandbox

_SCHEMA = (
    "create table if not exists networks (id text primary key, name text not null unique, record blob not null)",
    "create table if not exists network_containers (container_id text primary key, record blob not null)",
    "create table if not exists network_sandboxes (container_id text primary key, record blob not null)",
    "create table if not exists network_endpoints (id text primary key, network_id text not null,"
    " container_id text not null, ip_address text not null, record blob not null, unique (network_id, ip_address))",
    "create index if not exists network_endpoints_by_container on network_endpoints (container_id)",
)

_Record = TypeVar("_Record", bound=msgspec.Struct)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing. Inside an open transaction it adds to that, and its owner decides."""
    if connection.in_transaction:
        yield
        return
    connection.execute("begin immediate")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


class NetworkStore:
    """Rows in, records out. Returns None, or nothing, for what is not there."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        with transaction(connection):
            for statement in _SCHEMA:
                connection.execute(statement)

    def _one(self, kind: type[_Record], query: str, *parameters: str) -> _Record | None:
        row = self._connection.execute(query, parameters).fetchone()
        return msgspec.json.decode(row[0], type=kind) if row else None

    def _all(self, kind: type[_Record], query: str, *parameters: str) -> list[_Record]:
        return [msgspec.json.decode(row[0], type=kind) for row in self._connection.execute(query, parameters)]

    # networks

    def networks(self) -> list[Network]:
        return self._all(Network, "select record from networks order by rowid")

    def network(self, network_id: str) -> Network | None:
        return self._one(Network, "select record from networks where id = ?", network_id)

    def find_networks(self, name_or_id: str) -> list[Network]:
        """The one of that name or full id, else all whose id starts with it."""
        exact = self._all(Network, "select record from networks where name = ? or id = ?", name_or_id, name_or_id)
        if exact or not name_or_id:
            return exact
        return self._all(
            Network, "select record from networks where substr(id, 1, length(?)) = ?", name_or_id, name_or_id
        )

    def put_network(self, network: Network) -> None:
        self._connection.execute(
            "insert into networks values (?, ?, ?) on conflict (id) do update set record = excluded.record",
            (network.id, network.name, msgspec.json.encode(network)),
        )

    def delete_network(self, network_id: str) -> None:
        self._connection.execute("delete from networks where id = ?", (network_id,))

    # containers

    def container(self, container_id: str) -> ContainerNetworking | None:
        query = "select record from network_containers where container_id = ?"
        return self._one(ContainerNetworking, query, container_id)

    def put_container(self, container: ContainerNetworking) -> None:
        self._connection.execute(
            "insert or replace into network_containers values (?, ?)",
            (container.container_id, msgspec.json.encode(container)),
        )

    def delete_container(self, container_id: str) -> None:
        self._connection.execute("delete from network_containers where container_id = ?", (container_id,))

    # sandboxes

    def sandboxes(self) -> list[Sandbox]:
        return self._all(Sandbox, "select record from network_sandboxes")

    def sandbox(self, container_id: str) -> Sandbox | None:
        return self._one(Sandbox, "select record from network_sandboxes where container_id = ?", container_id)

    def put_sandbox(self, sandbox: Sandbox) -> None:
        self._connection.execute(
            "insert or replace into network_sandboxes values (?, ?)",
            (sandbox.container_id, msgspec.json.encode(sandbox)),
        )

    def delete_sandbox(self, container_id: str) -> None:
        self._connection.execute("delete from network_sandboxes where container_id = ?", (container_id,))
        self._connection.execute("delete from network_endpoints where container_id = ?", (container_id,))

    # endpoints

    def endpoints(self) -> list[Endpoint]:
        return self._all(Endpoint, "select record from network_endpoints order by rowid")

    def endpoints_in(self, network_id: str) -> list[Endpoint]:
        query = "select record from network_endpoints where network_id = ? order by rowid"
        return self._all(Endpoint, query, network_id)

    def endpoints_of(self, container_id: str) -> list[Endpoint]:
        query = "select record from network_endpoints where container_id = ? order by rowid"
        return self._all(Endpoint, query, container_id)

    def addresses_in(self, network_id: str) -> Sequence[str]:
        query = "select ip_address from network_endpoints where network_id = ?"
        return [row[0] for row in self._connection.execute(query, (network_id,))]

    def put_endpoint(self, endpoint: Endpoint) -> None:
        self._connection.execute(
            # Not "or replace": a second endpoint at one address must fail here, not displace the first.
            "insert into network_endpoints values (?, ?, ?, ?, ?)"
            " on conflict (id) do update set record = excluded.record",
            (
                endpoint.id,
                endpoint.network_id,
                endpoint.container_id,
                endpoint.ip_address,
                msgspec.json.encode(endpoint),
            ),
        )

    def delete_endpoint(self, endpoint_id: str) -> None:
        self._connection.execute("delete from network_endpoints where id = ?", (endpoint_id,))
