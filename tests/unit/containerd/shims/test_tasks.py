"""Tasks behind a shim that hangs, dies, or is found again: a shim of our own making, which does what it is told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from sampan.api.containerd.runtime.task.v2 import shim_pb2 as api
from sampan.containerd.client_tasks import Stdio
from sampan.containerd.shims import connection, tasks
from sampan.containerd.shims.binary import Home
from sampan.containerd.shims.tasks import ShimTasks

PROGRAM = """#!/bin/sh
for verb; do :; done
case $verb in
start) printf 'unix://{directory}/s' ;;
delete) printf '\\010\\007\\020\\211\\001' ;; # pid 7, status 137
esac
"""


class Place:
    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.binary = f"{directory}/shim"
        with open(self.binary, "w") as file:
            file.write(PROGRAM.format(directory=directory))
        os.chmod(self.binary, 0o755)
        self.told: list[tuple[str, int]] = []
        self.hang = asyncio.Event()

    def tasks(self) -> ShimTasks:
        return ShimTasks(
            f"{self.directory}/state",
            f"{self.directory}/root",
            Home(f"{self.directory}/c.sock"),
            exited=lambda task, process: self.told.append(("exit", process.exit.status if process.exit else -1)),
            deleted=lambda task, ended: self.told.append(("delete", ended.status)),
        )

    async def shim(self, **more: Callable[[bytes], Awaitable[bytes]]) -> connection.TtrpcServer:
        async def create(payload: bytes) -> bytes:
            return bytes(api.CreateTaskResponse(pid=7).SerializeToString())

        async def forever(payload: bytes) -> bytes:
            await self.hang.wait()
            return b""

        methods = {"Create": create, "Wait": forever, "State": forever, **more}
        return await connection.listen(
            f"{self.directory}/s", {f"containerd.task.v2.Task/{name}": method for name, method in methods.items()}
        )

    async def make(self, made: ShimTasks) -> tasks.ShimTask:
        return await made.create(
            "ns", "c1", binary=self.binary, options=None, spec=b"{}", rootfs=[], stdio=Stdio()
        )  # fmt: skip


def run(tmp_path, monkeypatch, scenario) -> None:
    async def body() -> None:
        await scenario(Place(str(tmp_path)))

    monkeypatch.setattr(tasks, "LOOK_TIMEOUT", 0.1)
    asyncio.run(asyncio.wait_for(body(), 20))


def test_a_shim_that_hangs_is_unknown_and_holds_up_nobody(tmp_path, monkeypatch) -> None:
    async def scenario(place: Place) -> None:
        server = await place.shim()
        made = place.tasks()
        await place.make(made)
        began = asyncio.get_running_loop().time()
        (task,) = await made.list("ns")
        assert task.init.status == "unknown"
        await made.close()
        later = place.tasks()
        await later.recover()
        assert asyncio.get_running_loop().time() - began < 5
        assert later.find("ns", "c1") is not None, "it may come to itself"
        await later.close()
        await server.close()

    run(tmp_path, monkeypatch, scenario)


def test_a_shim_that_dies_has_its_task_s_end_told_and_nothing_left(tmp_path, monkeypatch) -> None:
    async def scenario(place: Place) -> None:
        server = await place.shim()
        made = place.tasks()
        task = await place.make(made)
        await server.close()
        await task.init.exited.wait()
        while len(place.told) < 2:
            await asyncio.sleep(0)
        assert place.told == [("exit", 137), ("delete", 137)]
        assert made.find("ns", "c1") is None
        assert os.listdir(f"{place.directory}/state/io.containerd.runtime.v2.task") == []
        await made.close()

    run(tmp_path, monkeypatch, scenario)


def test_the_next_core_buries_what_died_while_none_was_there(tmp_path, monkeypatch) -> None:
    async def scenario(place: Place) -> None:
        server = await place.shim()
        first = place.tasks()
        await place.make(first)
        await first.close()
        await server.close()
        later = place.tasks()
        await later.recover()
        while len(place.told) < 2:
            await asyncio.sleep(0.01)
        assert place.told == [("exit", 137), ("delete", 137)]
        assert later.find("ns", "c1") is None
        await later.close()

    run(tmp_path, monkeypatch, scenario)
