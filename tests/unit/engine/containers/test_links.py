"""Legacy links: what is found out at create, the variables, and the names."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.engine.containers.rooms import Bench, run

from sampan.api.docker.containers import Config, CreateRequest, HostConfig
from sampan.engine.containers import create, links
from sampan.engine.containers.model import Container
from sampan.errors import Conflict, InvalidArgument, NotFound


def child(*ports: str, env: list[str] | None = None) -> Container:
    config = Config(hostname="h", env=env or [], exposed_ports={port: {} for port in ports})
    return Container(
        id="c", name="db", created_at=0, image_id="i", parent="", path="x", config=config, host_config=HostConfig()
    )


def test_the_lowest_port_is_the_link_s_own_and_every_port_has_four_variables() -> None:
    found = links.variables("web", [links.Linked("data-base", child("80/tcp", "53/udp"), "10.0.0.2")])
    assert found == [
        "DATA_BASE_PORT=udp://10.0.0.2:53",
        "DATA_BASE_PORT_53_UDP=udp://10.0.0.2:53",
        "DATA_BASE_PORT_53_UDP_ADDR=10.0.0.2",
        "DATA_BASE_PORT_53_UDP_PORT=53",
        "DATA_BASE_PORT_53_UDP_PROTO=udp",
        "DATA_BASE_PORT_80_TCP=tcp://10.0.0.2:80",
        "DATA_BASE_PORT_80_TCP_ADDR=10.0.0.2",
        "DATA_BASE_PORT_80_TCP_PORT=80",
        "DATA_BASE_PORT_80_TCP_PROTO=tcp",
        "DATA_BASE_NAME=/web/data-base",
    ]


def test_three_ports_in_a_row_are_a_range_too_and_two_are_not() -> None:
    row = links.variables("web", [links.Linked("db", child("8000/tcp", "8001/tcp", "8002/tcp"), "a")])
    assert {"DB_PORT_8000_TCP_START=tcp://a:8000", "DB_PORT_8000_TCP_END=tcp://a:8002"} < set(row)
    assert {"DB_PORT_8000_TCP_PORT_START=8000", "DB_PORT_8000_TCP_PORT_END=8002"} < set(row)
    pair = links.variables("web", [links.Linked("db", child("8000/tcp", "8001/tcp"), "a")])
    assert not [text for text in pair if "START" in text]


def test_the_child_s_variables_come_with_it_but_for_home_and_path() -> None:
    one = child(env=["A=1", "HOME=/x", "PATH=/bin", "BARE"])
    assert links.variables("web", [links.Linked("db", one, "a")]) == ["DB_NAME=/web/db", "DB_ENV_A=1"]


def linking(*texts: str, network: str = "") -> CreateRequest:
    return CreateRequest(image="busybox", host_config=HostConfig(links=list(texts), network_mode=network))


def test_a_link_is_a_name_of_its_own_that_follows_renames_and_goes_alone(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        store = bench.room.store
        db = await bench.make("db")
        await create.create(bench.room, linking("db:x", "db"), "web")
        web = store.get("web")
        assert links.shown(store, web) == ["/db:/web/x", "/db:/web/db"]
        assert links.names(store.all()) == {db: ["/web/x", "/web/db"]}
        assert store.get("web/x").id == db == store.get("/web/db").id
        with pytest.raises(Conflict, match="cannot remove the default link name of the container"):
            links.remove(store, "web")
        with pytest.raises(NotFound, match="No such container: web/y"):
            links.remove(store, "web/y")
        links.remove(store, "/web/x")
        assert links.shown(store, store.get("web")) == ["/db:/web/db"]
        with pytest.raises(NotFound, match="No such container: web/x"):
            store.get("web/x")
        # Nobody runs: an exec would see nothing of them.
        assert links.now(bench.room, web) == []

    run(work, tmp_path)


@pytest.mark.parametrize(
    ("text", "network", "complaint"),
    [
        ("nobody:x", "", "could not get container for nobody: No such container: nobody"),
        ("db:a:b", "", "bad format for links: db:a:b"),
        ("db:x", "host", "conflicting options: host type networking can't be used with links"),
    ],
)
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, text: str, network: str, complaint: str) -> None:
    async def work(bench: Bench) -> None:
        await bench.make("db")
        with pytest.raises(InvalidArgument, match=complaint):
            await create.create(bench.room, linking(text, network=network), "web")

    run(work, tmp_path)


def test_on_a_user_defined_network_the_endpoint_s_links_count_instead(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        await create.create(bench.room, linking("nobody:x", network="own"), "web")
        assert bench.room.store.get("web").links == []

    run(work, tmp_path)
