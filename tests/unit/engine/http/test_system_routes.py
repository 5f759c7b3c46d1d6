"""The System tag over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.unit.engine.http.rooms import tag
from tests.unit.engine.test_system import made

from sampan.engine.http import system


def test_ping_answers_ok_and_tells_what_clients_negotiate_by(tmp_path: Path) -> None:
    async def check() -> None:
        async with tag(tmp_path, system.routes, system=made(tmp_path)) as session:
            got = await session.get("/_ping")
            assert (got.status, await got.text()) == (200, "OK")
            head = await session.head("/v1.24/_ping")
            for answer in (got, head):
                assert answer.headers["Api-Version"] == "1.51"
                assert answer.headers["Builder-Version"] == "1"
                assert answer.headers["Swarm"] == "inactive"
                assert answer.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
            assert head.headers["Content-Length"] == "0"

    asyncio.run(check())


def test_version_and_info_are_documents(tmp_path: Path) -> None:
    async def check() -> None:
        async with tag(tmp_path, system.routes, system=made(tmp_path)) as session:
            version = await (await session.get("/version")).json()
            assert version["ApiVersion"] == "1.51"
            info = await (await session.get("/v1.41/info")).json()
            assert info["ID"] == (tmp_path / "engine-id").read_text()
            assert info["ContainersRunning"] == 2

    asyncio.run(check())


def test_disk_usage_takes_kinds_and_refuses_unknown_ones(tmp_path: Path) -> None:
    async def check() -> None:
        async with tag(tmp_path, system.routes, system=made(tmp_path)) as session:
            found = await (await session.get("/system/df?type=volume")).json()
            assert (found["Volumes"], found["Images"]) == (["v"], None)
            # Up to API 1.41 the parameter did not exist.
            assert (await (await session.get("/v1.41/system/df?type=volume")).json())["Images"] == []
            refused = await session.get("/system/df?type=tea")
            assert refused.status == 400
            assert (await refused.json())["message"] == "unknown object type: tea"

    asyncio.run(check())
