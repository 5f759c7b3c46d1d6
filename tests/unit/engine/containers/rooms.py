"""A containers room over fakes, in a directory of the test's own."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any

from tests.fakes import FakeCore, FakeEvents, FakeImages, FakeNetworks, FakeVolumes

from sampan.api.docker.containers import CreateRequest, HostConfig
from sampan.engine.containers import create
from sampan.engine.containers.capabilities import ALL
from sampan.engine.containers.host import HostFacts
from sampan.engine.containers.reconcile import reconcile
from sampan.engine.containers.room import Room, open_room
from sampan.engine.settings import Settings

FACTS = HostFacts(
    cgroup_version=1,
    kernel=(6, 18),
    machine="x86_64",
    capabilities=ALL,
    apparmor=False,
    cpus=2,
    memory=1 << 32,
)


class Bench:
    """The room and its fakes by name."""

    def __init__(self, root: str, connection: sqlite3.Connection | None = None) -> None:
        self.root = root
        self.connection = connection or sqlite3.connect(":memory:")
        self.core = FakeCore(f"{root}/snapshots")
        self.images = FakeImages()
        self.volumes = FakeVolumes(f"{root}/volumes")
        self.networks = FakeNetworks()
        self.events = FakeEvents()
        self.tasks = self.core.tasks
        self.core.snapshots.layer("chain", {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\nbob:x:7:8::/home/bob:\n"})
        self.images.add("busybox", "chain", Cmd=["sh"], Env=["PATH=/bin", "A=image"])
        self.room = self.open()

    def open(self) -> Room:
        os.makedirs(f"{self.root}/state", exist_ok=True)
        return open_room(
            self.connection,
            core=self.core,
            images=self.images,
            volumes=self.volumes,
            networks=self.networks,
            events=self.events,
            settings=Settings(root=self.root, state=f"{self.root}/state"),
            facts=lambda: FACTS,
        )

    async def make(self, name: str = "", **fields: Any) -> str:
        """Create a container; its id. `host` holds HostConfig fields."""
        host = fields.pop("host", {})
        request = CreateRequest(image="busybox", host_config=HostConfig(**host), **fields)
        return (await create.create(self.room, request, name)).id


def run(work: Callable[[Bench], Awaitable[None]], root: Any) -> Bench:
    """Perform `work` on a fresh room that listens for exits; no teardown is left when it returns."""
    bench = Bench(str(root))

    async def main() -> None:
        await reconcile(bench.room)
        async with asyncio.timeout(10):
            await work(bench)
            await bench.room.live.settle()

    asyncio.run(main())
    return bench
