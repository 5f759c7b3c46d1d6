"""The Volume tag over HTTP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from tests.unit.engine.http.rooms import tag
from tests.unit.engine.volumes.test_local import USER, Room

from sampan.engine.http import volumes


def test_a_volumes_life_in_documents(tmp_path: Path) -> None:
    async def check() -> None:
        room = Room(tmp_path)
        async with tag(tmp_path, volumes.routes, volumes=room.volumes) as session:
            made = await session.post("/volumes/create", json={"Name": "data", "Driver": "local", "Labels": {"a": "b"}})
            assert made.status == 201
            document = await made.json()
            assert (
                document.items()
                >= {
                    "Name": "data",
                    "Driver": "local",
                    "Scope": "local",
                    "Labels": {"a": "b"},
                    "Options": None,
                    "Mountpoint": f"{tmp_path}/volumes/data/_data",
                }.items()
            )
            assert "UsageData" not in document
            assert await (await session.get("/volumes/data")).json() == document
            assert await (await session.get("/volumes")).json() == {"Volumes": [document], "Warnings": None}
            assert (await session.delete("/volumes/data")).status == 204
            gone = await session.get("/volumes/data")
            assert (gone.status, await gone.json()) == (404, {"message": "get data: no such volume"})
            assert (await session.delete("/volumes/data?force=1")).status == 204

    asyncio.run(check())


def test_nulls_as_go_clients_send_them_are_taken(tmp_path: Path) -> None:
    async def check() -> None:
        room = Room(tmp_path)
        async with tag(tmp_path, volumes.routes, volumes=room.volumes) as session:
            body = {"Name": "", "Driver": None, "DriverOpts": None, "Labels": None, "ClusterVolumeSpec": None}
            made = await session.post("/volumes/create", json=body)
            assert len((await made.json())["Name"]) == 64

    asyncio.run(check())


def test_a_volume_in_use_is_a_conflict(tmp_path: Path) -> None:
    async def check() -> None:
        room = Room(tmp_path)
        room.volumes.create("data")
        room.containers.used.append("data")
        async with tag(tmp_path, volumes.routes, volumes=room.volumes) as session:
            answer = await session.delete("/volumes/data")
            assert answer.status == 409
            assert (await answer.json())["message"] == f"remove data: volume is in use - [{USER}]"

    asyncio.run(check())


def test_prune_takes_named_volumes_too_for_clients_of_before_1_42(tmp_path: Path) -> None:
    async def check() -> None:
        room = Room(tmp_path)
        room.volumes.create("named")
        anonymous = room.volumes.create().name
        async with tag(tmp_path, volumes.routes, volumes=room.volumes) as session:
            first = await (await session.post("/v1.51/volumes/prune")).json()
            assert first == {"VolumesDeleted": [anonymous], "SpaceReclaimed": 0}
            second = await (await session.post("/v1.41/volumes/prune")).json()
            assert second["VolumesDeleted"] == ["named"]
            assert (await (await session.post("/volumes/prune")).json())["VolumesDeleted"] is None
            refused = await session.post("/volumes/prune", params={"filters": json.dumps({"until": ["1h"]})})
            assert refused.status == 400

    asyncio.run(check())
