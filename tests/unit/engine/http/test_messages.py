"""Reading and answering: bodies, flags, progress streams."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web
from tests.unit.engine.http.test_server import serving

from sampan.engine.http.messages import JsonStream, ends_with_client, flag, number, read, reply
from sampan.errors import NotFound


class Body(msgspec.Struct):
    Name: str = ""
    Count: int = 0


async def read_body(request: web.Request) -> web.Response:
    return reply(await read(request, Body))


@pytest.mark.parametrize(
    ("headers", "data", "status", "message"),
    [
        ({"Content-Type": "application/json"}, b'{"Name":"x","Other":1}', 200, None),
        ({"Content-Type": "application/json; charset=utf-8"}, b"{}", 200, None),
        ({"Content-Type": "application/json"}, b"", 200, None),
        (
            {"Content-Type": "text/plain"},
            b"{}",
            400,
            "unsupported Content-Type header (text/plain): must be 'application/json'",
        ),
        ({"Content-Type": "application/json"}, b"{", 400, "invalid JSON: "),
        ({"Content-Type": "application/json"}, b'{"Count":"x"}', 400, "invalid JSON: "),
    ],
)
def test_a_body_is_json_of_the_right_shape_or_refused(
    tmp_path: Path, headers: dict[str, str], data: bytes, status: int, message: str | None
) -> None:
    async def check() -> None:
        async with serving(tmp_path, web.post("/x", read_body)) as session:
            answer = await session.post("/x", data=data, headers=headers)
            assert answer.status == status
            if message:
                assert (await answer.json())["message"].startswith(message)

    asyncio.run(check())


def test_a_missing_body_needs_no_content_type(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, web.post("/x", read_body)) as session:
            answer = await session.post("/x", skip_auto_headers=("Content-Type",))
            assert await answer.json() == {"Name": "", "Count": 0}

    asyncio.run(check())


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("", False),
        ("?f=", False),
        ("?f=0", False),
        ("?f=False", False),
        ("?f=none", False),
        ("?f=1", True),
        ("?f=yes", True),
    ],
)
def test_a_flag_is_false_for_the_words_that_docker_takes_as_false(tmp_path: Path, query: str, value: bool) -> None:
    async def handler(request: web.Request) -> web.Response:
        return reply({"f": flag(request, "f"), "n": number(request, "n", 7)})

    async def check() -> None:
        async with serving(tmp_path, web.get("/x", handler)) as session:
            assert await (await session.get("/x" + query)).json() == {"f": value, "n": 7}
            assert (await session.get("/x?n=abc")).status == 400

    asyncio.run(check())


def test_progress_goes_out_line_by_line_and_a_late_failure_is_the_handlers(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        stream = JsonStream(request)

        async def work() -> None:
            stream.put({"n": 1})
            await asyncio.sleep(0)
            stream.put({"n": 2})

        await stream.run(work())
        return await stream.close()

    async def check() -> None:
        async with serving(tmp_path, web.get("/x", handler)) as session:
            answer = await session.get("/x")
            assert answer.headers["Content-Type"] == "application/json"
            assert await answer.read() == b'{"n":1}\r\n{"n":2}\r\n'

    asyncio.run(check())


def test_a_failure_before_the_first_line_is_a_plain_error(tmp_path: Path) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        stream = JsonStream(request)

        async def work() -> None:
            stream.put({"n": 1})
            raise NotFound("gone")

        await stream.run(work())
        return await stream.close()

    async def check() -> None:
        async with serving(tmp_path, web.get("/x", handler)) as session:
            answer = await session.get("/x")
            assert answer.status == 404
            assert await answer.json() == {"message": "gone"}

    asyncio.run(check())


def test_work_ends_when_its_client_leaves(tmp_path: Path) -> None:
    async def check() -> None:
        ended = asyncio.Event()

        @ends_with_client
        async def handler(request: web.Request) -> web.StreamResponse:
            stream = JsonStream(request)

            async def work() -> None:
                try:
                    stream.put({"n": 1})
                    await asyncio.Event().wait()
                finally:
                    ended.set()

            await stream.run(work())
            return await stream.close()

        async with serving(tmp_path, web.post("/x", handler)) as session:
            answer = await session.post("/x")
            assert await answer.content.readline() == b'{"n":1}\r\n'
            answer.close()
            await asyncio.wait_for(ended.wait(), 5)

    asyncio.run(check())


def test_the_client_library_reads_a_reply_as_json(tmp_path: Path) -> None:
    async def check() -> None:
        async with serving(tmp_path, web.get("/x", read_body)) as session:
            assert isinstance(session, aiohttp.ClientSession)
            answer = await session.get("/x")
            assert (await answer.read()).endswith(b"}\n")

    asyncio.run(check())
