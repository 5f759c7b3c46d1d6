"""The event log: history, listeners, filters."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from sampan.api.docker.system import Event
from sampan.engine.events import HISTORY, EventLog, matches
from sampan.engine.filters import Filters

CONTAINER = "c" * 64


def published(kind: str, action: str, actor: str, **attributes: str) -> Event:
    log = EventLog()
    log.publish(kind, action, actor, attributes)
    return log.subscribe(0, None, Filters()).past[0]


def test_a_container_event_has_the_old_fields_and_the_new() -> None:
    event = published("container", "start", CONTAINER, image="busybox", name="web")
    document = msgspec.to_builtins(event)
    assert {key: document[key] for key in ("status", "id", "from", "Type", "Action", "scope")} == {
        "status": "start",
        "id": CONTAINER,
        "from": "busybox",
        "Type": "container",
        "Action": "start",
        "scope": "local",
    }
    assert document["Actor"] == {"ID": CONTAINER, "Attributes": {"image": "busybox", "name": "web"}}
    assert document["timeNano"] // 10**9 == document["time"]


def test_only_containers_and_images_have_the_old_fields() -> None:
    document = msgspec.to_builtins(published("volume", "create", "v", driver="local"))
    assert not document.keys() & {"status", "id", "from"}
    assert "from" not in msgspec.to_builtins(published("image", "pull", "busybox:latest", name="busybox"))


def test_a_listener_gets_what_comes_and_only_what_it_asked_for() -> None:
    async def check() -> None:
        log = EventLog()
        log.publish("volume", "create", "before", {})
        with log.subscribe(None, None, Filters({"type": ["volume"]})) as subscription:
            assert subscription.past == []
            log.publish("network", "create", "n", {})
            log.publish("volume", "create", "after", {})
            assert (await asyncio.wait_for(subscription.next(), 5)).Actor.ID == "after"
            assert log.listeners == 1
        assert log.listeners == 0

    asyncio.run(check())


def test_the_history_is_bounded_and_cut_by_both_limits() -> None:
    log = EventLog()
    for number in range(HISTORY + 5):
        log.publish("volume", "create", str(number), {})
    everything = log.subscribe(0, None, Filters()).past
    assert len(everything) == HISTORY
    assert everything[0].Actor.ID == "5"
    third = everything[3].timeNano
    assert all(event.timeNano >= third for event in log.subscribe(third, None, Filters()).past)
    assert log.subscribe(None, everything[0].timeNano - 1, Filters()).past == []


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({"event": ["exec_create"]}, True),
        ({"event": ["exec_create: sh -c ls"]}, True),
        ({"event": ["exec_start"]}, False),
        ({"container": ["ccc"]}, True),
        ({"container": ["we"]}, True),
        ({"container": ["db"]}, False),
        ({"image": ["busybox"]}, True),
        ({"image": ["busybox:1.36"]}, True),
        ({"image": ["busy"]}, False),
        ({"label": ["tier=front"]}, True),
        ({"label": ["tier=back"]}, False),
        ({"type": ["container", "image"], "scope": ["local"]}, True),
        ({"scope": ["swarm"]}, False),
        ({"volume": ["v"]}, False),
    ],
)
def test_a_container_event_passes_the_filters_it_fits(filters: dict[str, list[str]], passes: bool) -> None:
    event = published("container", "exec_create: sh -c ls", CONTAINER, image="busybox:1.36", name="web", tier="front")
    assert matches(event, Filters(filters)) is passes


def test_a_network_event_is_found_by_the_container_it_is_about() -> None:
    event = published("network", "connect", "n1", name="bridge", container=CONTAINER)
    assert matches(event, Filters({"container": ["ccc"]}))
    assert matches(event, Filters({"network": ["bridge"]}))
    assert not matches(event, Filters({"container": ["ddd"]}))


def test_an_image_event_is_found_by_its_name_without_the_tag() -> None:
    event = published("image", "pull", "localhost:5000/a:1", name="localhost:5000/a")
    assert matches(event, Filters({"image": ["localhost:5000/a"]}))
    assert not matches(event, Filters({"image": ["localhost"]}))
