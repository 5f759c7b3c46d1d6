"""After kill -9 of the engine: a second room over the same database and the same tasks."""

from __future__ import annotations

import asyncio
import os

import pytest
from tests.unit.engine.containers.rooms import Bench

from sampan.api.docker.containers import RestartPolicy
from sampan.containerd.services import TaskIO
from sampan.engine.containers import start, stop
from sampan.engine.containers.reconcile import reconcile


def again(tmp_path, first, then):
    """`first` in one engine's life, `then` in the next: nothing of the first goes on."""
    bench = Bench(str(tmp_path))

    async def one() -> None:
        await reconcile(bench.room)
        await first(bench)

    async def two() -> None:
        bench.tasks._callbacks.clear()
        bench.room = bench.open()
        await reconcile(bench.room)
        await then(bench)
        await bench.room.live.settle()

    asyncio.run(one())
    asyncio.run(two())
    return bench


def test_what_runs_goes_on_and_its_exit_is_heard(tmp_path):
    async def first(bench):
        await start.start(bench.room, await bench.make("web"))

    async def then(bench):
        record = bench.room.store.get("web")
        assert record.status == "running" and record.id in bench.networks.reserved
        bench.tasks.finish(record.id, 4)
        assert bench.room.store.get("web").exit_code == 4

    again(tmp_path, first, then)


def test_what_ended_meanwhile_shows_its_true_exit_code_and_time(tmp_path):
    async def first(bench):
        await start.start(bench.room, await bench.make("web"))
        await start.start(bench.room, await bench.make("gone", host={"auto_remove": True}))
        bench.tasks._callbacks.clear()
        for name in ("web", "gone"):
            bench.tasks.finish(bench.room.store.get(name).id, 9)
        bench.exit = bench.tasks.exits[bench.room.store.get("web").id]

    async def then(bench):
        record = bench.room.store.get("web")
        assert (record.status, record.exit_code, record.finished_at) == ("exited", 9, bench.exit.exited_at)
        assert bench.room.store.is_free("gone")

    bench = again(tmp_path, first, then)
    assert not bench.tasks.processes and not bench.networks.reserved


def test_a_task_that_nobody_knows_any_more_ended_with_137(tmp_path):
    async def first(bench):
        await start.start(bench.room, await bench.make("web"))
        bench.tasks.processes.clear()

    async def then(bench):
        assert (bench.room.store.get("web").status, bench.room.store.get("web").exit_code) == ("exited", 137)

    again(tmp_path, first, then)


def test_a_start_cut_in_half_is_undone(tmp_path):
    async def first(bench):
        container_id = await bench.make("web")
        await start.start(bench.room, container_id)
        # As if the engine had died between tasks.start and its commit.
        import msgspec

        bench.room.store.put(msgspec.structs.replace(bench.room.store.get("web"), status="created", pid=0))

    async def then(bench):
        assert bench.room.store.get("web").status == "created"
        assert bench.tasks.signals[-1][2] == 9

    again(tmp_path, first, then)


def test_remains_without_a_record_are_removed(tmp_path):
    async def first(bench):
        container_id = await bench.make("web")
        await start.start(bench.room, container_id)
        bench.room.store.delete(container_id)
        bench.orphan = container_id

    async def then(bench):
        await bench.room.live.settle()

    bench = again(tmp_path, first, then)
    assert not bench.tasks.processes
    assert bench.orphan not in bench.core.snapshots.entries
    assert os.listdir(f"{bench.root}/containers") == [] and bench.orphan not in bench.networks.known


def test_a_waiting_restart_is_taken_up_again(tmp_path):
    async def first(bench):
        import msgspec

        await bench.make("web", host={"restart_policy": RestartPolicy(name="always")})
        bench.room.store.put(msgspec.structs.replace(bench.room.store.get("web"), status="restarting"))

    async def then(bench):
        record = bench.room.store.get("web")
        async with asyncio.timeout(5):
            while bench.room.store.get("web").status != "running":
                await bench.room.live.of(record.id).moved.wait()

    again(tmp_path, first, then)


@pytest.mark.parametrize(("policy", "runs"), [("always", True), ("unless-stopped", False), ("no", False)])
def test_policies_at_the_engines_beginning_for_what_the_user_stopped(tmp_path, policy, runs):
    async def first(bench):
        await bench.make("web", host={"restart_policy": RestartPolicy(name=policy)})
        await start.start(bench.room, "web")
        await stop.stop(bench.room, "web", 0)
        await bench.room.live.settle()

    async def then(bench):
        assert bench.room.store.get("web").status == ("restarting" if runs else "exited")

    again(tmp_path, first, then)


def test_tasks_of_clients_of_the_containerd_api_are_none_of_the_engines(tmp_path):
    theirs = "k8s.io--pod"

    async def first(bench):
        await bench.tasks.create(theirs, bundle=str(tmp_path), rootfs=[], io=TaskIO(terminal=False, stdin=False))
        await bench.tasks.start(theirs)

    async def then(bench):
        assert (theirs, "") in bench.tasks.processes
        bench.tasks.finish(theirs, 3)
        await bench.room.live.settle()

    bench = again(tmp_path, first, then)
    assert bench.tasks.exits[theirs].status == 3
