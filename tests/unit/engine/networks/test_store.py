"""Rows of the networks room, and its transactions."""

from __future__ import annotations

import sqlite3

import pytest

from sampan.api.docker.networks import EndpointSettings, PortBinding
from sampan.engine.networks.records import ContainerNetworking, Endpoint, Network, Publication, Sandbox
from sampan.engine.networks.store import NetworkStore, transaction


@pytest.fixture
def connection() -> sqlite3.Connection:
    return sqlite3.connect(":memory:")


@pytest.fixture
def store(connection: sqlite3.Connection) -> NetworkStore:
    return NetworkStore(connection)


def network(name: str, identity: str) -> Network:
    return Network(id=identity, name=name, driver="bridge", created="", subnet="10.1.0.0/24", labels={"a": "b"})


def endpoint(identity: str, container_id: str, address: str) -> Endpoint:
    return Endpoint(
        id=identity,
        network_id="n1",
        network_name="web",
        container_id=container_id,
        container_name="c",
        ip_address=address,
        prefix_len=24,
        gateway="10.1.0.1",
        mac_address="",
        link="veth",
        ifname="eth0",
        aliases=("x",),
    )


def test_records_come_back_as_they_were(store: NetworkStore) -> None:
    container = ContainerNetworking(
        container_id="c",
        name="/c",
        endpoints={"web": EndpointSettings(aliases=["x"])},
        port_bindings={"80/tcp": [PortBinding("", "8080")], "81/tcp": None},
        exposed_ports=["80/tcp"],
        dns=["9.9.9.9"],
    )
    sandbox = Sandbox(
        id="s",
        container_id="c",
        kind="bridge",
        publications=[Publication(container_port=80, protocol="tcp", host_ip="0.0.0.0", host_port=8080)],
    )
    store.put_container(container)
    store.put_sandbox(sandbox)
    store.put_network(network("web", "n1"))
    assert store.container("c") == container
    assert store.sandbox("c") == sandbox
    assert store.network("n1") == network("web", "n1")
    assert store.sandboxes() == [sandbox]


def test_what_is_not_there_is_none(store: NetworkStore) -> None:
    assert (store.container("x"), store.sandbox("x"), store.network("x")) == (None, None, None)


def test_a_network_is_found_by_name_then_id_then_prefix(store: NetworkStore) -> None:
    for name, identity in (("web", "ab1"), ("ab", "cd2"), ("db", "ab3")):
        store.put_network(network(name, identity))
    assert [found.id for found in store.find_networks("web")] == ["ab1"]
    assert [found.id for found in store.find_networks("ab")] == ["cd2"]
    assert [found.id for found in store.find_networks("a")] == ["ab1", "ab3"]
    assert [found.id for found in store.find_networks("cd2")] == ["cd2"]
    assert store.find_networks("") == []
    assert store.find_networks("%") == []


def test_an_address_is_in_a_network_once(store: NetworkStore) -> None:
    store.put_endpoint(endpoint("e1", "c1", "10.1.0.2"))
    store.put_endpoint(endpoint("e2", "c2", "10.1.0.3"))
    assert store.addresses_in("n1") == ["10.1.0.2", "10.1.0.3"]
    with pytest.raises(sqlite3.IntegrityError):
        store.put_endpoint(endpoint("e3", "c3", "10.1.0.3"))
    assert [found.id for found in store.endpoints_of("c2")] == ["e2"]
    assert [found.id for found in store.endpoints_in("n1")] == ["e1", "e2"]


def test_a_sandbox_takes_its_endpoints_with_it(store: NetworkStore) -> None:
    store.put_sandbox(Sandbox(id="s", container_id="c1", kind="bridge"))
    store.put_endpoint(endpoint("e1", "c1", "10.1.0.2"))
    store.put_endpoint(endpoint("e2", "c2", "10.1.0.3"))
    store.delete_sandbox("c1")
    assert [found.id for found in store.endpoints()] == ["e2"]


def test_a_failed_transaction_leaves_nothing(connection: sqlite3.Connection, store: NetworkStore) -> None:
    with pytest.raises(RuntimeError), transaction(connection):
        store.put_network(network("web", "n1"))
        raise RuntimeError
    assert store.networks() == []


def test_an_inner_transaction_is_part_of_the_callers(connection: sqlite3.Connection, store: NetworkStore) -> None:
    with pytest.raises(RuntimeError), transaction(connection):
        with transaction(connection):
            store.put_network(network("web", "n1"))
        assert connection.in_transaction
        raise RuntimeError
    assert store.networks() == []
    with connection:
        connection.execute("create table other (x)")
        connection.execute("insert into other values (1)")
        with transaction(connection):
            store.put_network(network("web", "n1"))
    assert [found.name for found in store.networks()] == ["web"]
