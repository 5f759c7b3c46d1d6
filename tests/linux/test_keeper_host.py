"""The keeper on a real kernel: what it leaves behind, what a container can reach of it, what survives a kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.contract.keeper_bench import Bench, alive
from tests.peers.waiting import eventually

from sampan import errors
from sampan.containerd.services import LogTarget, Mount, TaskIO

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]


def on(tmp_path, **options):
    """Runs an async test body with a bench of our own runtime."""

    def run(body):
        async def inside():
            async with Bench(tmp_path, "sampan", **options) as bench:
                await body(bench)

        asyncio.run(asyncio.wait_for(inside(), 60))

    return run


def cgroups_of(name: str) -> list[str]:
    found = []
    for tree in os.listdir("/sys/fs/cgroup"):
        top = f"/sys/fs/cgroup/{tree}/sampan-bench-{os.getpid()}"
        if os.path.isdir(f"{top}/{name}"):
            found.append(f"{top}/{name}")
    return found


def traces(bench: Bench) -> dict[str, object]:
    """What a container may leave on the host."""
    pid = bench.keeper_pid()
    return {
        "mounts": Path("/proc/self/mountinfo").read_text().count(str(bench.directory)),
        "keeper's mounts": Path(f"/proc/{pid}/mountinfo").read_text().count(str(bench.directory)),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "records": os.listdir(f"{bench.state}/keeper/0/tasks"),
        "runtime": os.listdir(f"{bench.state}/runtime") if os.path.isdir(f"{bench.state}/runtime") else [],
        "cgroups": cgroups_of("c1"),
        "children": Path(f"/proc/{pid}/task/{pid}/children").read_text().split(),
    }


async def settled(bench: Bench) -> dict[str, object]:
    """A first container warms what is made once."""
    await bench.run("c0", "true")
    await bench.exit_of("c0")
    await bench.tasks.delete("c0")
    return traces(bench)


def test_a_deleted_container_leaves_nothing_on_the_host(tmp_path):
    @on(tmp_path)
    async def _(bench):
        before = await settled(bench)
        await bench.create("c1", "cat; sleep 1000 & exit 3", stdin=True, stdin_once=True)
        assert cgroups_of("c1")
        client = await bench.attach("c1", stdin=True)
        await bench.tasks.start("c1")
        await bench.exec("c1", "e1", "true")
        await bench.exit_of("c1", "e1")
        client.close_stdin()
        await bench.exit_of("c1")
        await client.all()
        await bench.tasks.delete("c1")
        eventually(lambda: traces(bench) == before, what=f"{traces(bench)} != {before}")


@pytest.mark.parametrize(
    "break_it",
    [
        {"process": {"args": ["no-such-program"]}},
        {"process": {"cwd": "relative"}},
        {"mounts": [{"destination": "/data", "type": "bind", "source": "/no/such/source", "options": ["bind"]}]},
        {"rootfs": [Mount("overlay", "overlay", ["lowerdir=/no/such/lower"])]},
        {"log": "/no/such/directory/log"},
    ],
    ids=["program", "cwd", "mount source", "lower layer", "log"],
)
def test_a_create_that_fails_leaves_nothing_on_the_host(tmp_path, break_it):
    @on(tmp_path)
    async def _(bench):
        before = await settled(bench)
        spec = {key: value for key, value in break_it.items() if key == "mounts"}
        bundle = bench.bundle("c1", "true", spec, **break_it.get("process", {}))
        rootfs = break_it.get("rootfs") or bench.rootfs("c1")
        log = LogTarget(break_it.get("log", str(tmp_path / "c1.log")))
        with pytest.raises(errors.Error):
            await bench.tasks.create("c1", bundle=bundle, rootfs=rootfs, io=TaskIO(False, False, log=log))
        eventually(lambda: traces(bench) == before, what=f"{traces(bench)} != {before}")
        await bench.run("c1", "exit 5")
        assert (await bench.exit_of("c1")).status == 5


def test_the_interpreter_cannot_be_written_through_a_process_of_the_keeper(tmp_path):
    """CVE-2019-5736: not merely busy, which passes when the keeper ends, but seen through a read-only mount."""

    @on(tmp_path)
    async def _(bench):
        pid = await bench.create("c1", "true")
        for process in (bench.keeper_pid(), pid):
            assert os.statvfs(f"/proc/{process}/exe").f_flag & os.ST_RDONLY
        assert not os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY, "the test proves nothing where all is read-only"


def test_a_container_holds_only_its_own_descriptors(tmp_path):
    @on(tmp_path)
    async def _(bench):
        await bench.run("c1", "sleep 1000", terminal=True)
        pid = await bench.run("c3", "exec sleep 1000")
        await bench.exec("c3", "e1", "exec sleep 1000")
        assert sorted(os.listdir(f"/proc/{pid}/fd"), key=int) == ["0", "1", "2"]
        for other in await bench.tasks.pids("c3"):
            assert sorted(os.listdir(f"/proc/{other}/fd"), key=int) == ["0", "1", "2"]


def test_a_container_inherits_no_ignored_signal_and_no_limit_of_the_keeper(tmp_path):
    import resource

    @on(tmp_path)
    async def _(bench):
        pid = await bench.run("c1", "exec sleep 1000")
        # The shell itself ignores SIGQUIT for a moment; what it executes has what the shell was given.
        eventually(lambda: Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\x00", what="the shell is gone")
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        # 32 and 33 are libc's own, and whoever started the tests may have set them.
        assert int(fields["SigIgn"], 16) & 0x7FFFFFFF == 0
        assert int(fields["SigBlk"], 16) == 0
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        line = next(x for x in Path(f"/proc/{pid}/limits").read_text().splitlines() if x.startswith("Max open files"))
        assert line.split()[3] == str(soft)


def test_the_container_s_user_may_open_its_own_output_again(tmp_path):
    @on(tmp_path)
    async def _(bench):
        script = "echo one > /dev/stdout; echo two > /dev/stderr; id -u"
        await bench.run("c1", script, user={"uid": 1000, "gid": 1000})
        await bench.exit_of("c1")
        assert sorted(bench.log("c1").split()) == ["1000", "one", "two"]


CLIENT = """
import asyncio, os, sys
sys.path[:0] = {path!r}
from sampan.containerd.tasks import KeeperTasks
async def main():
    tasks = KeeperTasks({state!r})
    await tasks.open()
    reader, writer = os.pipe()
    await tasks.attach("c1", stdout=writer, stderr=None, stdin=False)
    os.close(writer)
    print("attached", flush=True)
    got = 0
    while True:
        got += len(os.read(reader, 65536))
        if got > 200000:
            print("reading", flush=True)
asyncio.run(main())
"""


def test_a_sampand_killed_in_the_middle_of_output_costs_the_container_nothing(tmp_path):
    @on(tmp_path)
    async def _(bench):
        lines = 60_000
        script = f"i=0; while [ $i -lt {lines} ]; do echo line $i; i=$((i+1)); done; exit 17"
        pid = await bench.create("c1", script)
        await bench.tasks.close()
        program = CLIENT.format(path=[p for p in sys.path if p], state=bench.state)
        client = await asyncio.to_thread(
            subprocess.Popen, [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        other = bench.client()
        await other.open()
        try:
            assert await asyncio.to_thread(client.stdout.readline) == b"attached\n"
            await other.start("c1")
            said = await asyncio.to_thread(client.stdout.readline)
            assert said == b"reading\n"
            assert alive(pid)
        finally:
            client.send_signal(signal.SIGKILL)
            await asyncio.to_thread(client.wait)
        assert (await bench.exit_of("c1")).status == 17
        assert bench.log("c1") == "".join(f"line {number}\n" for number in range(lines))
        bench.tasks = other


def test_the_kernel_s_out_of_memory_kill_is_told_and_marks_the_exit(tmp_path):
    @on(tmp_path)
    async def _(bench):
        limit = {"memory": {"limit": 24 << 20, "swap": 24 << 20}}
        spec = json.loads(Path(bench.bundle("c1", "true"), "config.json").read_text())
        spec["linux"]["resources"] = limit
        await bench.create("c1", "x=1234567890; while :; do x=$x$x; done", spec={"linux": spec["linux"]})
        await bench.tasks.start("c1")
        exit = await bench.exit_of("c1")
        assert exit.status == 137
        assert exit.oom_killed
        assert await asyncio.wait_for(bench.oom.get(), 10) == "c1"
        (state,) = await bench.tasks.list()
        assert state.exit == exit


def test_an_exit_without_memory_trouble_is_not_marked(tmp_path):
    @on(tmp_path)
    async def _(bench):
        await bench.run("c1", "kill -9 $$; exit 1", spec={})
        exit = await bench.exit_of("c1")
        await bench.tasks.delete("c1")
        assert not exit.oom_killed
        assert bench.oom.empty()


def test_a_keeper_outlives_its_starter_and_belongs_to_no_session_of_it(tmp_path):
    @on(tmp_path)
    async def _(bench):
        await bench.create("c1", "true")
        pid = bench.keeper_pid()
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        assert int(stat[1]) != os.getpid(), "it is nobody's child here"
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"


def test_a_keeper_without_tasks_ends_with_its_sampand(tmp_path):
    pids = []

    @on(tmp_path)
    async def _(bench):
        await bench.run("c1", "true")
        await bench.exit_of("c1")
        await bench.tasks.delete("c1")
        pids.append(bench.keeper_pid())

    eventually(lambda: not alive(pids[0]))
