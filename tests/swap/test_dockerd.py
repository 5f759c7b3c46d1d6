"""Debian's dockerd with `--add-runtime`: what it does with Debian's runc it does with sampan-runc."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator

import pytest
from tests.conftest import leave_out
from tests.peers import newer
from tests.peers.client import Docker
from tests.peers.engines import Dockerd
from tests.peers.machine import Machine
from tests.peers.runtimes import PATHS
from tests.peers.waiting import eventually

pytestmark = pytest.mark.needs("dockerd", "docker", "skopeo", "containerd")

IMAGE = "example.org/busybox"


class DockerdOfTwo(Dockerd):
    """With both runtimes under names of their own."""

    def argv(self) -> list[str]:
        added = [word for name, path in PATHS.items() for word in ("--add-runtime", f"by-{name}={path}")]
        return [*super().argv(), *added, "--experimental"]


@pytest.fixture(scope="module")
def engine(machine: Machine, scratch: str) -> Iterator[DockerdOfTwo]:
    os.makedirs(f"{scratch}/dockerd", exist_ok=True)
    made = DockerdOfTwo(machine, f"{scratch}/dockerd", newer.environment("criu"))
    made.start()
    yield made
    made.end()


@pytest.fixture(scope="module")
def client(engine: DockerdOfTwo, scratch: str, archive: str) -> Docker:
    binary = shutil.which("docker")
    assert binary
    made = Docker(binary, engine.uri, f"{scratch}/home")
    made.ok("load", "-q", "-i", archive)
    return made


class Over:
    """docker, with every container made by one runtime; `collect` has dockerd's containerd collect its garbage."""

    def __init__(self, docker: Docker, runtime: str, collect: Callable[[], None]) -> None:
        self.docker, self.collect = docker, collect
        self.name = next(f"by-{name}" for name, path in PATHS.items() if path == runtime)

    def words(self, *command: str, flags: tuple[str, ...] = ()) -> tuple[str, ...]:
        return ("run", "--runtime", self.name, *flags, IMAGE, *command)

    def up(self, *command: str, flags: tuple[str, ...] = ()) -> str:
        """A running container named `one`; its id."""
        return self.docker.ok(*self.words(*(command or ("sleep", "1000")), flags=("-d", "--name", "one", *flags)))


@pytest.fixture
def over(client: Docker, runtime: str, engine: DockerdOfTwo) -> Iterator[Over]:
    yield Over(client, runtime, engine.collect)
    client.tidy()
    left = client.ok("ps", "-aq").split()
    if left:
        client.ok("rm", "-f", *left)


def test_run_gives_output_and_exit_code(over: Over) -> None:
    done = over.docker(*over.words("sh", "-c", "echo out; echo err >&2; exit 42", flags=("--rm",)))
    assert (done.status, done.out, done.err) == (42, "out\n", "err\n")


def test_the_runtime_is_the_one_asked_for(over: Over) -> None:
    over.up()
    assert over.docker.inspect("one")["HostConfig"]["Runtime"] == over.name


def test_standard_input_reaches_the_container(over: Over) -> None:
    assert over.docker.ok(*over.words("cat", flags=("--rm", "-i")), stdin="through") == "through"


def test_errors_of_the_program_have_dockers_exit_codes(over: Over) -> None:
    missing = over.docker(*over.words("nonesuch", flags=("--rm",)))
    assert missing.status == 127
    assert 'exec: "nonesuch": executable file not found in $PATH' in missing.err
    denied = over.docker(*over.words("/etc/not-executable", flags=("--rm",)))
    assert denied.status == 126
    assert 'exec: "/etc/not-executable": permission denied' in denied.err
    directory = over.docker(*over.words("/etc", flags=("--rm",)))
    assert directory.status in (126, 127)


def test_a_terminal_has_a_size_that_follows(over: Over) -> None:
    with over.docker.terminal(*over.words("sh", flags=("--rm", "-it")), rows=31, columns=97) as screen:
        screen.expect("# ")
        screen.type("tty; until [ \"$(stty size)\" = '31 97' ]; do usleep 10000; done; echo sized\n")
        screen.expect("/dev/pts/0\r\n")
        screen.expect("(?<!echo )sized\r\n")
        screen.resize(20, 60)
        screen.type("until [ \"$(stty size)\" = '20 60' ]; do usleep 10000; done; echo resized\n")
        screen.expect("(?<!echo )resized\r\n")
        screen.type("exit 7\n")
        assert screen.end() == 7


def test_exec_runs_beside(over: Over) -> None:
    over.up()
    done = over.docker("exec", "-e", "A=b", "-w", "/tmp", "one", "sh", "-c", "echo $A $PWD; exit 3")
    assert (done.status, done.out) == (3, "b /tmp\n")
    assert over.docker.ok("exec", "-u", "tester", "one", "id", "-un") == "tester"
    assert over.docker.ok("exec", "-i", "one", "cat", stdin="through") == "through"
    assert over.docker("exec", "one", "nonesuch").status in (126, 127)
    with over.docker.terminal("exec", "-it", "one", "sh", "-c", "tty; exit 4") as screen:
        screen.expect("/dev/pts/0")
        assert screen.end() == 4


def test_stop_asks_before_it_kills(over: Over) -> None:
    over.up("sh", "-c", "trap 'echo asked; exit 5' TERM; echo up; while :; do usleep 10000; done")
    eventually(lambda: "up" in over.docker.ok("logs", "one"))
    over.docker.ok("stop", "one")
    assert over.docker.state("one")["ExitCode"] == 5
    assert over.docker.ok("logs", "one") == "up\nasked"


def test_kill_sends_any_signal(over: Over) -> None:
    over.up("sh", "-c", "trap 'echo usr1' USR1; echo up; while :; do usleep 10000; done")
    eventually(lambda: "up" in over.docker.ok("logs", "one"))
    over.docker.ok("kill", "--signal", "USR1", "one")
    eventually(lambda: "usr1" in over.docker.ok("logs", "one"))
    over.docker.ok("kill", "one")
    assert over.docker.ok("wait", "one") == "137"


def test_pause_and_unpause(over: Over) -> None:
    over.up("sh", "-c", "while :; do echo tick; usleep 20000; done")
    over.docker.ok("pause", "one")
    assert over.docker.state("one")["Status"] == "paused"
    assert over.docker("exec", "one", "true").status == 1
    before = over.docker.ok("logs", "one")
    over.docker.ok("unpause", "one")
    eventually(lambda: len(over.docker.ok("logs", "one")) > len(before))


READ = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max cpu/cpu.shares cpu/cpu.cfs_quota_us"


def test_limits_are_set_and_updated(over: Over) -> None:
    over.up(flags=("--memory", "40m", "--pids-limit", "33", "--cpu-shares", "300", "--cpus", "0.5"))
    assert over.docker.ok("exec", "one", "sh", "-c", READ).split() == ["41943040", "33", "300", "50000"]
    over.docker.ok(
        "update", "--memory", "50m", "--memory-swap", "60m", "--cpu-shares", "600", "--pids-limit", "44", "one"
    )
    assert over.docker.ok("exec", "one", "sh", "-c", READ).split() == ["52428800", "44", "600", "50000"]


def test_a_memory_limit_kills_and_is_reported(over: Over) -> None:
    """Not the container's own process, and not at once: containerd begins to listen after the start, and dockerd may
    hear of an end before it hears why, with any runtime."""
    over.up(flags=("--memory", "20m", "--memory-swap", "20m"))
    assert over.docker("exec", "one", "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1").status == 137
    told = ("events", "--since", "0", "--filter", "container=one", "--filter", "event=oom")
    eventually(lambda: " oom " in over.docker.ok(*told, "--until", str(time.time())), what="dockerd tells of it")
    over.docker.ok("kill", "one")
    over.docker.ok("wait", "one")
    assert over.docker.state("one")["OOMKilled"]


def test_stats_and_top_look_inside(over: Over) -> None:
    over.up(flags=("--memory", "40m"))
    stats = json.loads(over.docker.ok("stats", "--no-stream", "--format", "{{json .}}", "one"))
    assert stats["PIDs"] == "1"
    assert stats["MemUsage"].endswith("40MiB")
    assert "sleep 1000" in over.docker.ok("top", "one")


def test_logs_keep_both_streams_in_order(over: Over) -> None:
    over.docker.ok(*over.words("sh", "-c", "for i in 1 2 3; do echo o$i; done; echo e >&2", flags=("--name", "one")))
    done = over.docker("logs", "one")
    assert (done.out, done.err) == ("o1\no2\no3\n", "e\n")


def test_init_reaps_and_passes_signals(over: Over) -> None:
    over.up("sh", "-c", "(sleep 0.05 &) ; exec sleep 1000", flags=("--init",))
    assert "docker-init" in over.docker.ok("exec", "one", "cat", "/proc/1/cmdline").replace("\0", " ")
    eventually(lambda: "Z" not in over.docker.ok("exec", "one", "sh", "-c", "cat /proc/[0-9]*/stat | cut -d' ' -f3"))
    over.docker.ok("stop", "one")
    assert over.docker.state("one")["ExitCode"] == 143


def test_restart_policy_and_a_second_start(over: Over) -> None:
    over.docker.ok(*over.words("false", flags=("-d", "--name", "one", "--restart", "on-failure:2")))
    eventually(lambda: not over.docker.running("one") and over.docker.inspect("one")["RestartCount"] == 2)
    over.docker.ok("start", "one")


def test_what_confines_is_as_the_flags_say(over: Over, scratch: str) -> None:
    os.makedirs(f"{scratch}/volume", exist_ok=True)
    with open(f"{scratch}/volume/file", "w") as file:
        file.write("shared\n")
    script = (
        "cat /vol/file; touch /vol/x 2>/dev/null || echo ro; touch /x 2>/dev/null || echo ro; touch /scratch/x && "
        "hostname; id -u; id -G; grep CapBnd /proc/self/status; grep -E 'NoNewPrivs|Seccomp:' /proc/self/status; "
        "ulimit -n; cat /proc/sys/net/ipv4/ip_default_ttl; cat /proc/self/oom_score_adj; [ -c /dev/zz ] && echo device"
    )
    flags = ("--rm", "-v", f"{scratch}/volume:/vol:ro", "--read-only", "--cap-drop", "all", "--cap-add", "kill",
             "--user", "1000:50", "--group-add", "77", "--tmpfs", "/scratch:mode=1777", "--hostname", "named",
             "--security-opt", "no-new-privileges", "--ulimit", "nofile=100:200", "--oom-score-adj", "321",
             "--sysctl", "net.ipv4.ip_default_ttl=77", "--device", "/dev/zero:/dev/zz:r")  # fmt: skip
    assert over.docker.ok(*over.words("sh", "-c", script, flags=flags)).split("\n") == [
        "shared", "ro", "ro", "named", "1000", "50 77", "CapBnd:\t0000000000000020", "NoNewPrivs:\t1", "Seccomp:\t2",
        "100", "77", "321", "device"
    ]  # fmt: skip


def test_namespaces_are_shared_with_the_host_and_other_containers(over: Over) -> None:
    # Not --privileged: it wants capabilities that this kind of machine has not, from runc too.
    over.up(flags=("--pid", "host"))
    assert over.docker.ok("exec", "one", "readlink", "/proc/self/ns/pid") == os.readlink("/proc/self/ns/pid")
    shared = ("--rm", "--network", "container:one", "--ipc", "host", "--uts", "host")
    script = "readlink /proc/self/ns/net"
    assert over.docker.ok(*over.words("sh", "-c", script, flags=shared)) == over.docker.ok(
        "exec", "one", *script.split()
    )


def test_files_go_in_and_out(over: Over, scratch: str) -> None:
    over.up()
    with open(f"{scratch}/in", "w") as file:
        file.write("copied")
    over.docker.ok("cp", f"{scratch}/in", "one:/tmp/in")
    assert over.docker.ok("exec", "one", "cat", "/tmp/in") == "copied"
    assert "A /tmp/in" in over.docker.ok("diff", "one").split("\n")


COUNT = "i=0; while :; do i=$((i+1)); echo $i; usleep 50000; done"


def counted(over: Over) -> int:
    """The last number that the container has written."""
    lines = over.docker.ok("logs", "one").split()
    return int(lines[-1]) if lines else 0


@pytest.fixture
def criu() -> None:
    if newer.command("criu") is None:
        leave_out("needs criu (scripts/peers unpacks it from Debian sid)")


def test_a_checkpoint_ends_the_container_and_start_goes_on_from_it(over: Over, criu: None) -> None:
    over.up("sh", "-c", COUNT)
    eventually(lambda: counted(over) > 3)
    over.docker.ok("checkpoint", "create", "one", "first")
    eventually(lambda: not over.docker.running("one"))
    reached = counted(over)
    assert over.docker.ok("checkpoint", "ls", "one").split()[-1] == "first"
    over.collect()
    over.docker.ok("start", "--checkpoint", "first", "one")
    eventually(lambda: counted(over) > reached + 3)
    # A shell that began anew would have counted from 1 again.
    assert [int(word) for word in over.docker.ok("logs", "one").split()].count(1) == 1
    # Its network is made again by dockerd's own hook, which the runtime runs at the restore.
    address = over.docker.inspect("one")["NetworkSettings"]["IPAddress"]
    assert address and address in over.docker.ok("exec", "one", "cat", "/proc/net/fib_trie")
    over.docker.ok("checkpoint", "rm", "one", "first")
    assert "first" not in over.docker.ok("checkpoint", "ls", "one")


def test_a_checkpoint_may_leave_the_container_running(over: Over, criu: None) -> None:
    over.up("sh", "-c", COUNT)
    eventually(lambda: counted(over) > 3)
    over.docker.ok("checkpoint", "create", "--leave-running", "one", "first")
    reached = counted(over)
    eventually(lambda: counted(over) > reached + 3)
    assert over.docker.running("one")


def test_nothing_is_left_when_containers_are_gone(over: Over, machine: Machine) -> None:
    before = machine.processes(), machine.cgroups(), machine.mounts()
    over.docker.ok(*over.words("true", flags=("--rm",)))
    over.up()
    over.docker.ok("rm", "-f", "one")
    eventually(lambda: machine.processes() == before[0] and machine.mounts() == before[2], what="processes and mounts")
    assert [path for path in machine.cgroups() if path not in before[1] and not path.endswith("/docker")] == []
