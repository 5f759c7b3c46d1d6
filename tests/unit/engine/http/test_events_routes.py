"""GET /events: what was, what comes, and when it ends."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from tests.unit.engine.http.rooms import tag

from sampan.engine.events import EventLog
from sampan.engine.http import events


def test_the_headers_come_before_the_first_event_and_events_as_lines(tmp_path: Path) -> None:
    async def check() -> None:
        log = EventLog()
        log.publish("volume", "create", "before", {})
        async with tag(tmp_path, events.routes, events=log) as session:
            answer = await asyncio.wait_for(session.get("/events"), 5)
            assert answer.headers["Content-Type"] == "application/json"
            log.publish("volume", "create", "v1", {"driver": "local"})
            line = await asyncio.wait_for(answer.content.readline(), 5)
            assert line.endswith(b"}\n")
            assert json.loads(line)["Actor"] == {"ID": "v1", "Attributes": {"driver": "local"}}
            answer.close()

    asyncio.run(check())


def test_between_two_times_of_the_past_it_ends_by_itself(tmp_path: Path) -> None:
    async def check() -> None:
        log = EventLog()
        for name in ("a", "b"):
            log.publish("volume", "create", name, {})
        async with tag(tmp_path, events.routes, events=log) as session:
            until = f"{time.time():.9f}"
            body = await asyncio.wait_for((await session.get(f"/events?since=0&until={until}")).text(), 5)
            assert [json.loads(line)["Actor"]["ID"] for line in body.splitlines()] == ["a", "b"]
            filters = json.dumps({"volume": ["b"]})
            body = await (
                await session.get("/events", params={"since": "0", "until": until, "filters": filters})
            ).text()
            assert [json.loads(line)["Actor"]["ID"] for line in body.splitlines()] == ["b"]

    asyncio.run(check())


def test_it_ends_when_the_time_asked_for_is_over(tmp_path: Path) -> None:
    async def check() -> None:
        log = EventLog()
        async with tag(tmp_path, events.routes, events=log) as session:
            answer = await session.get(f"/events?until={time.time() + 0.2:.9f}")
            log.publish("volume", "create", "v", {})
            lines = (await asyncio.wait_for(answer.text(), 5)).splitlines()
            assert len(lines) == 1

    asyncio.run(check())


def test_a_listener_that_leaves_is_forgotten(tmp_path: Path) -> None:
    async def check() -> None:
        log = EventLog()
        async with tag(tmp_path, events.routes, events=log) as session:
            answer = await session.get("/events")
            assert log.listeners == 1
            answer.close()
            async with asyncio.timeout(5):
                while log.listeners:
                    await asyncio.sleep(0)

    asyncio.run(check())


def test_bad_times_and_filters_are_refused_in_dockers_words(tmp_path: Path) -> None:
    async def check() -> None:
        async with tag(tmp_path, events.routes, events=EventLog()) as session:
            for query, text in (
                ("since=20&until=10", "`since` time (20) cannot be after `until` time (10)"),
                ("since=never", 'failed to parse value as time or duration: "never"'),
                ("filters={", "invalid filter"),
            ):
                answer = await session.get(f"/events?{query}")
                assert answer.status == 400
                assert (await answer.json())["message"] == text

    asyncio.run(check())
