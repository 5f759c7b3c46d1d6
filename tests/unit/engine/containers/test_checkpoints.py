"""Checkpoints over fake tasks: where they are, dockerd's words, and a start that goes on from one."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from tests.unit.engine.containers.rooms import Bench, run

from sampan.engine.containers import checkpoints, rm
from sampan.engine.containers.start import start
from sampan.engine.settings import Settings
from sampan.errors import Error, InvalidArgument, NotFound


def experimental(work: Callable[[Bench], Awaitable[None]], root: Path) -> Bench:
    """`work` on a room whose settings allow checkpoints."""

    async def allowed(bench: Bench) -> None:
        settings = Settings(root=bench.root, state=f"{bench.root}/state", experimental=True)
        bench.room = dataclasses.replace(bench.room, settings=settings)
        # The room that listens for exits shares the live table and the store with this one.
        await work(bench)

    return run(allowed, root)


async def running(bench: Bench) -> str:
    made = await bench.make("one", host={"network_mode": "none"})
    await start(bench.room, "one")
    return made


def test_a_checkpoint_ends_the_container_unless_it_is_to_go_on(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        made = await running(bench)
        await checkpoints.create(bench.room, "one", "first", leave=True)
        assert bench.room.store.get("one").status == "running"
        await checkpoints.create(bench.room, "one", "second")
        ended = bench.room.store.get("one")
        assert (ended.status, ended.exit_code) == ("exited", 137)
        assert checkpoints.names(bench.room, "one") == ["first", "second"]
        folder = f"{bench.room.directory(made)}/checkpoints"
        assert sorted(os.listdir(folder)) == ["first", "second"]
        assert os.stat(f"{folder}/first").st_mode & 0o777 == 0o700
        await checkpoints.remove(bench.room, "one", "first")
        assert checkpoints.names(bench.room, "one") == ["second"]
        await rm.remove(bench.room, "one")
        assert not os.path.exists(folder)

    told = [action for action in experimental(work, tmp_path).events.actions() if action in ("checkpoint", "die")]
    assert told == ["checkpoint", "die", "checkpoint"]


def test_a_start_goes_on_from_a_checkpoint_with_the_pid_that_only_the_restore_knows(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        made = await running(bench)
        elsewhere = str(tmp_path / "elsewhere")
        await checkpoints.create(bench.room, "one", "first", directory=elsewhere)
        assert checkpoints.names(bench.room, "one") == []
        assert checkpoints.names(bench.room, "one", elsewhere) == ["first"]
        assert await start(bench.room, "one", "first", elsewhere)
        assert bench.tasks.restored == {made: f"{elsewhere}/first"}
        record = bench.room.store.get("one")
        assert (record.status, record.pid) == ("running", os.getpid())
        assert not await start(bench.room, "one", "nonesuch")

    experimental(work, tmp_path)


def test_a_plain_start_after_a_checkpoint_restores_nothing(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        await running(bench)
        await checkpoints.create(bench.room, "one", "first")
        await start(bench.room, "one")
        assert bench.tasks.restored == {}

    experimental(work, tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a", "Invalid checkpoint ID (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        ("../..", "Invalid checkpoint ID (../..), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        (
            "taken",
            "cannot checkpoint container one: checkpoint with name taken already exists for container one",
        ),
        ("file", "cannot checkpoint container one: {folder}/file exists and is not a directory"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str, text: str) -> None:
    async def work(bench: Bench) -> None:
        folder = f"{bench.room.directory(await running(bench))}/checkpoints"
        await checkpoints.create(bench.room, "one", "taken", leave=True)
        (Path(folder) / "file").touch()
        with pytest.raises(Error) as refused:
            await checkpoints.create(bench.room, "one", name)
        assert (type(refused.value), str(refused.value)) == (Error, text.format(folder=folder))
        assert bench.room.store.get("one").status == "running"
        assert checkpoints.names(bench.room, "one") == ["taken"]

    experimental(work, tmp_path)


def test_a_failed_checkpoint_leaves_the_container_and_no_directory(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        await running(bench)
        bench.tasks.fail_checkpoint = Error("criu failed")
        with pytest.raises(Error, match=r"^Cannot checkpoint container one: criu failed$"):
            await checkpoints.create(bench.room, "one", "first")
        assert checkpoints.names(bench.room, "one") == []
        assert bench.room.store.get("one").status == "running"

    experimental(work, tmp_path)


def test_a_failed_restore_has_dockers_words_and_the_container_can_begin_anew(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        await running(bench)
        await checkpoints.create(bench.room, "one", "first")
        bench.tasks.fail_start = Error("criu failed: type RESTORE errno 0")
        text = "OCI runtime restore failed: criu failed: type RESTORE errno 0: unknown"
        with pytest.raises(Error, match=f"^{text}$"):
            await start(bench.room, "one", "first")
        failed = bench.room.store.get("one")
        assert (failed.status, failed.error) == ("exited", text)
        assert bench.tasks.processes == {}
        assert await start(bench.room, "one")

    experimental(work, tmp_path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        await bench.make("one", host={"network_mode": "none"})
        missing = "checkpoint nope does not exist for container "
        with pytest.raises(Error, match=f"^{missing}one$"):
            await checkpoints.remove(bench.room, "one", "nope")
        with pytest.raises(Error, match=f"^{missing}/one$"):
            await start(bench.room, "one", "nope")
        assert bench.room.store.get("one").status == "created"
        with pytest.raises(Error, match=r"^Container one not running$"):
            await checkpoints.create(bench.room, "one", "first")
        with pytest.raises(Error, match=r"^checkpoint  does not exist for container one$"):
            checkpoints.names(bench.room, "one", str(tmp_path / "nowhere"))
        with pytest.raises(NotFound, match=r"^No such container: two$"):
            checkpoints.names(bench.room, "two")

    experimental(work, tmp_path)


@pytest.mark.parametrize("name", ["..", ".", ""])
def test_no_name_leads_out_of_the_directory_of_checkpoints(tmp_path: Path, name: str) -> None:
    async def work(bench: Bench) -> None:
        folder = bench.room.directory(await running(bench))
        with pytest.raises(Error, match="does not exist"):
            await checkpoints.remove(bench.room, "one", name)
        assert os.path.isdir(folder)

    experimental(work, tmp_path)


def test_a_start_from_a_checkpoint_needs_an_experimental_engine(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        await bench.make("one")
        with pytest.raises(InvalidArgument, match=r"^checkpoint is only supported in experimental mode$"):
            await start(bench.room, "one", "first")

    run(work, tmp_path)


def test_who_starts_it_right_after_finds_it_ended(tmp_path: Path) -> None:
    async def work(bench: Bench) -> None:
        made = await running(bench)

        async def ends_later(container_id: str, images: str, *, flags: Sequence[str] = ()) -> None:
            asyncio.get_running_loop().call_later(0.01, bench.tasks.finish, made, 137)

        bench.tasks.checkpoint = ends_later  # type: ignore[method-assign]
        await checkpoints.create(bench.room, "one", "first")
        assert await start(bench.room, "one", "first")  # not "it runs already"

    experimental(work, tmp_path)
