"""`services.Tasks`: one suite for every runtime behind the keeper: a fake without namespaces, ours, and runc."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest
from tests.conftest import leave_out
from tests.contract.keeper_bench import Bench, alive
from tests.peers import newer
from tests.peers.waiting import eventually

from sampan import errors
from sampan.containerd.services import RuntimeOptions, TaskIO

RUNTIMES = [
    "fake",
    pytest.param("sampan", marks=[pytest.mark.root, pytest.mark.needs("busybox")]),
    pytest.param("runc", marks=[pytest.mark.root, pytest.mark.needs("busybox", "runc")]),
]


@pytest.fixture(params=RUNTIMES)
def bench(request, tmp_path):
    runtime = request.param
    return Bench(tmp_path, shutil.which("runc") if runtime == "runc" else runtime)


def on(bench):
    """Runs an async test body on the bench."""

    def run(body):
        async def inside():
            async with bench:
                await body()

        asyncio.run(asyncio.wait_for(inside(), 20))

    return run


def test_a_task_runs_logs_and_tells_its_exit_status(bench):
    @on(bench)
    async def _():
        pid = await bench.create("c1", "echo out; echo err >&2; exit 42")
        assert alive(pid)
        assert [(s.container_id, s.pid, s.status) for s in await bench.tasks.list()] == [("c1", pid, "created")]
        client = await bench.attach("c1")
        await bench.tasks.start("c1")
        exit = await bench.exit_of("c1")
        assert (exit.pid, exit.status, exit.exec_id, exit.oom_killed) == (pid, 42, "", False)
        assert await client.all() == (b"out\n", b"err\n")
        assert sorted(bench.log("c1").splitlines()) == ["err", "out"], "the log is complete when the exit is told"
        (state,) = await bench.tasks.list()
        assert (state.status, state.exit) == ("stopped", exit)
        assert await bench.tasks.delete("c1") == exit
        assert await bench.tasks.list() == []


def test_a_signal_s_status_is_128_and_its_number(bench):
    @on(bench)
    async def _():
        await bench.run("c1", "sleep 1000")
        await bench.tasks.kill("c1", signal.SIGKILL, all=True)
        assert (await bench.exit_of("c1")).status == 137
        with pytest.raises(errors.Conflict):
            await bench.tasks.kill("c1", signal.SIGTERM)


def test_a_trapped_signal_reaches_the_process(bench):
    @on(bench)
    async def _():
        await bench.create("c1", "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
        client = await bench.attach("c1")
        await bench.tasks.start("c1")
        await client.until(b"ready")
        await bench.tasks.kill("c1", signal.SIGTERM)
        assert (await bench.exit_of("c1")).status == 5
        assert bench.log("c1").endswith("caught\n")


def test_a_name_is_taken_until_it_is_deleted(bench):
    @on(bench)
    async def _():
        await bench.run("c1", "exit 0")
        await bench.exit_of("c1")
        with pytest.raises(errors.AlreadyExists):
            await bench.create("c1", "exit 1")
        await bench.tasks.delete("c1")
        await bench.run("c1", "exit 2")
        assert (await bench.exit_of("c1")).status == 2


def test_verbs_that_do_not_fit_the_status_are_conflicts(bench):
    @on(bench)
    async def _():
        await bench.run("c1", "sleep 1000")
        for refused in (bench.tasks.start("c1"), bench.tasks.delete("c1"), bench.tasks.resume("c1")):
            with pytest.raises(errors.Conflict):
                await refused


def test_verbs_on_an_unknown_task_are_not_found(bench):
    @on(bench)
    async def _():
        for refused in (bench.tasks.start("no"), bench.tasks.delete("no"), bench.tasks.kill("no", 9)):
            with pytest.raises(errors.NotFound):
                await refused


def test_deleting_a_task_that_never_started_ends_it_without_an_exit_notice(bench):
    @on(bench)
    async def _():
        pid = await bench.create("c1", "echo never")
        exit = await bench.tasks.delete("c1")
        assert exit.status == 137
        assert not alive(pid)
        assert await bench.tasks.list() == []
        assert bench.unheard() == []


def test_a_create_that_is_given_up_is_undone(bench):
    @on(bench)
    async def _():
        await bench.run("c0", "exec sleep 1000")
        making = asyncio.ensure_future(bench.create("c1", "true"))
        while "c1" not in bench.tasks._owner:
            await asyncio.sleep(0)
        making.cancel()
        with pytest.raises(asyncio.CancelledError):
            await making
        assert [state.container_id for state in await bench.tasks.list()] == ["c0"]
        await bench.run("c1", "exit 4")
        assert (await bench.exit_of("c1")).status == 4


def test_a_program_that_is_not_there_is_the_start_s_error_or_the_create_s(bench):
    @on(bench)
    async def _():
        with pytest.raises(errors.Error, match='exec: "no-such-program"'):
            await bench.run("c1", "", args=["no-such-program"])
        for state in await bench.tasks.list():
            assert state.status == "stopped"
        assert bench.unheard() == []


def test_a_logging_program_gets_both_streams_and_is_told_whose_they_are(bench, tmp_path):
    program = tmp_path / "logger"
    program.write_text(
        '#!/bin/sh\nexec >>"$2"\necho "$CONTAINER_ID $CONTAINER_NAMESPACE $1"\nexec 5>&-\n'
        "/bin/cat <&3\n/bin/cat <&4\necho end\n"
    )
    program.chmod(0o755)
    logged = tmp_path / "logged"

    @on(bench)
    async def _():
        await bench.create("c1", "echo out; echo err >&2")
        uri = f"binary://{program}?to={logged}"
        await bench.tasks.attach_logger("c1", "", uri, name="mine", namespace="ns")
        assert logged.read_text() == "mine ns to\n", "it was ready before the call was answered"
        await bench.tasks.start("c1")
        await bench.exit_of("c1")
        while not logged.read_text().endswith("end\n"):
            await asyncio.sleep(0.01)
        assert logged.read_text() == "mine ns to\nout\nerr\nend\n"
        with pytest.raises(errors.Error, match="no such file"):
            await bench.create("c2", "true")
            await bench.tasks.attach_logger("c2", "", "binary:///none", name="c2", namespace="ns")


def test_the_runtime_knows_a_task_by_the_name_and_root_that_the_client_chose(bench, tmp_path):
    if bench.runtime == "fake":
        pytest.skip("the fake has no root")

    @on(bench)
    async def _():
        bundle = bench.bundle("c1", "exec sleep 1000")
        options = RuntimeOptions(name="mine", root=str(tmp_path / "chosen"), no_new_keyring=True)
        await bench.tasks.create(
            "c1", bundle=bundle, rootfs=bench.rootfs("c1"), io=TaskIO(terminal=False, stdin=False),
            runtime="" if bench.runtime == "sampan" else bench.runtime, options=options,
        )  # fmt: skip
        await bench.tasks.start("c1")
        assert [entry.name for entry in (tmp_path / "chosen").iterdir()] == ["mine"]
        await bench.tasks.kill("c1", 9)
        assert (await bench.exit_of("c1")).container_id == "c1"
        await bench.tasks.delete("c1")
        assert list((tmp_path / "chosen").iterdir()) == []


def test_input_reaches_the_process_and_its_end_too(bench):
    @on(bench)
    async def _():
        await bench.create("c1", "cat; echo done", stdin=True, stdin_once=True)
        client = await bench.attach("c1", stdin=True)
        await bench.tasks.start("c1")
        client.write(b"hello\n")
        await client.until(b"hello\n")
        client.close_stdin()
        assert (await client.all())[0] == b"done\n"
        assert (await bench.exit_of("c1")).status == 0


def test_input_that_is_not_once_ends_only_when_it_is_closed(bench):
    @on(bench)
    async def _():
        await bench.create("c1", "cat", stdin=True)
        first = await bench.attach("c1", stdin=True)
        await bench.tasks.start("c1")
        first.write(b"one\n")
        await first.until(b"one\n")
        first.close_stdin()
        second = await bench.attach("c1", stdin=True)
        second.write(b"two\n")
        await second.until(b"two\n")
        second.close_stdin()
        await bench.tasks.close_stdin("c1")
        assert (await bench.exit_of("c1")).status == 0


def test_a_terminal_has_the_size_asked_for_and_follows_a_resize(bench):
    @on(bench)
    async def _():
        script = "stty size; read x; stty size; exit 4"
        await bench.create("c1", script, terminal=True, stdin=True, console_size=(33, 99))
        client = await bench.attach("c1", stdin=True, stderr=False)
        await bench.tasks.start("c1")
        await client.until(b"33 99\r\n")
        await bench.tasks.resize("c1", "", 44, 120)
        client.write(b"go\n")
        await client.until(b"44 120\r\n")
        assert (await bench.exit_of("c1")).status == 4
        assert "44 120\r\n" in bench.log("c1")


def test_an_exec_has_streams_and_a_status_of_its_own(bench):
    @on(bench)
    async def _():
        await bench.run("c1", "sleep 1000")
        client = await bench.attach("c1", "e1", stdin=True)
        pid = await bench.exec("c1", "e1", "read x; echo got $x; echo bad >&2; exit 7", stdin=True)
        assert (await bench.tasks.list())[0].execs == ("e1",)
        client.write(b"word\n")
        exit = await bench.exit_of("c1", "e1")
        assert (exit.pid, exit.status) == (pid, 7)
        assert await client.all() == (b"got word\n", b"bad\n")
        assert (await bench.tasks.list())[0].execs == ()
        assert bench.log("c1") == "", "an exec's output is not the container's"


def test_an_exec_with_a_terminal_gets_what_was_typed_before_it_ran(bench):
    @on(bench)
    async def _():
        await bench.run("c1", "sleep 1000")
        client = await bench.attach("c1", "e1", stdin=True, stderr=False)
        client.write(b"early\n")
        await bench.exec("c1", "e1", "read x; echo got $x; stty size", terminal=True, stdin=True, console_size=(20, 70))
        assert b"got early\r\n20 70\r\n" in (await client.all())[0]
        assert (await bench.exit_of("c1", "e1")).status == 0


def test_an_exec_s_input_ends_with_its_client_s(bench):
    @on(bench)
    async def _():
        await bench.run("c1", "sleep 1000")
        client = await bench.attach("c1", "e1", stdin=True)
        await bench.exec("c1", "e1", "cat", stdin=True)
        client.write(b"all of it")
        client.close_stdin()
        assert await client.all() == (b"all of it", b"")


def test_an_exec_of_a_program_that_is_not_there_says_so_and_leaves_nothing(bench):
    @on(bench)
    async def _():
        await bench.run("c1", "sleep 1000")
        client = await bench.attach("c1", "e1")
        process = bench.process("", args=["no-such-program"])
        from sampan.containerd.services import TaskIO

        with pytest.raises(errors.Error, match='exec: "no-such-program"'):
            await bench.tasks.exec("c1", "e1", process=process, io=TaskIO(False, False))
        assert await client.all() == (b"", b"")
        assert (await bench.tasks.list())[0].execs == ()
        assert bench.unheard() == []
        await bench.exec("c1", "e1", "exit 1")
        assert (await bench.exit_of("c1", "e1")).status == 1


def test_an_exec_can_be_killed_alone(bench):
    @on(bench)
    async def _():
        await bench.run("c1", "sleep 1000")
        await bench.exec("c1", "e1", "exec sleep 1000")
        await bench.tasks.kill("c1", signal.SIGKILL, "e1")
        assert (await bench.exit_of("c1", "e1")).status == 137
        assert (await bench.tasks.list())[0].status == "running"


def test_many_quick_execs_each_tell_their_own_status(bench):
    @on(bench)
    async def _():
        await bench.run("c1", "sleep 1000")
        await asyncio.gather(*(bench.exec("c1", f"e{n}", f"exit {n}") for n in range(8)))
        assert [(await bench.exit_of("c1", f"e{n}")).status for n in range(8)] == list(range(8))


def test_a_paused_task_does_nothing_until_it_is_resumed(bench):
    @on(bench)
    async def _():
        await bench.create("c1", "echo begin; while :; do sleep 0.02; echo tick; done")
        client = await bench.attach("c1")
        await bench.tasks.start("c1")
        await client.until(b"tick")
        await bench.tasks.pause("c1")
        assert (await bench.tasks.list())[0].status == "paused"
        with pytest.raises(errors.Conflict):
            await bench.exec("c1", "e1", "true")
        while True:  # what was under way when it stopped
            before = bench.log("c1")
            await asyncio.sleep(0.2)
            if bench.log("c1") == before:
                break
        await bench.tasks.resume("c1")
        await client.until(b"tick")


def test_a_checkpoint_may_leave_the_task_running_or_end_it(bench, monkeypatch, tmp_path):
    if bench.runtime != "fake" and newer.command("criu") is None:
        leave_out("needs criu (scripts/peers unpacks it from Debian sid)")
    monkeypatch.setenv("PATH", newer.environment("criu")["PATH"])

    @on(bench)
    async def _():
        await bench.run("c1", "while :; do sleep 0.02; done")
        await bench.tasks.checkpoint("c1", f"{tmp_path}/first", flags=["--leave-running"])
        assert os.path.isdir(f"{tmp_path}/first")
        assert (await bench.tasks.list())[0].status == "running"
        await bench.tasks.checkpoint("c1", f"{tmp_path}/second", flags=[])
        assert (await bench.exit_of("c1")).status == 137
        with pytest.raises(errors.Conflict):
            await bench.tasks.checkpoint("c1", f"{tmp_path}/third")
        assert not os.path.exists(f"{tmp_path}/third")
        await bench.tasks.delete("c1")


def test_a_task_made_from_a_checkpoint_goes_on_from_it(bench, monkeypatch, tmp_path):
    if bench.runtime == "fake":
        pytest.skip("a process group has no checkpoint")
    if newer.command("criu") is None:
        leave_out("needs criu (scripts/peers unpacks it from Debian sid)")
    monkeypatch.setenv("PATH", newer.environment("criu")["PATH"])

    @on(bench)
    async def _():
        await bench.create("c1", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done")
        client = await bench.attach("c1")
        await bench.tasks.start("c1")
        await client.until(b"\n9\n")
        await bench.tasks.checkpoint("c1", f"{tmp_path}/images")
        await bench.exit_of("c1")
        last = int((await client.all())[0].split()[-1])
        await bench.tasks.delete("c1")
        assert await bench.create("c1", "", checkpoint=f"{tmp_path}/images") == 0
        with pytest.raises(errors.Conflict):
            await bench.tasks.kill("c1", 9)
        client = await bench.attach("c1")
        pid = await bench.tasks.start("c1")
        assert alive(pid)
        assert [(s.pid, s.status) for s in await bench.tasks.list()] == [(pid, "running")]
        await client.until(b"\n%d\n" % (last + 3))
        await bench.exec("c1", "e1", "exit 3")
        assert (await bench.exit_of("c1", "e1")).status == 3
        await bench.tasks.kill("c1", 9)
        assert (await bench.exit_of("c1")).pid == pid
        await bench.tasks.delete("c1")
        await bench.create("c2", "", checkpoint=f"{tmp_path}/none")
        await bench.tasks.delete("c2")  # before anything was restored
        await bench.create("c2", "", checkpoint=f"{tmp_path}/none")
        with pytest.raises(errors.Error, match=r"descriptors\.json: no such file or directory"):
            await bench.tasks.start("c2")
        assert [s.status for s in await bench.tasks.list()] == ["stopped"]
        await bench.tasks.delete("c2")


def test_the_processes_of_a_task_are_listed(bench):
    @on(bench)
    async def _():
        pid = await bench.run("c1", "sleep 1000 & sleep 1000 & wait")

        async def all_three():
            while len(await bench.tasks.pids("c1")) < 3:
                await asyncio.sleep(0.02)

        await asyncio.wait_for(all_three(), 10)
        assert pid in await bench.tasks.pids("c1")
        assert (await bench.tasks.stats("c1"))["pids"]["current"] == 3


def test_much_output_is_all_in_the_log_when_the_exit_is_told(bench):
    @on(bench)
    async def _():
        await bench.run("c1", "yes 0123456789 | head -n 200000")
        await bench.exit_of("c1")
        assert bench.log("c1") == "0123456789\n" * 200_000


def test_many_tasks_at_once_do_not_mix(bench):
    @on(bench)
    async def _():
        async def one(name, number):
            await bench.run(name, f"echo {name}; exit {number}")

        await asyncio.gather(*(one(f"c{number}", number) for number in range(12)))
        for number in range(12):
            assert (await bench.exit_of(f"c{number}")).status == number
            assert bench.log(f"c{number}") == f"c{number}\n"


def test_a_restarted_sampand_finds_its_tasks_and_their_exits(bench):
    @on(bench)
    async def _():
        pid = await bench.run("c1", "echo before; read x; echo after; exit 9", stdin=True)
        await bench.run("c2", "exec sleep 1000")
        client = await bench.attach("c1", stdin=True)
        await bench.tasks.close()
        client.write(b"\n")
        eventually(lambda: not alive(pid))
        bench.tasks = bench.client()
        await bench.tasks.open()
        states = {state.container_id: state for state in await bench.tasks.list()}
        assert states["c1"].exit is not None and states["c1"].exit.status == 9
        assert states["c2"].status == "running"
        assert bench.log("c1") == "before\nafter\n"
        await bench.tasks.kill("c2", signal.SIGKILL)
        assert (await bench.exit_of("c2")).status == 137


def test_a_killed_keeper_s_tasks_are_ended_and_told_as_killed(bench):
    @on(bench)
    async def _():
        pid = await bench.run("c1", "exec sleep 1000")
        await bench.exec("c1", "e1", "exec sleep 1000")
        await bench.create("c2", "exec sleep 1000")
        old = bench.keeper_pid()
        os.kill(old, signal.SIGKILL)
        assert (await bench.exit_of("c1")).status == 137
        assert (await bench.exit_of("c1", "e1")).status == 137
        assert (await bench.exit_of("c2")).status == 137
        assert not alive(pid)
        assert bench.keeper_pid() != old
        assert {s.container_id: s.status for s in await bench.tasks.list()} == {"c1": "stopped", "c2": "stopped"}
        assert (await bench.tasks.delete("c1")).status == 137
        await bench.run("c1", "exit 3")
        assert (await bench.exit_of("c1")).status == 3


def test_a_keeper_killed_while_sampand_was_away_is_buried_by_the_next(bench):
    @on(bench)
    async def _():
        pid = await bench.run("c1", "exec sleep 1000")
        await bench.run("c2", "exit 6")
        await bench.exit_of("c2")
        await bench.tasks.close()
        os.kill(bench.keeper_pid(), signal.SIGKILL)
        bench.tasks = bench.client()
        await bench.tasks.open()
        states = {state.container_id: state for state in await bench.tasks.list()}
        assert {name: state.exit.status for name, state in states.items()} == {"c1": 137, "c2": 6}
        assert not alive(pid)


def test_one_keeper_serves_all_unless_a_bound_is_set(bench):
    @on(bench)
    async def _():
        await bench.create("c1", "true")
        await bench.create("c2", "true")
        assert os.listdir(Path(bench.state, "keeper")) == ["0"]


@pytest.mark.parametrize(("bound", "keepers"), [(1, 3), (2, 2)])
def test_a_bound_on_containers_makes_more_keepers_and_lets_them_go(tmp_path, bound, keepers):
    bench = Bench(tmp_path, "fake", per_keeper=bound)

    @on(bench)
    async def _():
        for name in ("c1", "c2", "c3"):
            await bench.run(name, "exec sleep 1000")
        directory = Path(bench.state, "keeper")
        assert len(os.listdir(directory)) == keepers
        for name in ("c1", "c2", "c3"):
            await bench.tasks.kill(name, signal.SIGKILL)
            await bench.exit_of(name)
            await bench.tasks.delete(name)
        eventually(lambda: not list(directory.glob("*/sock")))
