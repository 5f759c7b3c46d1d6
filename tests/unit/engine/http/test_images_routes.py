"""The Image tag over HTTP, with a real core behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.unit.engine.http.rooms import tag
from tests.unit.engine.images.shelf import Shelf, shelf
from tests.unit.engine.images.test_transfer import Registry

from sampan.containerd.services import Image, Progress
from sampan.engine.http import images as routes_of
from sampan.engine.images.archives import Archives
from sampan.engine.images.transfer import Transfers
from sampan.errors import DataLoss, Unauthorized, Unavailable


@contextmanager
def rooms(tmp_path: Path, registry: type[Registry] = Registry) -> Iterator[tuple[Shelf, Registry, dict[str, Any]]]:
    with shelf(tmp_path) as made:
        source = registry(made)
        yield made, source, {
            "images": made.catalog,
            "removal": made.removal,
            "transfers": Transfers(made.catalog, source, made.events),
            "archives": Archives(made.catalog, made.core.transfer, made.events),
            "events": made.events,
        }  # fmt: skip


async def told(answer: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await answer.text()).splitlines()]


def test_list_inspect_history_tag_and_remove(tmp_path: Path) -> None:
    async def check(made: Shelf, engine: dict[str, Any]) -> None:
        details = made.add("docker.io/library/a:1", "x", history=[{"created_by": "ADD x"}])
        async with tag(tmp_path, routes_of.routes, **engine) as session:
            (summary,) = await (await session.get("/images/json")).json()
            assert (summary["Id"], summary["RepoTags"]) == (details.id, ["a:1"])
            assert (await (await session.get("/images/a:1/json")).json())["Id"] == details.id
            assert (await (await session.get("/images/library/a:1/history")).json())[0]["CreatedBy"] == "ADD x"
            assert (await session.post("/images/a:1/tag?repo=localhost:5000/team/b&tag=2")).status == 201
            assert (await (await session.get("/images/localhost:5000/team/b:2/json")).json())["Id"] == details.id
            assert await (await session.delete("/images/localhost:5000/team/b:2")).json() == [
                {"Untagged": "localhost:5000/team/b:2"}
            ]
            missing = await session.get("/images/nope/json")
            assert (missing.status, await missing.json()) == (404, {"message": "No such image: nope:latest"})
            bad = await session.post("/images/a:1/tag?repo=BAD")
            assert bad.status == 400

    with rooms(tmp_path) as (made, _, engine):
        asyncio.run(check(made, engine))


def test_old_clients_name_a_repository_by_the_filter_parameter(tmp_path: Path) -> None:
    async def check(made: Shelf, engine: dict[str, Any]) -> None:
        made.add("docker.io/library/a:1", "x")
        made.add("docker.io/library/b:1", "y")
        async with tag(tmp_path, routes_of.routes, **engine) as session:
            (only,) = await (await session.get("/v1.40/images/json?filter=b")).json()
            assert only["RepoTags"] == ["b:1"]
            assert len(await (await session.get("/v1.41/images/json?filter=b")).json()) == 2

    with rooms(tmp_path) as (made, _, engine):
        asyncio.run(check(made, engine))


def test_a_platform_in_json_chooses_from_an_index(tmp_path: Path) -> None:
    async def check(made: Shelf, engine: dict[str, Any]) -> None:
        other = made.manifest("other", os="linux", architecture="s390x")
        made.core.images.put(Image("docker.io/library/a:1", made.index((other, "linux", "s390x"))))
        async with tag(tmp_path, routes_of.routes, **engine) as session:
            for platform, status in (("s390x", 200), ("arm64", 404), (None, 400)):
                text = json.dumps({"os": "linux", "architecture": platform}) if platform else "{"
                assert (await session.get("/images/a:1/json", params={"platform": text})).status == status

    with rooms(tmp_path) as (made, _, engine):
        asyncio.run(check(made, engine))


def test_a_pull_streams_its_steps(tmp_path: Path) -> None:
    async def check(made: Shelf, registry: Registry, engine: dict[str, Any]) -> None:
        registry.offered = made.manifest("x")
        async with tag(tmp_path, routes_of.routes, **engine) as session:
            answer = await session.post("/images/create?fromImage=a&tag=latest")
            assert answer.status == 200
            assert answer.headers["Content-Type"] == "application/json"
            assert (await told(answer))[0] == {"status": "Pulling from library/a", "id": "latest"}

    with rooms(tmp_path) as (made, registry, engine):
        asyncio.run(check(made, registry, engine))


@pytest.mark.parametrize(
    ("error", "status"), [(Unauthorized("who are you"), 500), (Unavailable("dial tcp: refused"), 500)]
)
def test_a_pull_that_fails_at_once_has_a_status(tmp_path: Path, error: Exception, status: int) -> None:
    class Failing(Registry):
        async def pull(self, *_: Any, **__: Any) -> Image:
            raise error

    async def check(engine: dict[str, Any]) -> None:
        async with tag(tmp_path, routes_of.routes, **engine) as session:
            answer = await session.post("/images/create?fromImage=a&tag=latest")
            assert (answer.status, await answer.json()) == (status, {"message": str(error)})

    with rooms(tmp_path, Failing) as (_, _, engine):
        asyncio.run(check(engine))


def test_a_pull_that_fails_later_says_so_in_its_last_line(tmp_path: Path) -> None:
    class Failing(Registry):
        async def pull(self, *_: Any, **options: Any) -> Image:
            options["progress"](Progress("latest", "Pulling from library/a"))
            await asyncio.sleep(0.01)
            raise DataLoss("filesystem layer verification failed")

    async def check(engine: dict[str, Any]) -> None:
        async with tag(tmp_path, routes_of.routes, **engine) as session:
            answer = await session.post("/images/create?fromImage=a&tag=latest")
            assert answer.status == 200
            assert (await told(answer))[-1] == {
                "errorDetail": {"message": "filesystem layer verification failed"},
                "error": "filesystem layer verification failed",
            }

    with rooms(tmp_path, Failing) as (_, _, engine):
        asyncio.run(check(engine))


def test_a_pull_ends_when_its_client_leaves(tmp_path: Path) -> None:
    ended = asyncio.Event()

    class Slow(Registry):
        async def pull(self, *_: Any, **options: Any) -> Image:
            options["progress"](Progress("latest", "Pulling from library/a"))
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            raise AssertionError

    async def check(engine: dict[str, Any]) -> None:
        async with tag(tmp_path, routes_of.routes, **engine) as session:
            answer = await session.post("/images/create?fromImage=a&tag=latest")
            answer.close()
            await asyncio.wait_for(ended.wait(), 5)

    with rooms(tmp_path, Slow) as (_, _, engine):
        asyncio.run(check(engine))


def test_bad_requests_are_refused(tmp_path: Path) -> None:
    async def check(engine: dict[str, Any]) -> None:
        async with tag(tmp_path, routes_of.routes, **engine) as session:
            for method, path, status in (
                ("POST", "/images/create?fromImage=BAD&tag=1", 400),
                ("POST", "/images/create?fromImage=a&tag=-x", 400),
                ("POST", "/images/create?fromSrc=http://x/y.tar", 501),
                ("POST", "/images/a/push?tag=1", 404),
                ("GET", '/images/json?filters={"x":["y"]}', 400),
                ("DELETE", "/images/nope", 404),
            ):
                assert (await session.request(method, path)).status == status, path

    with rooms(tmp_path) as (_, _, engine):
        asyncio.run(check(engine))


def test_prune_reports_lines_and_bytes(tmp_path: Path) -> None:
    async def check(made: Shelf, engine: dict[str, Any]) -> None:
        details = made.add("docker.io/library/a:1", "x")
        async with tag(tmp_path, routes_of.routes, **engine) as session:
            nothing = await (await session.post("/images/prune")).json()
            assert nothing == {"ImagesDeleted": None, "SpaceReclaimed": 0}
            filters = json.dumps({"dangling": {"false": True}})
            found = await (await session.post("/images/prune", params={"filters": filters})).json()
            assert {"Deleted": details.id} in found["ImagesDeleted"]

    with rooms(tmp_path) as (made, _, engine):
        asyncio.run(check(made, engine))


def test_an_archive_goes_out_and_in(tmp_path: Path) -> None:
    async def check(made: Shelf, engine: dict[str, Any]) -> None:
        details = made.add("docker.io/team/a:1", "x")
        async with tag(tmp_path, routes_of.routes, **engine) as session:
            saved = await session.get("/images/team/a:1/get")
            assert saved.headers["Content-Type"] == "application/x-tar"
            archive = await saved.read()
            assert await (await session.get("/images/get?names=team/a:1")).read() == archive
            await made.removal.remove("team/a:1")
            loaded = await session.post("/images/load?quiet=1", data=archive)
            assert await told(loaded) == [{"stream": "Loaded image: team/a:1\n"}]
            assert made.catalog.find("team/a:1")[0].id == details.id
            assert (await session.get("/images/nope/get")).status == 404
            assert (await session.post("/images/load", data=b"garbage" * 100)).status == 400

    with rooms(tmp_path) as (made, _, engine):
        asyncio.run(check(made, engine))
