"""Filters of the network list and of prune."""

from __future__ import annotations

import time

import pytest

from sampan.engine.filters import Filters
from sampan.engine.networks.filters import created_at, prunable, select
from sampan.engine.networks.records import Network
from sampan.errors import InvalidArgument

OLD = "2020-01-01T00:00:00.500000000Z"
BRIDGE = Network(id="b" * 64, name="bridge", driver="bridge", created=OLD)
HOST = Network(id="h" * 64, name="host", driver="host", created=OLD)
WEB = Network(id="abc" + "0" * 61, name="web", driver="bridge", created=OLD, labels={"tier": "front", "x": ""})
DB = Network(id="def" + "0" * 61, name="webdb", driver="bridge", created=OLD)
ALL = [BRIDGE, HOST, WEB, DB]


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["bridge", "host", "web", "webdb"]),
        ({"name": ["web"]}, ["web", "webdb"]),
        ({"name": ["^web$", "host"]}, ["host", "web"]),
        ({"id": ["abc"]}, ["web"]),
        ({"driver": ["host"]}, ["host"]),
        ({"type": ["custom"]}, ["web", "webdb"]),
        ({"type": ["builtin"], "driver": ["bridge"]}, ["bridge"]),
        ({"scope": ["swarm"]}, []),
        ({"label": ["tier=front", "x"]}, ["web"]),
        ({"label": ["tier=front", "y"]}, []),
        ({"dangling": ["true"]}, ["webdb"]),
        ({"dangling": ["false"]}, ["bridge", "host", "web"]),
    ],
)
def test_a_list_is_filtered(filters: dict[str, list[str]], names: list[str]) -> None:
    assert [network.name for network in select(ALL, Filters(filters), {WEB.id})] == names


@pytest.mark.parametrize("filters", [{"type": ["odd"]}, {"dangling": ["maybe"]}])
def test_a_malformed_value_is_refused(filters: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidArgument):
        select(ALL, Filters(filters), ())


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["web", "webdb"]),
        ({"label": ["tier"]}, ["web"]),
        ({"label!": ["tier"]}, ["webdb"]),
        ({"until": ["2019-01-01"]}, []),
        ({"until": ["2020-01-02T00:00:00Z"]}, ["web", "webdb"]),
        ({"until": ["1h30m"]}, ["web", "webdb"]),
        ({"until": ["900000h"]}, []),
        ({"until": [str(int(time.time()))]}, ["web", "webdb"]),
    ],
)
def test_prune_takes_only_unused_networks_of_users(filters: dict[str, list[str]], names: list[str]) -> None:
    assert [network.name for network in ALL if prunable(network, Filters(filters), ())] == names


def test_prune_leaves_used_networks() -> None:
    assert not prunable(WEB, Filters(), {WEB.id})


def test_a_malformed_until_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="failed to parse value as time or duration"):
        prunable(WEB, Filters({"until": ["soon"]}), ())


def test_the_creation_time_keeps_its_fraction() -> None:
    assert created_at(WEB) == 1577836800.5
