"""create, start, stop, kill, restart, rm, wait: over fakes, with what each leaves behind."""

from __future__ import annotations

import asyncio
import json
import os

import msgspec
import pytest
from tests.unit.engine.containers.rooms import Bench, run

from sampan.api.docker.containers import CreateRequest, RestartPolicy
from sampan.engine.containers import attach, create, kill, pause, rename, restart, rm, start, stop, wait
from sampan.errors import AlreadyExists, Conflict, Error, InvalidArgument, NotFound

REQUEST = CreateRequest(image="busybox")


def leftovers(bench: Bench) -> dict[str, list[str]]:
    """What exists beside records: nothing, after a container is gone."""
    state = f"{bench.root}/state"
    return {
        "tasks": [key[0] for key in bench.tasks.processes],
        "snapshots": [name for name in bench.core.snapshots.entries if name != "chain"],
        "networks": [*bench.networks.reserved, *bench.networks.known],
        "bundles": os.listdir(f"{state}/bundles") if os.path.exists(f"{state}/bundles") else [],
        "directories": os.listdir(f"{bench.root}/containers") if os.path.exists(f"{bench.root}/containers") else [],
        "volumes": list(bench.volumes.volumes),
    }


def empty(bench: Bench) -> bool:
    return not any(leftovers(bench).values())


def test_a_container_lives_through_create_start_exit_remove_and_leaves_nothing(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make("web")
        assert bench.room.store.get("web").status == "created"
        assert await start.start(bench.room, "web") is True
        assert bench.room.store.get(container_id[:12]).status == "running"
        waiting = wait.wait(bench.room, "web")
        bench.tasks.finish(container_id, 3)
        assert await waiting == (3, "")
        record = bench.room.store.get("web")
        assert (record.status, record.exit_code) == ("exited", 3)
        await rm.remove(bench.room, "web")
        with pytest.raises(NotFound, match="No such container: web"):
            bench.room.store.get("web")

    bench = run(work, tmp_path)
    assert empty(bench), leftovers(bench)
    assert bench.events.actions() == ["create", "start", "die", "destroy"]
    assert bench.events.published[2][3]["exitCode"] == "3"


def test_a_start_of_what_runs_changes_nothing(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make()
        assert await start.start(bench.room, container_id)
        assert await start.start(bench.room, container_id) is False

    assert run(work, tmp_path).events.actions().count("start") == 1


def test_a_name_in_use_is_a_conflict_in_dockers_words(tmp_path):
    async def work(bench: Bench) -> None:
        first = await bench.make("web")
        with pytest.raises(AlreadyExists) as caught:
            await bench.make("web")
        assert str(caught.value) == (
            f'Conflict. The container name "/web" is already in use by container "{first}". '
            "You have to remove (or rename) that container to be able to reuse that name."
        )

    run(work, tmp_path)


@pytest.mark.parametrize("name", ["-x", "a", "a b", "ä_b"])
def test_a_name_outside_of_dockers_rules_is_refused(tmp_path, name):
    async def work(bench: Bench) -> None:
        with pytest.raises(InvalidArgument, match="Invalid container name"):
            await bench.make(name)

    run(work, tmp_path)


def test_auto_remove_answers_the_removed_waiter_and_leaves_nothing(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make(host={"auto_remove": True}, volumes={"/data": {}})
        removed = wait.wait(bench.room, container_id, "removed")
        await start.start(bench.room, container_id)
        bench.tasks.finish(container_id, 7)
        assert await removed == (7, "")
        assert bench.room.store.find(container_id) is None

    bench = run(work, tmp_path)
    assert empty(bench), leftovers(bench)
    assert bench.events.actions()[-3:] == ["die", "unmount", "destroy"]


def test_an_exit_that_comes_before_running_is_committed_is_not_lost(tmp_path):
    async def work(bench: Bench) -> None:
        bench.tasks.on_start = lambda container_id: bench.tasks.finish(container_id, 5)
        container_id = await bench.make()
        waiting = wait.wait(bench.room, container_id, "next-exit")
        await start.start(bench.room, container_id)
        assert await waiting == (5, "")
        assert bench.room.store.get(container_id).status == "exited"

    assert run(work, tmp_path).events.actions() == ["create", "start", "die"]


@pytest.mark.parametrize(
    ("text", "code", "kind"),
    [
        ('exec: "nope": executable file not found in $PATH', 127, InvalidArgument),
        ('exec: "/etc": is a directory', 126, InvalidArgument),
        ('exec: "/etc/passwd": permission denied', 126, InvalidArgument),
        ("cgroup refuses", 128, Error),
    ],
)
@pytest.mark.parametrize("where", ["fail_create", "fail_start"])
def test_a_failed_start_is_recorded_as_dockerd_does_and_undone(tmp_path, text, code, kind, where):
    async def work(bench: Bench) -> None:
        container_id = await bench.make()
        setattr(bench.tasks, where, Error(text))
        with pytest.raises(kind) as caught:
            await start.start(bench.room, container_id)
        prefix = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
        assert str(caught.value).startswith(prefix)
        assert str(caught.value).endswith(f"{text}: unknown")
        record = bench.room.store.get(container_id)
        assert (record.status, record.exit_code, record.error) == ("created", code, str(caught.value))
        found = leftovers(bench)
        assert not found["tasks"] and not found["bundles"] and not bench.networks.reserved
        # It can be started once the fault is gone.
        assert await start.start(bench.room, container_id)
        assert bench.room.store.get(container_id).exit_code == 0

    run(work, tmp_path)


def test_a_failed_start_of_an_auto_remove_container_removes_it_and_tells_who_waits(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make(host={"auto_remove": True})
        removed = wait.wait(bench.room, container_id, "removed")
        bench.tasks.fail_create = Error('exec: "x": executable file not found in $PATH')
        with pytest.raises(InvalidArgument):
            await start.start(bench.room, container_id)
        assert (await removed)[0] == 127

    bench = run(work, tmp_path)
    assert empty(bench), leftovers(bench)


def test_a_network_that_refuses_leaves_nothing_of_the_start(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make()
        bench.networks.fail_reserve = Error(
            "driver failed programming external connectivity: port is already allocated"
        )
        with pytest.raises(Error, match="port is already allocated"):
            await start.start(bench.room, container_id)
        assert not leftovers(bench)["tasks"] and not leftovers(bench)["bundles"]

    run(work, tmp_path)


def test_an_unknown_image_is_not_found_and_takes_no_name(tmp_path):
    async def work(bench: Bench) -> None:
        with pytest.raises(NotFound, match="No such image: nope:latest"):
            await create.create(bench.room, msgspec.structs.replace(REQUEST, image="nope"), "web")
        assert await bench.make("web")

    run(work, tmp_path)


def test_a_create_that_fails_takes_back_what_it_made(tmp_path):
    async def work(bench: Bench) -> None:
        bench.networks.configure = _refuse  # type: ignore[method-assign]
        with pytest.raises(InvalidArgument, match="invalid port"):
            await bench.make("web", volumes={"/data": {}})
        assert bench.room.store.is_free("web")

    bench = run(work, tmp_path)
    assert empty(bench), leftovers(bench)


def _refuse(wanted: object) -> None:
    raise InvalidArgument("invalid port")


def test_stop_sends_the_stop_signal_then_sigkill(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make(stop_signal="SIGINT")
        await start.start(bench.room, container_id)
        assert await stop.stop(bench.room, container_id, 0)
        assert [signal for _, _, signal in bench.tasks.signals] == [2, 9]
        assert bench.room.store.get(container_id).exit_code == 137
        assert await stop.stop(bench.room, container_id) is False

    assert run(work, tmp_path).events.actions() == ["create", "start", "kill", "kill", "die", "stop"]


def test_stop_is_done_when_the_process_obeys(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make()
        await start.start(bench.room, container_id)
        bench.tasks.on_signal = lambda found, signal: bench.tasks.finish(found, 143)
        await stop.stop(bench.room, container_id, 30)
        assert bench.room.store.get(container_id).exit_code == 143

    run(work, tmp_path)


def test_kill_of_what_does_not_run_is_a_conflict(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make("web")
        with pytest.raises(Conflict) as caught:
            await kill.kill(bench.room, "web")
        assert str(caught.value) == f"cannot kill container: web: container {container_id} is not running"
        with pytest.raises(InvalidArgument, match="invalid signal: NOPE"):
            await kill.kill(bench.room, "web", "NOPE")

    run(work, tmp_path)


def test_remove_of_what_runs_needs_force(tmp_path):
    async def work(bench: Bench) -> None:
        await start.start(bench.room, await bench.make("web"))
        with pytest.raises(Conflict) as caught:
            await rm.remove(bench.room, "web")
        assert str(caught.value) == (
            'cannot remove container "/web": container is running: stop the container before removing or force remove'
        )
        await rm.remove(bench.room, "web", force=True)

    bench = run(work, tmp_path)
    assert empty(bench), leftovers(bench)


def test_remove_keeps_named_volumes_and_takes_anonymous_ones_when_asked(tmp_path):
    async def work(bench: Bench) -> None:
        await bench.make("web", volumes={"/data": {}}, host={"binds": ["named:/n"]})
        await rm.remove(bench.room, "web", volumes=True)

    assert list(run(work, tmp_path).volumes.volumes) == ["named"]


def test_restart_ends_the_run_and_begins_another_even_with_auto_remove(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make(host={"auto_remove": True})
        await start.start(bench.room, container_id)
        await restart.restart(bench.room, container_id, 0)
        assert bench.room.store.get(container_id).status == "running"

    assert run(work, tmp_path).events.actions()[-1] == "restart"


def test_the_restart_policy_starts_a_failed_container_again_until_its_limit(tmp_path):
    async def work(bench: Bench) -> None:
        policy = RestartPolicy(name="on-failure", maximum_retry_count=2)
        container_id = await bench.make(host={"restart_policy": policy})
        bench.tasks.on_start = lambda found: bench.tasks.finish(found, 1)
        await start.start(bench.room, container_id)
        while bench.room.store.get(container_id).status != "exited":
            await bench.room.live.of(container_id).moved.wait()
        assert bench.room.store.get(container_id).restart_count == 2

    assert run(work, tmp_path).events.actions().count("die") == 3


def test_a_stop_wins_over_the_restart_policy(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make(host={"restart_policy": RestartPolicy(name="always")})
        await start.start(bench.room, container_id)
        await stop.stop(bench.room, container_id, 0)
        assert bench.room.store.get(container_id).status == "exited"

    run(work, tmp_path)


def test_pause_and_unpause_refuse_what_docker_refuses(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make("web")
        with pytest.raises(Conflict, match=f"container {container_id} is not running"):
            await pause.pause(bench.room, "web")
        await start.start(bench.room, "web")
        await pause.pause(bench.room, "web")
        with pytest.raises(Conflict, match="already paused"):
            await pause.pause(bench.room, "web")
        with pytest.raises(Conflict, match="cannot start a paused container, try unpause instead"):
            await start.start(bench.room, "web")
        await pause.unpause(bench.room, "web")
        with pytest.raises(Error, match=f"Container {container_id} is not paused"):
            await pause.unpause(bench.room, "web")

    run(work, tmp_path)


def test_rename_frees_the_old_name(tmp_path):
    async def work(bench: Bench) -> None:
        await bench.make("old")
        await bench.make("other")
        with pytest.raises(AlreadyExists, match="Error when allocating new name: Conflict"):
            await rename.rename(bench.room, "old", "other")
        await rename.rename(bench.room, "old", "new")
        assert bench.room.store.get("/new").name == "new"
        assert await bench.make("old")

    run(work, tmp_path)


def test_wait_on_what_does_not_run_is_answered_at_once_and_conditions_are_checked(tmp_path):
    async def work(bench: Bench) -> None:
        await bench.make("web")
        assert await wait.wait(bench.room, "web") == (0, "")
        assert not wait.wait(bench.room, "web", "next-exit").done()
        with pytest.raises(InvalidArgument, match='invalid condition: "soon"'):
            wait.wait(bench.room, "web", "soon")

    run(work, tmp_path)


def test_the_bundle_holds_the_spec_of_the_resolved_user_and_command(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make("web", user="bob", cmd=["id", "-u"], env=["A=mine"])
        await start.start(bench.room, "web")
        with open(f"{bench.tasks.bundles[container_id]}/config.json", encoding="utf-8") as file:
            spec = json.load(file)
        assert spec["process"]["args"] == ["id", "-u"]
        assert spec["process"]["user"] == {"uid": 7, "gid": 8, "additionalGids": [8]}
        env = spec["process"]["env"]
        assert "A=mine" in env and "PATH=/bin" in env and "HOME=/home/bob" in env
        assert f"HOSTNAME={container_id[:12]}" in env

    run(work, tmp_path)


def test_a_user_that_is_not_in_the_image_fails_the_start_with_dockers_text(tmp_path):
    async def work(bench: Bench) -> None:
        await bench.make("web", user="nobody-here")
        with pytest.raises(InvalidArgument) as caught:
            await start.start(bench.room, "web")
        assert str(caught.value) == "unable to find user nobody-here: no matching entries in passwd file"
        assert not leftovers(bench)["bundles"]

    run(work, tmp_path)


def test_two_starts_at_once_run_it_once(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make()
        results = await asyncio.gather(*(start.start(bench.room, container_id) for _ in range(3)))
        assert sorted(results) == [False, False, True]

    run(work, tmp_path)


def test_a_waiter_that_gives_up_is_forgotten(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make()
        wait.wait(bench.room, container_id, "next-exit").cancel()
        await asyncio.sleep(0)
        assert bench.room.live.of(container_id).waiters == []

    run(work, tmp_path)


def test_forced_removal_of_an_auto_remove_container_takes_its_volumes(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make(host={"auto_remove": True}, volumes={"/data": {}})
        await start.start(bench.room, container_id)
        await rm.remove(bench.room, container_id, force=True)

    bench = run(work, tmp_path)
    assert empty(bench), leftovers(bench)


def test_a_client_that_attaches_during_the_start_gets_its_streams(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make()
        joined = []
        plain = bench.tasks.start

        async def slow(found: str) -> None:
            joined.append(await attach.attach(bench.room, found, stdin=False, stdout=True, stderr=False))
            await plain(found)

        bench.tasks.start = slow  # type: ignore[method-assign]
        await start.start(bench.room, container_id)
        bench.tasks.write(container_id, b"later")
        assert joined[0].stdout is not None and os.read(joined[0].stdout, 10) == b"later"
        joined[0].close()

    run(work, tmp_path)
