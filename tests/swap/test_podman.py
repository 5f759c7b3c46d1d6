"""podman with `--runtime`: what it does with Debian's runc it does with sampan-runc."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from tests.peers.machine import Machine
from tests.peers.podman import Podman
from tests.peers.waiting import eventually

pytestmark = pytest.mark.needs("podman", "conmon")

IMAGE = "localhost/busybox:latest"


@pytest.fixture(scope="module")
def installed(machine: Machine, scratch: str, runtime: str, layout: str) -> Iterator[Podman]:
    made = Podman(machine, f"{scratch}/podman{os.path.basename(runtime)}", runtime)
    identity = made.ok("pull", "-q", f"oci:{layout}")
    made.ok("tag", identity, IMAGE)
    yield made
    made.end()


@pytest.fixture
def podman(installed: Podman) -> Iterator[Podman]:
    yield installed
    installed.tidy()


def run(*command: str, flags: tuple[str, ...] = ()) -> tuple[str, ...]:
    return ("run", "--network", "none", *flags, IMAGE, *command)


def test_run_gives_output_and_exit_code(podman: Podman) -> None:
    done = podman(*run("sh", "-c", "echo out; echo err >&2; exit 42", flags=("--rm",)))
    assert (done.status, done.out, done.err) == (42, "out\n", "err\n")


def test_run_passes_standard_input(podman: Podman) -> None:
    assert podman.ok(*run("cat", flags=("--rm", "-i")), stdin="to the container") == "to the container"


def test_a_program_that_is_missing_is_127_and_one_that_is_not_executable_126(podman: Podman) -> None:
    missing = podman(*run("nonesuch", flags=("--rm",)))
    assert missing.status == 127
    assert 'exec: "nonesuch": executable file not found in $PATH' in missing.err.replace('\\"', '"')
    assert podman(*run("/etc/not-executable", flags=("--rm",))).status == 126


def test_a_terminal_works_like_a_terminal(podman: Podman) -> None:
    with podman.terminal(*run("sh", flags=("--rm", "-it")), rows=31, columns=97) as screen:
        screen.expect("# ")
        screen.type("tty; stty size; exit 7\n")
        screen.expect("/dev/pts/0\r\n31 97\r\n")
        assert screen.end() == 7


def test_exec_runs_beside_and_reports_its_code(podman: Podman) -> None:
    podman.ok(*run("sleep", "1000", flags=("-d", "--name", "one")))
    done = podman("exec", "--env", "A=b", "--workdir", "/tmp", "one", "sh", "-c", "echo $A $PWD; exit 3")
    assert (done.status, done.out) == (3, "b /tmp\n")
    assert podman.ok("exec", "--user", "tester", "one", "id", "-un") == "tester"
    assert podman("exec", "one", "nonesuch").status == 127
    assert podman.ok("exec", "-i", "one", "cat", stdin="through") == "through"
    with podman.terminal("exec", "-it", "one", "tty") as screen:
        screen.expect("/dev/pts/0")
        assert screen.end() == 0


def test_pause_stops_everything_until_unpause(podman: Podman) -> None:
    podman.ok(*run("sh", "-c", "while :; do echo tick; usleep 20000; done", flags=("-d", "--name", "one")))
    podman.ok("pause", "one")
    assert podman.ok("ps", "--all", "--format", "{{.Status}}").startswith("Paused")
    before = podman.ok("logs", "one")
    assert podman.ok("logs", "one") == before
    podman.ok("unpause", "one")
    eventually(lambda: len(podman.ok("logs", "one")) > len(before))


def test_stats_and_top_look_inside(podman: Podman) -> None:
    podman.ok(*run("sleep", "1000", flags=("-d", "--name", "one", "--memory", "40m")))
    stats = json.loads(podman.ok("stats", "--no-stream", "--format", "json", "one"))[0]
    assert stats["pids"] in (1, "1")
    assert "41.94MB" in stats["mem_usage"]
    assert "sleep 1000" in podman.ok("top", "one")


def test_limits_are_set_and_updated(podman: Podman) -> None:
    read = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/cpu/cpu.shares"
    podman.ok(*run("sleep", "1000", flags=("-d", "--name", "one", "--memory", "40m", "--pids-limit", "33",
                                            "--cpu-shares", "300")))  # fmt: skip
    assert podman.ok("exec", "one", "sh", "-c", read).split() == ["41943040", "33", "300"]
    podman.ok("update", "--memory", "50m", "--cpu-shares", "600", "one")
    assert podman.ok("exec", "one", "sh", "-c", read).split() == ["52428800", "33", "600"]


def test_stop_kill_wait_and_restart(podman: Podman) -> None:
    podman.ok(*run("sh", "-c", "trap 'exit 5' TERM; echo up; while :; do usleep 10000; done",
                   flags=("-d", "--name", "one")))  # fmt: skip
    eventually(lambda: podman.ok("logs", "one") == "up")
    podman.ok("stop", "one")
    assert podman.ok("wait", "one") == "5"
    podman.ok("start", "one")
    podman.ok("kill", "--signal", "KILL", "one")
    assert podman.ok("wait", "one") == "137"
    podman.ok("restart", "one")
    assert podman.ok("inspect", "--format", "{{.State.Status}}", "one") == "running"


def test_a_health_check_is_an_exec(podman: Podman) -> None:
    podman.ok(*run("sleep", "1000", flags=("-d", "--name", "one", "--health-cmd", "test -e /tmp/well",
                                            "--health-interval", "disable")))  # fmt: skip
    assert podman("healthcheck", "run", "one").status == 1
    podman.ok("exec", "one", "touch", "/tmp/well")
    assert podman("healthcheck", "run", "one").status == 0
    assert podman.ok("inspect", "--format", "{{.State.Health.Status}}", "one") == "healthy"


def test_a_pod_shares_its_namespaces(podman: Podman) -> None:
    podman.ok("pod", "create", "--name", "pod", "--infra-image", IMAGE, "--infra-command", "sleep 1000",
              "--network", "none", "--hostname", "shared")  # fmt: skip
    for name in ("one", "two"):
        podman.ok("run", "-d", "--pod", "pod", "--name", name, IMAGE, "sleep", "1000")
    assert podman.ok("pod", "inspect", "--format", "{{.State}}", "pod") == "Running"
    for kind in ("net", "ipc", "uts"):
        links = {podman.ok("exec", name, "readlink", f"/proc/self/ns/{kind}") for name in ("one", "two")}
        assert len(links) == 1
    assert podman.ok("exec", "two", "hostname") == "shared"
    podman.ok("pod", "pause", "pod")
    podman.ok("pod", "unpause", "pod")
    podman.ok("pod", "stop", "--time", "1", "pod")
    podman.ok("pod", "rm", "pod")


def test_a_container_with_an_automatic_user_namespace(podman: Podman, machine: Machine, scratch: str) -> None:
    for name in ("subuid", "subgid"):
        with open(f"{scratch}/{name}", "w") as file:
            file.write("containers:200000:131072\n")
        if f" /etc/{name}" not in "\n".join(machine.mounts()):
            machine.run(["sh", "-c", f"touch /etc/{name}; mount --bind {scratch}/{name} /etc/{name}"])
    done = podman(*run("sh", "-c", "cat /proc/self/uid_map; id -u", flags=("--rm", "--userns", "auto")))
    assert done.status == 0, done
    inside, outside, size, *rest = done.out.split()
    assert (inside, rest[-1]) == ("0", "0")
    assert 200000 <= int(outside) < int(outside) + int(size) <= 200000 + 131072, "of the ranges in /etc/subuid"


def test_volumes_capabilities_users_and_read_only_roots(podman: Podman, scratch: str) -> None:
    os.makedirs(f"{scratch}/volume", exist_ok=True)
    with open(f"{scratch}/volume/file", "w") as file:
        file.write("shared\n")
    flags = ("--rm", "--volume", f"{scratch}/volume:/vol:ro", "--read-only", "--cap-drop", "all", "--cap-add", "kill",
             "--user", "1000:50", "--tmpfs", "/scratch", "--hostname", "named", "--security-opt", "no-new-privileges",
             "--ulimit", "nofile=100:200", "--ulimit", "nproc=1000:1000",
             "--sysctl", "net.ipv4.ip_default_ttl=77")  # fmt: skip
    script = (
        "cat /vol/file; touch /vol/x 2>/dev/null || echo ro; touch /x 2>/dev/null || echo ro; touch /scratch/x && "
        "hostname; id -u; id -g; grep CapBnd /proc/self/status; grep NoNewPrivs /proc/self/status; ulimit -n; "
        "cat /proc/sys/net/ipv4/ip_default_ttl"
    )
    assert podman.ok(*run("sh", "-c", script, flags=flags)).split("\n") == [
        "shared", "ro", "ro", "named", "1000", "50", "CapBnd:\t0000000000000020", "NoNewPrivs:\t1", "100", "77"
    ]  # fmt: skip


def test_nothing_is_left_when_containers_are_gone(podman: Podman, machine: Machine) -> None:
    before = machine.processes(), [path for path in machine.cgroups() if "libpod" in path and "conmon" not in path]
    podman.ok(*run("true", flags=("--rm",)))
    podman.ok(*run("sleep", "1000", flags=("-d", "--name", "one")))
    podman.ok("rm", "--force", "--time", "0", "one")
    eventually(lambda: machine.processes() == before[0], what="no process is left")
    now = [path for path in machine.cgroups() if "libpod" in path and "conmon" not in path]
    assert set(now) - set(before[1]) <= {path for path in now if path.endswith("libpod_parent")}


def test_podman_knows_the_runtime_by_its_path(podman: Podman, runtime: str) -> None:
    info = json.loads(podman.ok("info", "--format", "json"))
    assert info["host"]["ociRuntime"]["path"] == runtime
    shown = subprocess.run([runtime, "--version"], capture_output=True, text=True).stdout
    assert shown.split("\n")[0] in info["host"]["ociRuntime"]["version"]
