"""The ttrpc client and server against each other, and against peers that misbehave."""

from __future__ import annotations

import asyncio

import pytest

from sampan import errors
from sampan.containerd.shims import connection
from sampan.wire import ttrpc


def run(body) -> None:
    asyncio.run(asyncio.wait_for(body, 20))


async def echo(payload: bytes) -> bytes:
    return payload[::-1]


async def refuse(payload: bytes) -> bytes:
    raise errors.NotFound("task x not found: not found")


HANDLERS = {"s.S/Echo": echo, "s.S/Refuse": refuse}


def test_calls_are_answered_and_failures_keep_their_kind(tmp_path) -> None:
    async def body() -> None:
        server = await connection.listen(f"{tmp_path}/s", HANDLERS)
        client = await connection.connect(f"unix://{tmp_path}/s", within=5, lost=lambda: None)
        assert await asyncio.gather(*(client.call("s.S", "Echo", b"ab" * n) for n in range(5))) == [
            b"ba" * n for n in range(5)
        ]
        with pytest.raises(errors.NotFound, match="task x not found"):
            await client.call("s.S", "Refuse", b"")
        with pytest.raises(errors.Unimplemented, match=r"s\.S/None"):
            await client.call("s.S", "None", b"")
        with pytest.raises(errors.InvalidArgument):
            await client.call("s.S", "Echo", bytes(ttrpc.MAX_PAYLOAD))
        assert await client.call("s.S", "Echo", b"x") == b"x", "the connection goes on"
        client.close()
        await server.close()

    run(body())


def test_a_peer_that_hangs_costs_its_time_and_no_more(tmp_path) -> None:
    async def body() -> None:
        hang = asyncio.Event()

        async def forever(payload: bytes) -> bytes:
            await hang.wait()
            return b""

        server = await connection.listen(f"{tmp_path}/s", {"s.S/Hang": forever})
        client = await connection.connect(f"{tmp_path}/s", within=5, lost=lambda: None)
        with pytest.raises(errors.Unavailable, match="did not answer Hang within"):
            await client.call("s.S", "Hang", b"", within=0.05)
        client.close()
        await server.close()

    run(body())


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_peer_that_goes_or_talks_otherwise_fails_what_waits(tmp_path, data: bytes) -> None:
    async def body() -> None:
        async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.write(data)
            await writer.drain()
            writer.close()

        server = await asyncio.start_unix_server(peer, f"{tmp_path}/s")
        lost = asyncio.Event()
        client = await connection.connect(f"{tmp_path}/s", within=5, lost=lost.set)
        with pytest.raises(errors.Unavailable, match="closed"):
            await client.call("s.S", "Echo", b"")
        await lost.wait()
        with pytest.raises(errors.Unavailable):
            await client.call("s.S", "Echo", b"")
        server.close()

    run(body())


def test_nobody_there_is_unavailable_and_another_transport_unimplemented(tmp_path) -> None:
    with pytest.raises(errors.Unavailable, match="dial"):
        run(connection.connect(f"unix://{tmp_path}/none", within=1, lost=lambda: None))
    with pytest.raises(errors.Unimplemented):
        run(connection.connect("vsock://3:1024", within=1, lost=lambda: None))


def test_addresses_are_paths_or_abstract() -> None:
    assert connection.path_of("unix:///run/x") == "/run/x"
    assert connection.path_of("/run/x") == "/run/x"
    assert connection.path_of("unix://@name") == "\0name"


def test_the_server_refuses_what_is_too_large_and_hangs_up_on_garbage(tmp_path) -> None:
    async def body() -> None:
        server = await connection.listen(f"{tmp_path}/s", HANDLERS)
        reader, writer = await asyncio.open_unix_connection(f"{tmp_path}/s")
        writer.write((ttrpc.MAX_PAYLOAD + 1).to_bytes(4, "big") + b"\0\0\0\1\1\0")
        writer.write(bytes(ttrpc.MAX_PAYLOAD + 1))
        frames = ttrpc.Reader()
        while (event := frames.next_event()) is None:
            frames.feed(await reader.read(65536))
        assert isinstance(event, ttrpc.Response) and event.code == ttrpc.RESOURCE_EXHAUSTED
        writer.write(b"\xff" * 10)
        assert await reader.read(1) == b""
        writer.close()
        await server.close()

    run(body())
