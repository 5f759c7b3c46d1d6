"""The Container and Exec tags over HTTP: status codes, documents, and hijacked connections."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from tests.unit.engine.containers.rooms import Bench
from tests.unit.engine.http.rooms import tag

from sampan.engine.containers.reconcile import reconcile
from sampan.engine.http import container_streams, containers, exec
from sampan.errors import Error
from sampan.wire.stdcopy import Demultiplexer

Check = Callable[[Bench, aiohttp.ClientSession], Awaitable[None]]


def check(tmp_path: Path, work: Check) -> Bench:
    """`work` against the three tags' routes on a socket at `tmp_path`, over a fresh room."""
    bench = Bench(str(tmp_path / "room"))

    def routes(engine: Any) -> Any:
        return [*containers.routes(engine), *container_streams.routes(engine), *exec.routes(engine)]

    async def main() -> None:
        await reconcile(bench.room)
        async with tag(tmp_path, routes, containers=bench.room) as session, asyncio.timeout(20):
            await work(bench, session)
            await bench.room.live.settle()

    asyncio.run(main())
    return bench


class Hijacked:
    """A raw client that upgrades, as docker's does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.head = b""

    @classmethod
    async def open(cls, tmp_path: Path, path: str, body: bytes = b"", upgrade: bool = True) -> Hijacked:
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        made = cls(reader, writer)
        upgrading = "Connection: Upgrade\r\nUpgrade: tcp\r\n" if upgrade else ""
        kind = "Content-Type: application/json\r\n" if body else ""
        head = f"POST {path} HTTP/1.1\r\nHost: docker\r\n{upgrading}{kind}Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        made.head = await reader.readuntil(b"\r\n\r\n")
        return made

    async def rest(self) -> bytes:
        found = await self.reader.read()
        self.writer.close()
        return found

    async def streams(self) -> dict[int, bytes]:
        """Everything until the end, by stream."""
        found: dict[int, bytes] = {}
        for stream, data in Demultiplexer().feed(await self.rest()):
            found[stream] = found.get(stream, b"") + data
        return found


async def make(session: aiohttp.ClientSession, name: str = "", **fields: Any) -> str:
    answer = await session.post(f"/containers/create?name={name}", json={"Image": "busybox", **fields})
    assert answer.status == 201, await answer.text()
    found: str = (await answer.json())["Id"]
    return found


def test_a_containers_life_has_dockers_status_codes(tmp_path: Path) -> None:
    async def work(bench: Bench, session: aiohttp.ClientSession) -> None:
        container_id = await make(session, "web", Cmd=["sleep"], Labels={"a": "b"})
        assert (await session.post("/containers/web/start")).status == 204
        assert (await session.post("/containers/web/start")).status == 304
        assert (await session.delete("/containers/web")).status == 409
        listed = await (await session.get("/containers/json")).json()
        assert [(entry["Id"], entry["State"], entry["Names"]) for entry in listed] == [
            (container_id, "running", ["/web"])
        ]
        bench.tasks.on_signal = lambda found, signal: bench.tasks.finish(found, 143)
        assert (await session.post("/containers/web/stop")).status == 204
        assert (await session.post("/containers/web/stop")).status == 304
        assert (await session.post("/containers/web/kill")).status == 409
        waited = await session.post("/containers/web/wait")
        assert (waited.status, await waited.json()) == (200, {"StatusCode": 143})
        assert await (await session.get("/containers/json")).json() == []
        assert (await session.delete("/containers/web")).status == 204
        gone = await session.get("/containers/web/json")
        assert (gone.status, await gone.json()) == (404, {"message": "No such container: web"})

    check(tmp_path, work)


def test_bad_requests_are_400_with_a_message(tmp_path: Path) -> None:
    async def work(bench: Bench, session: aiohttp.ClientSession) -> None:
        cases: list[tuple[dict[str, Any], str]] = [
            ({"Image": "busybox", "Entrypoint": [""]}, "no command specified"),
            ({"Image": "busybox", "Cmd": 5}, "invalid JSON"),
            ({"Image": "busybox", "HostConfig": {"Memory": 1024}}, "Minimum memory limit allowed is 6MB"),
            ({"Image": "busybox", "HostConfig": {"Binds": ["a:b"]}}, "mount path must be absolute"),
            ({"Image": "busybox", "WorkingDir": "x"}, "it needs to be an absolute path"),
        ]
        for body, message in cases:
            answer = await session.post("/containers/create", json=body)
            assert answer.status == 400 and message in (await answer.json())["message"]
        assert (await session.post("/containers/create", json={"Image": "nope"})).status == 404
        broken = await session.post("/containers/create", data=b"{", headers={"Content-Type": "application/json"})
        assert broken.status == 400

    check(tmp_path, work)


def test_inspect_has_dockers_shape(tmp_path: Path) -> None:
    async def work(bench: Bench, session: aiohttp.ClientSession) -> None:
        container_id = await make(session, "web", Cmd=["sleep", "1"], Volumes={"/data": {}}, Env=["A=1"])
        found = await (await session.get("/containers/web/json")).json()
        assert (found["Id"], found["Name"], found["Path"], found["Args"]) == (container_id, "/web", "sleep", ["1"])
        assert found["State"]["Status"] == "created"
        assert found["State"]["StartedAt"] == "0001-01-01T00:00:00Z"
        assert found["Config"]["Env"] == ["A=1", "PATH=/bin"] and found["Config"]["Hostname"] == container_id[:12]
        assert found["HostConfig"]["NetworkMode"] == "bridge" and found["HostConfig"]["CapAdd"] is None
        assert found["HostConfig"]["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
        assert found["Mounts"][0]["Destination"] == "/data" and found["Mounts"][0]["Type"] == "volume"
        assert "Healthcheck" not in found["Config"] and found["Config"]["OnBuild"] is None

    check(tmp_path, work)


def test_the_head_of_wait_goes_out_before_the_container_starts(tmp_path: Path) -> None:
    async def work(bench: Bench, session: aiohttp.ClientSession) -> None:
        container_id = await make(session, "web")
        answer = await session.post("/containers/web/wait?condition=next-exit")
        assert answer.status == 200
        await session.post("/containers/web/start")
        bench.tasks.finish(container_id, 8)
        assert await answer.json() == {"StatusCode": 8}

    check(tmp_path, work)


def test_attach_carries_both_streams_and_the_input_over_one_connection(tmp_path: Path) -> None:
    async def work(bench: Bench, session: aiohttp.ClientSession) -> None:
        container_id = await make(session, "web", OpenStdin=True, StdinOnce=True)
        client = await Hijacked.open(tmp_path, "/containers/web/attach?stream=1&stdin=1&stdout=1&stderr=1")
        assert client.head.startswith(b"HTTP/1.1 101 UPGRADED\r\n")
        assert b"application/vnd.docker.multiplexed-stream" in client.head
        await session.post("/containers/web/start")
        client.writer.write(b"question")
        client.writer.write_eof()
        process = bench.tasks.processes[container_id, ""]
        while not process.stdin_closed:
            await asyncio.sleep(0)
        assert process.stdin is not None and os.read(process.stdin[0], 100) == b"question"
        # The client half-closed long ago: the answer must reach it all the same.
        bench.tasks.write(container_id, b"answer")
        bench.tasks.write(container_id, b"complaint", stderr=True)
        bench.tasks.finish(container_id)
        assert await client.streams() == {1: b"answer", 2: b"complaint"}

    check(tmp_path, work)


def test_a_large_output_to_a_slow_client_arrives_whole(tmp_path: Path) -> None:
    async def work(bench: Bench, session: aiohttp.ClientSession) -> None:
        container_id = await make(session, "web")
        client = await Hijacked.open(tmp_path, "/containers/web/attach?stream=1&stdout=1")
        await session.post("/containers/web/start")
        sent = os.urandom(1 << 20)

        def produce() -> None:
            for at in range(0, len(sent), 4096):
                bench.tasks.write(container_id, sent[at : at + 4096])

        producing = asyncio.ensure_future(asyncio.to_thread(produce))
        received = asyncio.ensure_future(client.streams())
        await producing
        bench.tasks.finish(container_id)
        assert (await received)[1] == sent

    check(tmp_path, work)


def test_the_end_of_input_ends_an_attach_whose_container_keeps_its_stdin(tmp_path: Path) -> None:
    async def work(bench: Bench, session: aiohttp.ClientSession) -> None:
        container_id = await make(session, "web", OpenStdin=True)
        await session.post("/containers/web/start")
        client = await Hijacked.open(tmp_path, "/containers/web/attach?stream=1&stdin=1&stdout=1")
        client.writer.write_eof()
        assert await client.rest() == b""
        assert not bench.tasks.processes[container_id, ""].stdin_closed

    check(tmp_path, work)


def test_detach_keys_leave_a_terminal_running(tmp_path: Path) -> None:
    async def work(bench: Bench, session: aiohttp.ClientSession) -> None:
        container_id = await make(session, "web", OpenStdin=True, Tty=True)
        await session.post("/containers/web/start")
        client = await Hijacked.open(tmp_path, "/containers/web/attach?stream=1&stdin=1&stdout=1&detachKeys=a,b")
        assert b"application/vnd.docker.raw-stream" in client.head
        client.writer.write(b"ab")
        assert await client.rest() == b""
        assert bench.room.store.get(container_id).status == "running"

    assert "detach" in check(tmp_path, work).events.actions()


def test_a_client_that_goes_away_leaves_no_fd_behind(tmp_path: Path) -> None:
    async def work(bench: Bench, session: aiohttp.ClientSession) -> None:
        container_id = await make(session, "web")
        await session.post("/containers/web/start")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            client = await Hijacked.open(tmp_path, "/containers/web/attach?stream=1&stdout=1&stderr=1")
            client.writer.close()
            await client.writer.wait_closed()
        # The keeper's ends, which break with the reader's.
        bench.tasks.processes[container_id, ""].close_output()
        while len(os.listdir("/proc/self/fd")) > before:
            await asyncio.sleep(0.01)

    check(tmp_path, work)


def test_an_exec_runs_over_a_hijacked_connection_and_its_code_is_there_at_the_end(tmp_path: Path) -> None:
    async def work(bench: Bench, session: aiohttp.ClientSession) -> None:
        container_id = await make(session, "web")
        await session.post("/containers/web/start")
        body = {"Cmd": ["id"], "AttachStdout": True, "AttachStderr": True}
        answer = await session.post("/containers/web/exec", json=body)
        assert answer.status == 201
        exec_id = (await answer.json())["Id"]
        client = await Hijacked.open(tmp_path, f"/exec/{exec_id}/start", json.dumps({"Detach": False}).encode())
        while (container_id, exec_id) not in bench.tasks.processes:
            await asyncio.sleep(0)
        bench.tasks.write(container_id, b"uid=0", exec_id=exec_id)
        bench.tasks.finish(container_id, 6, exec_id=exec_id)
        assert await client.streams() == {1: b"uid=0"}
        found = await (await session.get(f"/exec/{exec_id}/json")).json()
        assert (found["ID"], found["Running"], found["ExitCode"]) == (exec_id, False, 6)
        assert found["ProcessConfig"]["entrypoint"] == "id"

    check(tmp_path, work)


def test_an_exec_that_cannot_run_says_so_on_the_stream(tmp_path: Path) -> None:
    async def work(bench: Bench, session: aiohttp.ClientSession) -> None:
        await make(session, "web")
        await session.post("/containers/web/start")
        answer = await session.post("/containers/web/exec", json={"Cmd": ["x"], "AttachStdout": True})
        exec_id = (await answer.json())["Id"]
        bench.tasks.fail_exec = Error('exec: "x": executable file not found in $PATH')
        client = await Hijacked.open(tmp_path, f"/exec/{exec_id}/start", b"{}")
        assert b'"x": executable file not found in $PATH: unknown\r\n' in (await client.streams())[1]
        assert (await (await session.get(f"/exec/{exec_id}/json")).json())["ExitCode"] == 127

    check(tmp_path, work)


def test_logs_are_framed_without_a_terminal_and_raw_with_one(tmp_path: Path) -> None:
    async def work(bench: Bench, session: aiohttp.ClientSession) -> None:
        for name, tty in (("plain", False), ("terminal", True)):
            container_id = await make(session, name, Tty=tty)
            with open(bench.room.log_path(container_id), "w", encoding="utf-8") as file:
                for stream in ("stdout", "stderr"):
                    file.write(json.dumps({"log": f"{stream}\n", "stream": stream, "time": "2026-01-01T00:00:00Z"}))
                    file.write("\n")
        plain = await session.get("/containers/plain/logs?stdout=1&stderr=1")
        assert plain.headers["Content-Type"] == "application/vnd.docker.multiplexed-stream"
        assert Demultiplexer().feed(await plain.read()) == [(1, b"stdout\n"), (2, b"stderr\n")]
        raw = await session.get("/containers/terminal/logs?stdout=1&stderr=1&tail=1&timestamps=1")
        assert await raw.read() == b"2026-01-01T00:00:00.000000000Z stderr\n"
        assert (await session.get("/containers/plain/logs")).status == 400

    check(tmp_path, work)


def test_stats_and_top_and_update_answer(tmp_path: Path) -> None:
    async def work(bench: Bench, session: aiohttp.ClientSession) -> None:
        container_id = await make(session, "web")
        stopped = await (await session.get("/containers/web/stats?stream=0&one-shot=1")).json()
        assert stopped["read"] == "0001-01-01T00:00:00Z" and stopped["memory_stats"] == {}
        await session.post("/containers/web/start")
        found = await (await session.get("/containers/web/stats?stream=0&one-shot=1")).json()
        assert found["cpu_stats"]["cpu_usage"]["total_usage"] == 7 and found["memory_stats"]["limit"] == 9
        processes = await (await session.get("/containers/web/top?ps_args=-o pid,comm")).json()
        assert processes["Titles"] == ["PID", "COMMAND"] and len(processes["Processes"]) == 1
        answer = await session.post("/containers/web/update", json={"Memory": 1 << 26, "MemorySwap": -1})
        assert (answer.status, await answer.json()) == (200, {"Warnings": None})
        assert bench.tasks.resources[container_id] == {"memory": {"limit": 1 << 26, "swap": -1}}

    check(tmp_path, work)
