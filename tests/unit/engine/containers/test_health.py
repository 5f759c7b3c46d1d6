"""Health checks: the judgement after each probe, and a probe as an exec."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.engine.containers.rooms import Bench, run

from sampan.api.docker.containers import Health, HealthConfig, HealthResult
from sampan.engine.containers import health, start

GOOD, BAD = HealthResult(exit_code=0), HealthResult(exit_code=1)


def after(*results: HealthResult, in_start: bool = False) -> Health:
    found = Health(status="starting")
    for result in results:
        found = health.judge(found, result, 3, in_start)
    return found


def test_one_success_is_healthy_and_clears_the_streak():
    assert (after(BAD, BAD, GOOD).status, after(BAD, BAD, GOOD).failing_streak) == ("healthy", 0)


def test_as_many_failures_as_retries_are_unhealthy():
    assert [after(*[BAD] * count).status for count in (1, 2, 3, 4)] == [
        "starting",
        "starting",
        "unhealthy",
        "unhealthy",
    ]
    assert after(GOOD, BAD, BAD).status == "healthy"


def test_failures_in_the_start_period_do_not_count_before_the_first_success():
    assert (after(*[BAD] * 9, in_start=True).status, after(*[BAD] * 9, in_start=True).failing_streak) == ("starting", 0)
    assert after(GOOD, BAD, BAD, BAD, in_start=True).status == "unhealthy"


def test_the_log_keeps_the_last_five():
    assert len(after(*[BAD] * 9).log) == 5


@pytest.mark.parametrize(
    ("test", "command"),
    [
        (["CMD", "a", "b"], ["a", "b"]),
        (["CMD-SHELL", "a && b"], ["/bin/sh", "-c", "a && b"]),
        (["NONE"], None),
        ([], None),
    ],
)
def test_the_probes_command(tmp_path, test, command):
    async def work(bench: Bench) -> None:
        record = bench.room.store.get(await bench.make(healthcheck=HealthConfig(test=test)))
        config = health.config_of(record)
        assert (health.command(record, config) if config else None) == command

    run(work, tmp_path)


def test_a_probe_runs_in_the_container_and_its_outcome_is_recorded_and_told(tmp_path):
    async def work(bench: Bench) -> None:
        check = HealthConfig(test=["CMD", "probe"], interval=1_000_000)
        container_id = await bench.make(healthcheck=check)
        await start.start(bench.room, container_id)
        assert bench.room.store.get(container_id).health == Health(status="starting")
        while not (probes := [key for key in bench.tasks.processes if key[1]]):
            await asyncio.sleep(0)
        bench.tasks.write(container_id, b"fine", exec_id=probes[0][1])
        bench.tasks.finish(container_id, 0, exec_id=probes[0][1])
        while bench.room.store.get(container_id).health.log == []:
            await asyncio.sleep(0)
        found = bench.room.store.get(container_id).health
        assert (found.status, found.log[0].output) == ("healthy", "fine")
        bench.tasks.finish(container_id, 0)

    assert "health_status: healthy" in run(work, tmp_path).events.actions()
