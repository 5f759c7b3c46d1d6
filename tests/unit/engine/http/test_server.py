"""The HTTP front: versions, errors, headers, sockets, and who may be cut short."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from sampan.engine.http import server
from sampan.engine.http.messages import JsonStream, api_version, ends_with_client, reply
from sampan.errors import AlreadyExists, Conflict, Error, InvalidArgument, NotFound, Unavailable, Unimplemented

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(tmp_path: Path, *routes: web.RouteDef) -> AsyncIterator[aiohttp.ClientSession]:
    runner = await server.serve(server.application([list(routes)]))
    path = str(tmp_path / "s")
    try:
        await server.listen(runner, f"unix://{path}", group="no-such-group")
        async with aiohttp.ClientSession("http://d", connector=aiohttp.UnixConnector(path)) as session:
            yield session
    finally:
        await runner.cleanup()


def raising(error: Exception) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        raise error

    return handler


async def echo_version(request: web.Request) -> web.Response:
    return reply({"version": list(api_version(request)), "path": request.path, "name": request.match_info.get("name")})


def test_the_version_is_taken_off_the_path_and_told_to_the_handler(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, web.get("/images/{name:.*}/json", echo_version)) as session:
            answer = await session.get("/v1.30/images/a/b%2Fc/json?x=1")
            assert await answer.json() == {"version": [1, 30], "path": "/images/a/b/c/json", "name": "a/b/c"}
            answer = await session.get("/images/a/json")
            assert (await answer.json())["version"] == [1, 51]

    asyncio.run(check())


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("1.99", "client version 1.99 is too new. Maximum supported API version is 1.51"),
        (
            "1.10",
            "client version 1.10 is too old. Minimum supported API version is 1.24, "
            "please upgrade your client to a newer version",
        ),
    ],
)
def test_a_version_outside_of_the_range_is_refused_in_dockers_words(tmp_path: Path, version: str, text: str) -> None:
    async def check() -> None:
        async with serving(tmp_path, web.get("/x", echo_version)) as session:
            answer = await session.get(f"/v{version}/x")
            assert answer.status == 400
            assert await answer.json() == {"message": text}
            assert answer.headers["Api-Version"] == "1.51"

    asyncio.run(check())


def test_every_answer_carries_the_engines_headers(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, web.get("/x", echo_version)) as session:
            for path in ("/x", "/nowhere"):
                headers = (await session.get(path)).headers
                assert headers["Api-Version"] == "1.51"
                assert headers["Ostype"] == "linux"
                assert headers["Docker-Experimental"] == "false"
                assert headers["Server"].startswith("Sampan/")

    asyncio.run(check())


def test_an_experimental_engine_tells_so_in_every_answer(tmp_path: Path) -> None:
    async def check() -> None:
        runner = await server.serve(server.application([[web.get("/x", echo_version)]], experimental=True))
        try:
            await server.listen(runner, f"unix://{tmp_path}/s", group="no-such-group")
            async with aiohttp.ClientSession("http://d", connector=aiohttp.UnixConnector(f"{tmp_path}/s")) as session:
                for path in ("/x", "/nowhere"):
                    assert (await session.get(path)).headers["Docker-Experimental"] == "true"
        finally:
            await runner.cleanup()

    asyncio.run(check())


def test_an_unknown_path_and_an_unknown_method_are_both_page_not_found(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, web.get("/x", echo_version)) as session:
            for answer in (await session.get("/v9.99/y"), await session.delete("/x")):
                assert answer.status == 404
                assert await answer.json() == {"message": "page not found"}

    asyncio.run(check())


def test_doubled_slashes_are_redirected_to_the_tidy_path(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, web.get("/x/y", echo_version)) as session:
            answer = await session.get("/v1.40//x///y?a=b//c", allow_redirects=False)
            assert (answer.status, answer.headers["Location"]) == (301, "/v1.40/x/y?a=b//c")
            answer = await session.get("/v1.40/x//y?a=1")
            assert (await answer.json())["version"] == [1, 40]

    asyncio.run(check())


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidArgument("i"), 400),
        (NotFound("n"), 404),
        (AlreadyExists("a"), 409),
        (Conflict("c"), 409),
        (Unimplemented("u"), 501),
        (Unavailable("v"), 503),
        (Error("e"), 500),
        (RuntimeError("our own bug"), 500),
    ],
)
def test_each_kind_has_its_status_and_its_text_as_the_message(tmp_path: Path, error: Exception, status: int) -> None:
    async def check() -> None:
        async with serving(tmp_path, web.post("/x", raising(error))) as session:
            answer = await session.post("/x")
            assert answer.status == status
            assert answer.content_type == "application/json"
            assert await answer.json() == {"message": str(error)}

    asyncio.run(check())


def test_a_failure_in_the_middle_of_a_stream_breaks_the_connection(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        stream = JsonStream(request)
        stream.put({"first": 1})
        await stream.drain()
        raise Error("too late for a status")

    async def check() -> None:
        async with serving(tmp_path, web.get("/x", handler)) as session:
            answer = await session.get("/x")
            assert answer.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()

    asyncio.run(check())


@pytest.mark.parametrize("cuttable", [False, True])
def test_a_change_runs_to_its_end_without_its_client_unless_it_is_marked(tmp_path: Path, cuttable: bool) -> None:
    async def check() -> None:
        started, go, outcome = asyncio.Event(), asyncio.Event(), asyncio.Queue[str]()

        async def handler(request: web.Request) -> web.StreamResponse:
            started.set()
            try:
                await go.wait()
            except asyncio.CancelledError:
                outcome.put_nowait("cut")
                raise
            outcome.put_nowait("finished")
            return reply({})

        route = web.post("/x", ends_with_client(handler) if cuttable else handler)
        async with serving(tmp_path, route):
            _, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(b"POST /x HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n")
            await started.wait()
            writer.close()
            if cuttable:
                assert await asyncio.wait_for(outcome.get(), 5) == "cut"
            else:
                go.set()
                assert await asyncio.wait_for(outcome.get(), 5) == "finished"

    asyncio.run(check())


def test_the_end_of_the_server_waits_for_a_change_under_way(tmp_path: Path) -> None:
    async def check() -> None:
        started, go, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def handler(request: web.Request) -> web.StreamResponse:
            started.set()
            await go.wait()
            finished.set()
            return reply({})

        runner = await server.serve(server.application([[web.post("/x", handler)]]))
        await server.listen(runner, f"unix://{tmp_path}/s")
        _, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(b"POST /x HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n")
        await started.wait()
        ending = asyncio.ensure_future(runner.cleanup())
        asyncio.get_running_loop().call_later(1, go.set)
        await asyncio.wait_for(ending, 10)
        assert finished.is_set()
        writer.close()

    asyncio.run(check())


def test_a_large_body_can_be_streamed(tmp_path: Path) -> None:
    """No limit stands in the way of an upload that the handler reads piece by piece."""

    async def handler(request: web.Request) -> web.StreamResponse:
        size = 0
        async for piece in request.content.iter_chunked(1 << 16):
            size += len(piece)
        return reply({"size": size})

    async def body() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield bytes(1 << 20)

    async def check() -> None:
        async with serving(tmp_path, web.post("/x", handler)) as session:
            answer = await session.post("/x", data=body())
            assert await answer.json() == {"size": 80 << 20}

    asyncio.run(check())


def test_a_socket_left_behind_is_replaced_and_not_open_to_others(tmp_path: Path) -> None:
    async def check() -> None:
        path = str(tmp_path / "dir" / "s")
        os.makedirs(os.path.dirname(path))
        socket.socket(socket.AF_UNIX).bind(path)
        runner = await server.serve(server.application([]))
        try:
            assert await server.listen(runner, f"unix://{path}") == f"unix://{path}"
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
        finally:
            await runner.cleanup()

    asyncio.run(check())


def test_a_tcp_address_is_served_and_told_as_bound(tmp_path: Path) -> None:
    async def check() -> None:
        runner = await server.serve(server.application([[web.get("/x", echo_version)]]))
        try:
            bound = await server.listen(runner, "tcp://127.0.0.1:0")
            async with aiohttp.ClientSession() as session:
                assert (await session.get(bound.replace("tcp", "http") + "/x")).status == 200
        finally:
            await runner.cleanup()

    asyncio.run(check())


@pytest.mark.parametrize("host", ["ftp://x", "nonsense", "tcp://127.0.0.1:notaport"])
def test_an_address_that_cannot_be_served_is_refused(host: str) -> None:
    async def check() -> None:
        runner = await server.serve(server.application([]))
        try:
            with pytest.raises(Error):
                await server.listen(runner, host)
        finally:
            await runner.cleanup()

    asyncio.run(check())


def test_requests_of_one_connection_follow_each_other(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, web.get("/x", echo_version)):
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            for version in ("1.24", "1.51"):
                writer.write(f"GET /v{version}/x HTTP/1.1\r\nHost: d\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
                assert json.loads(await reader.readexactly(length))["version"] == [int(x) for x in version.split(".")]
            writer.close()

    asyncio.run(check())
