"""Debian's containerd and `ctr run --runc-binary`: what its shim does with Debian's runc it does with sampan-runc."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator

import pytest
from tests.conftest import leave_out
from tests.peers import newer
from tests.peers.client import Outcome, Terminal
from tests.peers.machine import Machine
from tests.peers.waiting import eventually

pytestmark = pytest.mark.needs("containerd", "ctr", "skopeo")

IMAGE = "example.org/busybox:latest"


class Ctr:
    """`ctr` against a containerd of its own in the machine; `runtime` is the path given by --runc-binary."""

    def __init__(self, machine: Machine, scratch: str) -> None:
        self.machine, self.scratch = machine, scratch
        os.makedirs(scratch, exist_ok=True)
        self.address = f"{scratch}/containerd.sock"
        self.runtime = ""
        with open(f"{scratch}/config.toml", "w") as file:
            file.write('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
        with open(f"{scratch}/log", "ab") as log:
            self._daemon = machine.spawn(
                ["containerd", "--config", f"{scratch}/config.toml", "--address", self.address,
                 "--root", f"{scratch}/root", "--state", f"{scratch}/state"], log=log,
                environment=newer.environment("criu"),
            )  # fmt: skip
        eventually(self._answers, what="containerd listens")

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(self.address) == 0

    def argv(self, *arguments: str) -> list[str]:
        return self.machine.entering(["ctr", "--address", self.address, *arguments])

    def __call__(self, *arguments: str, stdin: str = "", within: float = 60) -> Outcome:
        done = subprocess.run(self.argv(*arguments), input=stdin, capture_output=True, text=True, timeout=within)
        return Outcome(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str, stdin: str = "") -> str:
        done = self(*arguments, stdin=stdin)
        assert done.status == 0, f"ctr {' '.join(arguments)} → {done}"
        return done.out.removesuffix("\n")

    def words(self, *command: str, flags: tuple[str, ...] = (), name: str = "one") -> tuple[str, ...]:
        return ("run", "--runc-binary", self.runtime, *flags, IMAGE, name, *command)

    def status(self, name: str = "one") -> str:
        for line in self.ok("task", "ls").split("\n")[1:]:
            fields = line.split()
            if fields and fields[0] == name:
                return fields[2]
        return ""

    def tidy(self) -> None:
        for name in self.ok("task", "ls", "-q").split():
            self("task", "kill", "-s", "SIGKILL", "-a", name)
            eventually(lambda name=name: self.status(name) in ("STOPPED", ""))
            self("task", "rm", name)
        for name in self.ok("container", "ls", "-q").split():
            self("container", "rm", name)

    def end(self) -> None:
        self._daemon.terminate()
        self._daemon.wait(timeout=20)


@pytest.fixture(scope="module")
def daemon(machine: Machine, scratch: str, archive: str) -> Iterator[Ctr]:
    made = Ctr(machine, f"{scratch}/ctr")
    made.ok("image", "import", archive)
    yield made
    made.end()


@pytest.fixture
def ctr(daemon: Ctr, runtime: str) -> Iterator[Ctr]:
    daemon.runtime = runtime
    yield daemon
    daemon.tidy()


def test_run_gives_output_and_exit_code(ctr: Ctr) -> None:
    done = ctr(*ctr.words("sh", "-c", "echo out; exit 42", flags=("--rm",)))
    assert (done.status, done.out) == (42, "out\n")


def test_a_missing_program_is_said_in_runcs_words(ctr: Ctr) -> None:
    done = ctr(*ctr.words("nonesuch", flags=("--rm",)))
    assert done.status == 1
    assert 'exec: "nonesuch": executable file not found in $PATH' in done.err


def test_standard_input_reaches_the_container(ctr: Ctr) -> None:
    assert ctr.ok(*ctr.words("head", "-c", "7", flags=("--rm",)), stdin="through") == "through"


def test_a_terminal_works_like_a_terminal(ctr: Ctr) -> None:
    with Terminal(ctr.argv(*ctr.words("sh", flags=("--rm", "-t"))), dict(os.environ), 31, 97) as screen:
        screen.expect("# ")
        screen.type("tty; stty size; exit 7\n")
        screen.expect(r"/dev/pts/0\r+\n31 97\r+\n")
        assert screen.end() == 7


def test_a_task_is_started_looked_into_and_killed(ctr: Ctr) -> None:
    ctr.ok(*ctr.words("sleep", "1000", flags=("-d",)))
    assert ctr.status() == "RUNNING"
    assert len(ctr.ok("task", "ps", "one").split("\n")) == 2
    ctr.ok("task", "exec", "--exec-id", "first", "one", "touch", "/tmp/here")
    done = ctr("task", "exec", "--exec-id", "second", "--cwd", "/tmp", "one", "sh", "-c", "ls; exit 3")
    assert (done.status, done.out) == (3, "here\n")
    ctr.ok("task", "kill", "-s", "SIGKILL", "one")
    eventually(lambda: ctr.status() == "STOPPED")


def test_exec_with_a_terminal(ctr: Ctr) -> None:
    ctr.ok(*ctr.words("sleep", "1000", flags=("-d",)))
    argv = ctr.argv("task", "exec", "--exec-id", "one", "-t", "one", "sh", "-c", "tty; exit 4")
    with Terminal(argv, dict(os.environ), 24, 80) as screen:
        screen.expect("/dev/pts/0")
        assert screen.end() == 4


def test_pause_and_resume(ctr: Ctr) -> None:
    ctr.ok(*ctr.words("sleep", "1000", flags=("-d",)))
    ctr.ok("task", "pause", "one")
    assert ctr.status() == "PAUSED"
    ctr.ok("task", "resume", "one")
    assert ctr.status() == "RUNNING"


def test_metrics_and_limits(ctr: Ctr) -> None:
    ctr.ok(*ctr.words("sleep", "1000", flags=("-d", "--memory-limit", "41943040", "--cpu-quota", "50000")))
    metrics = ctr.ok("task", "metrics", "one")
    assert "41943040" in metrics


def test_what_confines_is_as_the_flags_say(ctr: Ctr) -> None:
    flags = ("--rm", "--read-only", "--cap-drop", "CAP_CHOWN", "--env", "A=b", "--cwd", "/tmp",
             "--seccomp")  # fmt: skip
    script = "touch /x 2>/dev/null || echo ro; echo $A $PWD; grep Seccomp: /proc/self/status"
    assert ctr.ok(*ctr.words("sh", "-c", script, flags=flags)).split("\n") == [
        "ro", "b /tmp", "Seccomp:\t2"
    ]  # fmt: skip


@pytest.fixture
def criu() -> None:
    if newer.command("criu") is None:
        leave_out("needs criu (scripts/peers unpacks it from Debian sid)")


def counting(scratch: str) -> tuple[tuple[str, ...], Callable[[], int]]:
    """Flags and command of a container that counts in a file of the host, and what it has come to."""
    path = f"{scratch}/counted"
    os.makedirs(path, exist_ok=True)
    with open(f"{path}/now", "w") as file:
        file.write("0")

    def count() -> int:
        with open(f"{path}/now") as file:
            return int(file.read() or 0)

    return ("-d", "--mount", f"type=bind,src={path},dst=/counted,options=rbind:rw"), count


COUNT = "i=0; while :; do i=$((i+1)); echo $i > /counted/next; mv /counted/next /counted/now; usleep 20000; done"


def test_a_task_is_checkpointed_into_an_image_and_restored_from_it(ctr: Ctr, scratch: str, criu: None) -> None:
    flags, count = counting(scratch)
    ctr.ok(*ctr.words("sh", "-c", COUNT, flags=(*flags, "--null-io")))
    saved = eventually(lambda: count() > 20 and count())
    ctr.ok("container", "checkpoint", "--rw", "--image", "--task", "one", "example.org/saved:one")
    ctr.ok("task", "kill", "-s", "SIGKILL", "one")
    eventually(lambda: ctr.status() == "STOPPED")
    ctr.ok("task", "rm", "one")
    ctr.ok("container", "rm", "one")
    reached = count()
    ctr.ok("container", "restore", "--rw", "--live", "one", "example.org/saved:one")
    # From where it was saved, which is before it was killed, and not from the beginning.
    assert eventually(lambda: count() != reached and count()) >= saved
    ctr.ok("image", "rm", "example.org/saved:one")


def test_a_task_is_checkpointed_to_a_directory(ctr: Ctr, scratch: str, criu: None) -> None:
    flags, count = counting(scratch)
    ctr.ok(*ctr.words("sh", "-c", COUNT, flags=(*flags, "--null-io")))
    eventually(lambda: count() > 3)
    ctr.ok("task", "checkpoint", "--image-path", f"{scratch}/images", "one")
    assert "descriptors.json" in os.listdir(f"{scratch}/images")
    reached = count()
    eventually(lambda: count() > reached + 3)
    ctr.ok("task", "checkpoint", "--exit", "--image-path", f"{scratch}/images", "one")
    eventually(lambda: ctr.status() == "STOPPED")


def test_nothing_is_left_when_tasks_are_gone(ctr: Ctr, machine: Machine) -> None:
    before = machine.processes(), machine.mounts()
    ctr.ok(*ctr.words("true", flags=("--rm",)))
    eventually(lambda: (machine.processes(), machine.mounts()) == before, what="processes and mounts as before")
    assert not [path for path in machine.cgroups() if path.endswith("/one")]
