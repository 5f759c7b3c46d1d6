"""attach, exec and logs as verbs: what a client's streams carry, over fakes."""

from __future__ import annotations

import asyncio
import os

import pytest
from tests.unit.engine.containers.rooms import Bench, run

from sampan.api.docker.containers import ExecCreateRequest
from sampan.engine.containers import attach, exec, logs, start
from sampan.engine.logging.jsonfile import Selection
from sampan.errors import Conflict, Error, InvalidArgument, NotFound, Unimplemented


async def read(fd: int) -> bytes:
    """Everything up to the end of the pipe."""
    os.set_blocking(fd, True)
    found = await asyncio.to_thread(_read_all, fd)
    os.close(fd)
    return found


def _read_all(fd: int) -> bytes:
    found = b""
    while data := os.read(fd, 4096):
        found += data
    return found


def test_streams_attached_before_the_start_miss_nothing(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make(open_stdin=True, stdin_once=True)
        streams = await attach.attach(bench.room, container_id, stdin=True, stdout=True, stderr=True)

        def speak(found: str) -> None:
            bench.tasks.write(found, b"out")
            bench.tasks.write(found, b"err", stderr=True)

        bench.tasks.on_start = speak
        await start.start(bench.room, container_id)
        assert streams.stdin is not None
        stdin = await streams.stdin
        assert stdin is not None
        os.write(stdin, b"in")
        process = bench.tasks.processes[container_id, ""]
        assert process.stdin is not None and os.read(process.stdin[0], 10) == b"in"
        os.close(stdin)
        bench.tasks.finish(container_id)
        assert streams.stdout is not None and streams.stderr is not None
        assert (await read(streams.stdout), await read(streams.stderr)) == (b"out", b"err")

    assert "attach" in run(work, tmp_path).events.actions()


def test_a_terminal_has_one_output(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make(tty=True)
        streams = await attach.attach(bench.room, container_id, stdin=False, stdout=True, stderr=True)
        assert streams.tty and streams.stderr is None and streams.stdout is not None
        bench.room.live.of(container_id).attachments[0].fail(Error("over"))
        streams.close()

    run(work, tmp_path)


def test_streams_of_a_start_that_fails_end(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make(open_stdin=True)
        streams = await attach.attach(bench.room, container_id, stdin=True, stdout=True, stderr=False)
        bench.tasks.fail_create = Error("no")
        with pytest.raises(Error):
            await start.start(bench.room, container_id)
        assert streams.stdout is not None and await read(streams.stdout) == b""
        with pytest.raises(Error, match="did not start"):
            await streams.stdin

    run(work, tmp_path)


def test_attach_to_a_paused_container_is_a_conflict(tmp_path):
    async def work(bench: Bench) -> None:
        from sampan.engine.containers import pause

        container_id = await bench.make()
        await start.start(bench.room, container_id)
        await pause.pause(bench.room, container_id)
        with pytest.raises(Conflict, match="is paused, unpause the container before attach"):
            await attach.attach(bench.room, container_id, stdin=False, stdout=True, stderr=True)
        with pytest.raises(Conflict, match="is paused, unpause the container before exec"):
            exec.create(bench.room, container_id, ExecCreateRequest(cmd=["true"]))

    run(work, tmp_path)


def test_an_exec_runs_with_the_containers_environment_and_its_own_user(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make(env=["A=1"], working_dir="/w")
        await start.start(bench.room, container_id)
        request = ExecCreateRequest(cmd=["id", "-u"], user="bob", env=["B=2"], attach_stdout=True)
        exec_id = exec.create(bench.room, container_id, request)
        streams, task = await exec.start(bench.room, exec_id, attach=True)
        await task
        process = bench.tasks.processes[container_id, exec_id].process
        assert process is not None and streams is not None and streams.stdout is not None
        assert (process["args"], process["cwd"], process["user"]["uid"]) == (["id", "-u"], "/w", 7)
        assert {"A=1", "B=2", "HOME=/home/bob"} <= set(process["env"])
        assert exec.inspect(bench.room, exec_id).running
        bench.tasks.write(container_id, b"7\n", exec_id=exec_id)
        bench.tasks.finish(container_id, 4, exec_id=exec_id)
        assert await read(streams.stdout) == b"7\n"
        found = exec.inspect(bench.room, exec_id)
        assert (found.running, found.exit_code) == (False, 4)
        with pytest.raises(Conflict, match="exec command has already run"):
            await exec.start(bench.room, exec_id, attach=False)

    bench = run(work, tmp_path)
    assert bench.events.actions()[-3:] == ["exec_create: id -u", "exec_start: id -u", "exec_die"]


@pytest.mark.parametrize(
    ("text", "code"),
    [('exec: "x": executable file not found in $PATH', 127), ('exec: "/etc": permission denied', 126), ("odd", 126)],
)
def test_an_exec_that_cannot_run_says_why_and_has_dockers_exit_code(tmp_path, text, code):
    async def work(bench: Bench) -> None:
        container_id = await bench.make()
        await start.start(bench.room, container_id)
        exec_id = exec.create(bench.room, container_id, ExecCreateRequest(cmd=["x"], attach_stdout=True))
        bench.tasks.fail_exec = Error(text)
        streams, task = await exec.start(bench.room, exec_id, attach=True)
        with pytest.raises(Error) as caught:
            await task
        assert str(caught.value).startswith("OCI runtime exec failed: exec failed: ") and text in str(caught.value)
        assert exec.inspect(bench.room, exec_id).exit_code == code
        assert streams is not None and streams.stdout is not None and await read(streams.stdout) == b""

    run(work, tmp_path)


def test_an_exec_needs_a_command_a_running_container_and_an_id_that_is_known(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make()
        with pytest.raises(InvalidArgument, match="No exec command specified"):
            exec.create(bench.room, container_id, ExecCreateRequest())
        with pytest.raises(Conflict, match=f"container {container_id} is not running"):
            exec.create(bench.room, container_id, ExecCreateRequest(cmd=["true"]))
        with pytest.raises(NotFound, match="No such exec instance: abc"):
            exec.inspect(bench.room, "abc")

    run(work, tmp_path)


def _log(bench: Bench, container_id: str, *texts: str) -> None:
    with open(bench.room.log_path(container_id), "a", encoding="utf-8") as file:
        for number, text in enumerate(texts):
            file.write(f'{{"log":"{text}\\n","stream":"stdout","time":"2026-01-01T00:00:0{number}.5Z"}}\n')
            file.flush()


def test_following_logs_gives_the_past_then_the_present_and_ends_with_the_run(tmp_path):
    async def work(bench: Bench) -> None:
        container_id = await bench.make()
        await start.start(bench.room, container_id)
        _log(bench, container_id, "past")
        seen: list[str] = []
        async for batch in logs.logs(bench.room, container_id, Selection(), follow=True):
            seen += [entry.text for entry in batch]
            if seen == ["past\n"]:
                _log(bench, container_id, "present")
            elif len(seen) == 2:
                _log(bench, container_id, "last")
                bench.tasks.finish(container_id)
        assert seen == ["past\n", "present\n", "last\n"]

    run(work, tmp_path)


def test_a_log_that_is_not_kept_cannot_be_read(tmp_path):
    async def work(bench: Bench) -> None:
        from sampan.api.docker.containers import LogConfig

        container_id = await bench.make(host={"log_config": LogConfig(type="none")})
        with pytest.raises(Unimplemented, match="configured logging driver does not support reading"):
            logs.check(bench.room, container_id, Selection())
        with pytest.raises(InvalidArgument, match="you must choose at least one stream"):
            logs.check(bench.room, container_id, Selection(stdout=False, stderr=False))

    run(work, tmp_path)


def test_a_rendered_line_has_docker_s_time_and_details():
    from sampan.engine.logging.jsonfile import parse

    entry = parse(b'{"log":"x\\n","stream":"stdout","time":"2026-01-01T00:00:00.5Z","attrs":{"k":"v w"}}')
    assert entry is not None
    assert logs.render(entry, True, False) == b"2026-01-01T00:00:00.500000000Z x\n"
    assert logs.render(entry, False, True) == b"k=v%20w x\n"
