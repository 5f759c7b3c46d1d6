"""The checkpoint calls over HTTP: documents and status codes of dockerd, experimental and not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.unit.engine.containers.rooms import Bench
from tests.unit.engine.http.rooms import tag

from sampan.engine.containers.reconcile import reconcile
from sampan.engine.containers.start import start
from sampan.engine.http import checkpoints
from sampan.engine.settings import Settings

PATH = "/containers/one/checkpoints"


def answers(tmp_path: Path, experimental: bool, *requests: tuple[str, str, Any]) -> list[tuple[int, Any]]:
    """Status and JSON body (None: empty) of each request to an engine with the running container `one`."""
    bench = Bench(str(tmp_path / "room"))
    found = []

    async def main() -> None:
        await reconcile(bench.room)
        await bench.make("one", host={"network_mode": "none"})
        await start(bench.room, "one")
        settings = Settings(experimental=experimental)
        async with tag(tmp_path, checkpoints.routes, containers=bench.room, settings=settings) as session:
            for method, path, body in requests:
                answer = await session.request(method, path, json=body)
                found.append((answer.status, await answer.json() if await answer.read() else None))
        await bench.room.live.settle()

    asyncio.run(main())
    return found


def test_a_checkpoint_is_made_listed_and_removed(tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "elsewhere")
    assert answers(
        tmp_path,
        True,
        ("GET", PATH, None),
        ("POST", PATH, {"CheckpointID": "first", "CheckpointDir": "", "Exit": False}),
        ("POST", PATH, {"CheckpointID": "second", "CheckpointDir": elsewhere, "Exit": True}),
        ("GET", PATH, None),
        ("GET", f"{PATH}?dir={elsewhere}", None),
        ("DELETE", f"{PATH}/second?dir={elsewhere}", None),
        ("DELETE", f"{PATH}/first", None),
        ("GET", PATH, None),
        ("POST", PATH, {"CheckpointID": "third"}),
    ) == [
        (200, None),
        (201, None),
        (201, None),
        (200, [{"Name": "first"}]),
        (200, [{"Name": "second"}]),
        (204, None),
        (204, None),
        (200, None),
        (500, {"message": "Container one not running"}),
    ]


def test_an_engine_that_is_not_experimental_refuses_all_of_them(tmp_path: Path) -> None:
    text = (
        "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to "
        "enable it."
    )
    asked = (("GET", PATH, None), ("POST", PATH, {"CheckpointID": "first"}), ("DELETE", f"{PATH}/first", None))
    assert answers(tmp_path, False, *asked) == [(501, {"message": text})] * 3
