"""containerd's shim protocol, both ways: the same scenario on every pair of a core and what runs its tasks.

containerd 1.6, 2.1  with its own containerd-shim-runc-v2 (the reference) and with containerd-shim-sampan-v2
sampan-containerd    with its keeper, with the shims of containerd 1.6 and 2.1, and with our own shim, which is also
                     made to speak nothing but the start protocol of containerd 2.3 and later
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import stat
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from grpclib.client import Channel
from tests.conftest import leave_out
from tests.peers.api import Api
from tests.peers.client import Terminal
from tests.peers.containers import Containerd, Core, SampanContainerd, newer_tools
from tests.peers.machine import Machine
from tests.peers.runtimes import APPLETS, BUSYBOX
from tests.peers.waiting import eventually

pytestmark = pytest.mark.needs("containerd", "ctr", "containerd-shim-runc-v2", "runc")

OURS = os.path.join(os.path.dirname(sys.executable), "containerd-shim-sampan-v2")
RUNC_SHIM = shutil.which("containerd-shim-runc-v2") or ""

# Follows events into a file, and goes on when they are: a change of the namespace is one.
FOLLOW = (
    "rm -f {file}; timeout 50 ctr events >{file} 2>&1 & echo $! >>following;"
    " for i in $(seq 100); do ctr namespaces label shims probe=$i; sleep 0.1; [ -s {file} ] && break; done;"
)

# As a shim of containerd 2.3 and later: parameters on stdin or nothing.
BOOTSTRAP_ONLY = f"""#!{sys.executable}
import os, sys, tempfile
from sampan.api.containerd.runtime.bootstrap.v1 import bootstrap_pb2
if sys.argv[-1] == "start":
    data = sys.stdin.buffer.read()
    params = bootstrap_pb2.BootstrapParams()
    if not data or not params.MergeFromString(data) or params.instance_id not in sys.argv:
        sys.exit("shim was started through the deprecated API")
    file = tempfile.TemporaryFile()
    file.write(data)
    file.seek(0)
    os.dup2(file.fileno(), 0)
os.environ.pop("MAX_SHIM_VERSION", None)
os.execv({OURS!r}, [{OURS!r}, *sys.argv[1:]])
"""


class Stack(NamedTuple):
    """`core` is a key of `Cores`; `runtime` what ctr is told, with {scratch} for the test run's directory."""

    core: str
    runtime: str

    @property
    def name(self) -> str:
        return f"{self.core} with {self.runtime.rpartition('/')[2]}"


STACKS = [
    Stack("containerd-1.6", "io.containerd.runc.v2"),
    Stack("containerd-1.6", "io.containerd.sampan.v2"),
    Stack("containerd-2.1", "io.containerd.runc.v2"),
    Stack("containerd-2.1", "io.containerd.sampan.v2"),
    Stack("sampan", "io.containerd.runc.v2"),
    Stack("sampan", RUNC_SHIM),
    Stack("sampan", "{scratch}/newer/containerd-shim-runc-v2"),
    Stack("sampan", OURS),
    Stack("sampan", "{scratch}/containerd-shim-bootstrap-v3"),
]
KEEPER = Stack("sampan", "io.containerd.runc.v2")
SHIMS = [stack for stack in STACKS if stack != KEEPER]
OUR_SHIMS = [stack for stack in STACKS if "sampan" in stack.runtime]


class Cores:
    """The daemons, each started when it is first wanted."""

    def __init__(self, machine: Machine, scratch: str) -> None:
        self.machine, self.scratch = machine, scratch
        self._running: dict[str, Core] = {}

    def __getitem__(self, name: str) -> Core:
        if name not in self._running:
            self._running[name] = core = self._make(name)
            core.start()
        return self._running[name]

    def _make(self, name: str) -> Core:
        place = f"{self.scratch}/shims-{name}"
        os.makedirs(place)
        if name == "sampan":
            return SampanContainerd(self.machine, place)
        tools = f"{place}/tools"
        if name == "containerd-2.1":
            shutil.copytree(newer_tools(self.scratch), tools, symlinks=True)
        else:
            os.makedirs(tools)
        os.symlink(OURS, f"{tools}/containerd-shim-sampan-v2")
        return Containerd(self.machine, place, tools)

    def close(self) -> None:
        def shims() -> list[str]:
            return [line for line in self.machine.processes().values() if "sampan.shim" in line]

        eventually(lambda: not shims(), what="the last shims are gone")
        for core in self._running.values():
            core.stop()


@pytest.fixture(scope="module")
def cores(machine: Machine, scratch: str) -> Iterator[Cores]:
    if not newer_tools(scratch):
        leave_out("needs containerd 2.1 (scripts/peers)")
    program = f"{scratch}/containerd-shim-bootstrap-v3"
    with open(program, "w") as file:
        file.write(BOOTSTRAP_ONLY)
    os.chmod(program, 0o755)
    made = Cores(machine, scratch)
    yield made
    made.close()


@pytest.fixture(scope="module")
def rootfs(scratch: str) -> str:
    path = f"{scratch}/shims-rootfs"
    for directory in ("bin", "tmp", "proc", "dev", "sys", "etc"):
        os.makedirs(f"{path}/{directory}")
    shutil.copy(BUSYBOX, f"{path}/bin/busybox")
    for applet in APPLETS:
        os.symlink("busybox", f"{path}/bin/{applet}")
    return path


class Ctr:
    """ctr against one stack, in a containerd namespace of its own."""

    def __init__(self, core: Core, runtime: str, rootfs: str) -> None:
        self.core, self.runtime, self.rootfs = core, runtime, rootfs

    def shell(self, script: str, status: int | None = 0) -> str:
        """Runs a script in which `run` is ctr's with this runtime and root file system; its stdout."""
        run = f'run() {{ ctr run --env PATH=/bin --rootfs --runtime {self.runtime} "$@"; }};'
        # Entering the machine has changed the directory.
        run = f"cd {self.core.work}; {run} R={self.rootfs}; "
        done = self.core.shell("shims", run + script)
        assert status is None or done.status == status, f"{script} → {done}"
        self.errors = done.err
        return done.out

    def status(self, name: str) -> str:
        found = re.search(rf"^{name} +\d+ +(\w+)", self.shell("ctr tasks ls"), re.MULTILINE)
        return found[1] if found else ""

    def pid(self, name: str) -> int:
        found = re.search(rf"^{name} +(\d+)", self.shell("ctr tasks ls"), re.MULTILINE)
        assert found is not None
        return int(found[1])

    def stopped(self, name: str) -> None:
        eventually(lambda: self.status(name) == "STOPPED", what=f"task {name} is stopped")

    def tidy(self) -> None:
        self.shell("[ -e following ] && kill $(cat following); rm -f following", None)
        self.shell("ctr tasks ls -q | xargs -rn1 ctr tasks kill -a -s KILL", None)
        eventually(lambda: "RUNNING" not in self.shell("ctr tasks ls"), what="all tasks are stopped")
        self.shell(
            "ctr tasks ls -q | xargs -rn1 ctr tasks rm; ctr containers ls -q | xargs -rn1 ctr containers rm", None
        )


@pytest.fixture(params=STACKS, ids=[stack.name for stack in STACKS])
def stack(request: pytest.FixtureRequest) -> Stack:
    return request.param


@pytest.fixture
def ctr(stack: Stack, cores: Cores, rootfs: str) -> Iterator[Ctr]:
    made = Ctr(cores[stack.core], stack.runtime.format(scratch=cores.scratch), rootfs)
    yield made
    made.tidy()


def parent(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_output_input_exit_code_and_the_runtime_s_words(ctr: Ctr) -> None:
    assert ctr.shell("run --rm $R one sh -c 'echo out; echo err >&2; exit 7'", 7) == "out\n"
    assert "err\n" in ctr.errors
    assert ctr.shell("(echo through; sleep 1) | run --rm $R one cat") == "through\n"
    ctr.shell("run --rm $R one /nosuch", 1)
    expected = 'OCI runtime create failed: runc create failed: unable to start container process: exec: "/nosuch": stat'
    assert expected in ctr.errors
    assert len(ctr.shell("run --rm $R one dd if=/dev/zero bs=1M count=3 2>/dev/null | wc -c; ctr c ls -q")) > 3


def test_a_terminal_works_like_a_terminal(ctr: Ctr) -> None:
    argv = ["env", f"PATH={ctr.core.path}", "ctr", "-a", ctr.core.address, "-n", "shims", "run", "--rm", "-t"]
    argv += ["--env", "PATH=/bin", "--rootfs", "--runtime", ctr.runtime, ctr.rootfs, "one"]
    argv += ["sh", "-c", "tty; read word; echo got $word; exit 7"]
    with Terminal(ctr.core.machine.entering(argv), dict(os.environ), 31, 97) as screen:
        screen.expect("/dev/pts/0")
        screen.type("this\n")
        screen.expect("got this")
        assert screen.end() == 7


def test_a_detached_task_is_looked_into_paused_measured_and_killed(ctr: Ctr) -> None:
    ctr.shell("run -d --memory-limit 41943040 $R one sleep 1000")
    assert ctr.status("one") == "RUNNING"
    assert ctr.shell("ctr tasks exec --exec-id e1 one sh -c 'echo inside; exit 3'", 3) == "inside\n"
    assert ctr.shell("(echo in; sleep 1) | ctr tasks exec --exec-id e2 one cat") == "in\n"
    ctr.shell("ctr tasks exec --exec-id e3 one /nosuch", 1)
    assert 'exec failed: unable to start container process: exec: "/nosuch"' in ctr.errors
    assert len(ctr.shell("ctr tasks ps one").splitlines()) == 2
    ctr.shell("ctr tasks pause one")
    assert ctr.status("one") == "PAUSED"
    ctr.shell("ctr tasks resume one")
    assert ctr.status("one") == "RUNNING"
    assert "41943040" in ctr.shell("ctr tasks metrics one")
    ctr.shell("ctr tasks rm one", 1)
    ctr.shell("ctr tasks kill -s KILL one")
    ctr.stopped("one")
    ctr.shell("ctr tasks kill one", 1)
    assert "process already finished" in ctr.errors
    ctr.shell("ctr tasks rm one")
    assert "exit code 137" in ctr.errors


def test_every_event_is_told_once_and_in_order(ctr: Ctr) -> None:
    ctr.shell(FOLLOW.format(file="events.txt"))
    ctr.shell(
        "run -d $R one sleep 1000 && ctr tasks exec --exec-id e one true && ctr tasks pause one &&"
        " ctr tasks resume one && ctr tasks kill -s KILL one"
    )
    ctr.stopped("one")
    ctr.shell("ctr tasks rm one", None)  # with the exit code of what was killed
    eventually(lambda: "/tasks/delete" in ctr.shell("cat events.txt"), what="the last event is told")
    told = ctr.shell("grep -o '/tasks/[a-z-]*' events.txt")
    assert told.split() == [
        f"/tasks/{verb}"
        for verb in ("create", "start", "exec-added", "exec-started", "exit", "paused", "resumed", "exit", "delete")
    ]


def test_a_container_outlives_its_core_and_its_end_is_known_to_the_next(ctr: Ctr, stack: Stack, rootfs: str) -> None:
    ctr.shell("run -d $R one sh -c 'until [ -e /tmp/go ]; do usleep 50000; done; exit 5' && run -d $R two sleep 1000")
    one, two = ctr.pid("one"), ctr.pid("two")
    ctr.core.kill()
    assert alive(one) and alive(two)
    open(f"{rootfs}/tmp/go", "w").close()
    eventually(lambda: not alive(one), what="the container ends while no core is there")
    os.unlink(f"{rootfs}/tmp/go")
    ctr.core.start()
    eventually(lambda: ctr.status("two") == "RUNNING", what="the next core finds what runs")
    assert ctr.pid("two") == two
    if stack.core == "containerd-2.1":
        # It takes a shim without processes for one that never had any, and the exit status is lost.
        eventually(lambda: ctr.status("one") == "", what="containerd 2.1 forgets what has ended")
    else:
        ctr.stopped("one")
        ctr.shell("ctr tasks rm one")
        assert "exit code 5" in ctr.errors
    assert ctr.shell("ctr tasks exec --exec-id e two echo again") == "again\n"
    ctr.shell("ctr tasks kill -s KILL two")
    ctr.stopped("two")


# The keeper's own death is tests/contract/test_tasks.py's.
@pytest.mark.parametrize("stack", SHIMS, ids=[stack.name for stack in SHIMS], indirect=True)
def test_what_a_dead_shim_leaves_is_cleaned_up_and_told(ctr: Ctr) -> None:
    ctr.shell("run -d $R one sleep 1000")
    init = ctr.pid("one")
    before = ctr.core.machine.processes()
    ctr.shell(FOLLOW.format(file="dead.txt"))
    os.kill(parent(init), signal.SIGKILL)
    eventually(lambda: ctr.status("one") == "", what="the task is gone")
    eventually(lambda: not alive(init), what="the container's process is gone")
    assert init in before and init not in ctr.core.machine.processes()
    eventually(lambda: "/tasks/delete" in ctr.shell("cat dead.txt", None), what="its end is told")
    assert ctr.shell("grep -o '/tasks/[a-z]*' dead.txt").split() == ["/tasks/exit", "/tasks/delete"]
    ctr.shell("ctr containers rm one; run --rm $R one true")


@pytest.mark.parametrize("stack", OUR_SHIMS, ids=[stack.name for stack in OUR_SHIMS], indirect=True)
def test_our_shims_have_one_parent_and_need_it_no_more(ctr: Ctr) -> None:
    ctr.shell("run -d $R one sleep 1000; run -d $R two sleep 1000")
    shims = {name: parent(ctr.pid(name)) for name in ("one", "two")}
    assert shims["one"] != shims["two"]
    nursery = parent(shims["one"])
    assert parent(shims["two"]) == nursery
    with open(f"/proc/{nursery}/comm") as file:
        assert file.read() == "sampan-nursery\n"
    os.kill(nursery, signal.SIGKILL)
    eventually(lambda: not alive(nursery), what="the nursery is gone")
    assert ctr.shell("ctr tasks exec --exec-id e one echo still") == "still\n"
    ctr.shell("run -d $R three sleep 1000")
    heir = parent(parent(ctr.pid("three")))
    assert heir != nursery
    ctr.tidy()
    eventually(lambda: not alive(heir), what="the nursery ends with its last shim")


COUNT = (
    "rm -rf counted; mkdir counted; echo 0 >counted/now;"
    " echo 'i=0; while :; do i=$((i+1)); echo $i >/c/next; mv /c/next /c/now; sleep 0.02; done' >counted/script;"
    " run -d --null-io --mount type=bind,src=$PWD/counted,dst=/c,options=rbind:rw $R one sh /c/script"
)


def test_a_task_that_was_saved_goes_on_in_a_new_one(ctr: Ctr) -> None:
    def counted() -> int:
        return int(ctr.shell("cat counted/now"))

    def ask(service: str, name: str, body: dict[str, Any]) -> Any:
        async def call() -> Any:
            channel = Channel(path=ctr.core.address)
            try:
                return await Api(ctr.core, channel, "shims").call(service, name, body, lease=lease)
            finally:
                channel.close()

        return asyncio.run(call())

    lease = ""
    ask("Leases", "Create", {"id": "saved"})
    lease = "saved"
    ctr.shell(COUNT)
    eventually(lambda: counted() > 20, what="it counts")
    images = ask("Tasks", "Checkpoint", {"container_id": "one"}).descriptors[0]
    ctr.shell("ctr tasks kill -s KILL one")
    ctr.stopped("one")
    ctr.shell("ctr tasks rm one", None)
    last = counted()
    saved = {"media_type": images.media_type, "digest": images.digest, "size": images.size}
    ask("Tasks", "Create", {"container_id": "one", "checkpoint": saved})
    assert ctr.status("one") == "CREATED" and counted() == last
    started = ask("Tasks", "Start", {"container_id": "one"})
    assert started.pid == ctr.pid("one")
    ctr.shell("ctr leases rm saved")
    eventually(lambda: counted() not in (0, last), what="it goes on to count")
    assert counted() > 15
    assert ctr.shell("ctr tasks exec --exec-id e one cat /proc/1/comm") == "sh\n"


def test_output_goes_to_files_and_to_logging_programs(ctr: Ctr) -> None:
    program = f"{ctr.core.work}/logger"
    with open(program, "w") as file:
        file.write(
            # containerd's shim sends SIGTERM as soon as the process has ended, whatever is still to be read
            '#!/bin/sh\ntrap "" TERM\nexec >>"$2" 2>&1\necho "$CONTAINER_ID $CONTAINER_NAMESPACE $1"\nexec 5>&-\n'
            "/bin/cat <&3 | /bin/sed s/^/out:/\n/bin/cat <&4 | /bin/sed s/^/err:/\n"
        )
    os.chmod(program, stat.S_IRWXU)
    ctr.shell("rm -rf logs; mkdir logs; run -d --log-uri file://$PWD/logs/file $R one echo logged")
    ctr.stopped("one")
    eventually(lambda: ctr.shell("cat logs/file") == "logged\n", what="the file has the output")
    ctr.shell('run -d --log-uri "binary://$PWD/logger?to=$PWD/logs/program" $R two sh -c "echo a; echo b >&2"')
    ctr.stopped("two")
    ctr.shell("ctr tasks rm two")  # containerd's shim closes the program's streams no sooner
    wanted = "two shims to\nout:a\nerr:b\n"
    eventually(lambda: ctr.shell("cat logs/program") == wanted, what="the program has the output")


def test_nothing_is_left_when_tasks_are_gone(ctr: Ctr, machine: Machine) -> None:
    ctr.shell("run --rm $R one true")  # whatever stays for good, such as a keeper, is there now
    eventually(lambda: ctr.shell("ctr tasks ls -q; ctr containers ls -q") == "")
    state = f"{ctr.core.state}/io.containerd.runtime.v2.task/shims"

    def left() -> object:
        bundles = os.listdir(state) if os.path.isdir(state) else []
        sockets = machine.run(["sh", "-c", "ls /run/containerd/s /run/containerd/runc/shims 2>/dev/null"], check=False)
        return machine.processes(), machine.mounts(), bundles, sockets

    before = left()
    ctr.shell("run --rm $R one true; run -d $R two sleep 1000; ctr tasks rm -f two; ctr containers rm two")
    eventually(lambda: left() == before, what="processes, mounts, bundles and sockets as before")
