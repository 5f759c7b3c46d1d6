"""Whom the embedded DNS server asks."""

from __future__ import annotations

import sqlite3

from sampan.engine.networks.records import ContainerNetworking, Sandbox
from sampan.engine.networks.resolver import Directory
from sampan.engine.networks.store import NetworkStore


def test_nobody_is_asked_for_a_container_without_a_way_out() -> None:
    """From the host's network every name server is in reach: a question alone would get out (CVE-2024-29018)."""
    store = NetworkStore(sqlite3.connect(":memory:"))
    store.put_container(ContainerNetworking(container_id="c", name="/c", dns=["9.9.9.9"]))
    store.put_sandbox(Sandbox(id="s", container_id="c", kind="bridge"))
    assert Directory(store, "c").upstreams() == []
    store.put_sandbox(Sandbox(id="s", container_id="c", kind="bridge", gateway_endpoint="e"))
    assert Directory(store, "c").upstreams() == ["9.9.9.9"]
