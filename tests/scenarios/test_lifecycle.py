"""The life of a container: ps, inspect, exec, wait, stop, kill, restart, rm."""

from __future__ import annotations

import json
import os
import time

import pytest
from tests.peers.client import Docker
from tests.peers.engines import BRIDGE_ADDRESS, Engine
from tests.peers.waiting import eventually

from sampan.containerd.snapshots import erofs

PATIENT = ("sh", "-c", "trap 'exit 14' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done")


def ready(docker: Docker, name: str) -> None:
    """Waits until a `PATIENT` container has set its traps."""
    eventually(lambda: "ready" in docker.ok("logs", name), what=f"{name} is ready")


def rows(docker: Docker, *arguments: str) -> list[dict[str, str]]:
    """A listing command's rows as docker formats them."""
    return [json.loads(line) for line in docker.ok(*arguments, "--format", "{{json .}}").splitlines()]


def test_ps_shows_the_running_and_ps_a_all(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "going", "--label", "kind=x", "busybox", "sleep", "100")
    docker("run", "--name", "ended", "busybox", "sh", "-c", "exit 3")
    docker.ok("create", "--name", "made", "busybox", "true")
    assert [row["Names"] for row in rows(docker, "ps")] == ["going"]
    shown = {row["Names"]: row for row in rows(docker, "ps", "-a", "--no-trunc")}
    assert set(shown) == {"going", "ended", "made"}
    assert shown["going"]["Status"].startswith("Up ") and shown["going"]["State"] == "running"
    assert shown["ended"]["Status"].startswith("Exited (3) ") and shown["ended"]["State"] == "exited"
    assert shown["made"]["Status"] == "Created" and shown["made"]["State"] == "created"
    assert shown["going"]["Image"] == "busybox" and shown["going"]["Command"] == '"sleep 100"'
    assert shown["going"]["ID"] == docker.inspect("going")["Id"]
    assert "kind=x" in shown["going"]["Labels"].split(",")


def test_ps_filters_by_name_status_label_exit_code_and_ancestor(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "going", "--label", "kind=x", "busybox", "sleep", "100")
    docker("run", "--name", "ended", "configured", "x")
    docker("run", "--name", "failed", "busybox", "sh", "-c", "exit 3")

    def names(*filters: str) -> set[str]:
        flags = [word for one in filters for word in ("--filter", one)]
        return set(docker.ok("ps", "-a", "--format", "{{.Names}}", *flags).split())

    assert names("name=go") == {"going"}
    assert names("status=exited") == {"ended", "failed"}
    assert names("label=kind") == names("label=kind=x") == {"going"}
    assert names("exited=3") == {"failed"}
    assert names("ancestor=configured") == {"ended"}
    assert names("status=exited", "exited=0") == {"ended"}
    assert docker.ok("ps", "-n", "1", "--format", "{{.Names}}") == "failed"


def test_inspect_tells_state_configuration_and_network(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "known", "-e", "A=b", "-m", "64m", "--restart", "no", "-v", "/kept",
              "--hostname", "box", "busybox", "sleep", "100")  # fmt: skip
    seen = docker.inspect("known")
    assert seen["Path"] == "sleep" and seen["Args"] == ["100"]
    assert seen["State"]["Status"] == "running" and seen["State"]["Running"] is True
    assert os.path.exists(f"/proc/{seen['State']['Pid']}")
    assert seen["State"]["ExitCode"] == 0 and seen["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    assert seen["State"]["StartedAt"] >= seen["Created"] > "2020"
    assert seen["Config"]["Image"] == "busybox" and "A=b" in seen["Config"]["Env"]
    assert seen["Config"]["Hostname"] == "box" and seen["Config"]["Cmd"] == ["sleep", "100"]
    assert seen["HostConfig"]["Memory"] == 64 << 20
    assert seen["HostConfig"]["NetworkMode"] in ("default", "bridge")
    assert seen["Image"] == docker.inspect("image", "busybox")["Id"]
    assert [(m["Type"], m["Destination"], m["RW"]) for m in seen["Mounts"]] == [("volume", "/kept", True)]
    network = seen["NetworkSettings"]["Networks"]["bridge"]
    assert network["Gateway"] == BRIDGE_ADDRESS and network["IPPrefixLen"] == 24 and network["MacAddress"]
    assert docker.ok("inspect", "-f", "{{.Name}} {{.State.Status}}", "known") == "/known running"


def test_inspect_of_an_ended_container_has_status_and_times(docker: Docker) -> None:
    # dockerd writes StartedAt down after the start: a quicker end would come before it
    docker("run", "--name", "ended", "busybox", "sh", "-c", "sleep 0.2; exit 3")
    state = docker.state("ended")
    assert (state["Status"], state["Running"], state["Pid"], state["ExitCode"]) == ("exited", False, 0, 3)
    assert state["FinishedAt"] >= state["StartedAt"] > "2020"


def test_a_container_is_found_by_name_full_and_short_id(docker: Docker) -> None:
    identity = docker.ok("create", "--name", "found", "busybox", "true")
    for reference in ("found", identity, identity[:12], identity[:5]):
        assert docker.inspect(reference)["Id"] == identity


def test_exec_runs_in_the_container_with_its_own_streams_and_status(docker: Docker, engine_kind: str) -> None:
    docker.ok("run", "-d", "--name", "box", "--hostname", "box", "-e", "A=b", "-w", "/tmp", "busybox", "sleep", "100")
    outcome = docker("exec", "box", "sh", "-c", "echo $A $PWD $(hostname); echo err >&2; exit 17")
    assert outcome == (17, "b /tmp box\n", "err\n")
    # dockerd 20.10 does not tell "not found" from "not executable" here; later ones do
    assert docker("exec", "box", "no-such-program").status == (126 if engine_kind == "dockerd" else 127)
    assert docker("exec", "box", "/etc/not-executable").status == 126
    assert docker("exec", "-i", "box", "cat", stdin="through\n").out == "through\n"


def test_exec_takes_user_directory_and_environment(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "box", "busybox", "sleep", "100")
    script = "echo $(id -u):$(id -g):$PWD:$A:$HOME"
    seen = docker.ok("exec", "-u", "tester", "-w", "/var", "-e", "A=given", "box", "sh", "-c", script)
    assert seen == "1000:1000:/var:given:/home/tester"


def test_exec_d_returns_at_once_and_the_process_goes_on(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "box", "busybox", "sleep", "100")
    assert docker("exec", "-d", "box", "sh", "-c", "echo done > /tmp/mark; sleep 50") == (0, "", "")
    eventually(lambda: docker("exec", "box", "cat", "/tmp/mark").out == "done\n")
    assert "sleep 50" in docker.ok("exec", "box", "ps")


def test_exec_it_is_a_terminal_of_its_own(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "box", "busybox", "sleep", "100")
    with docker.terminal("exec", "-it", "box", "sh", rows=31, columns=77) as terminal:
        terminal.expect("# ")
        terminal.type("test -t 1 && echo yes-$((1+1))\n")
        terminal.expect(r"yes-2\r\n")

        def size() -> bool:
            terminal.type("stty size\n")
            return terminal.expect(r"\n(\d+ \d+)\r\n").group(1) == "31 77"

        eventually(size)
        terminal.type("exit 8\n")
        assert terminal.end() == 8
    assert docker.running("box")


def test_exec_has_the_container_s_confinement(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "box", "--cap-drop", "CHOWN", "busybox", "sleep", "100")
    rows_wanted = "grep -E '^(Cap(Bnd|Eff|Prm)|Seccomp|NoNewPrivs)' /proc/%s/status"

    def inside(script: str) -> str:
        return docker.ok("exec", "box", "sh", "-c", script)

    assert inside(rows_wanted % "self") == inside(rows_wanted % "1")
    assert inside("cat /proc/self/cgroup") == inside("cat /proc/1/cgroup")


def test_exec_privileged_gets_more(docker: Docker, engine_kind: str) -> None:
    if engine_kind == "dockerd":
        pytest.skip("dockerd asks for every capability the kernel knows, and this host lacks some")
    docker.ok("run", "-d", "--name", "box", "busybox", "sleep", "100")
    plain = docker.ok("exec", "box", "grep", "CapEff", "/proc/self/status")
    assert int(docker.ok("exec", "--privileged", "box", "grep", "CapEff", "/proc/self/status").split()[1], 16) > int(
        plain.split()[1], 16
    )


def test_exec_in_a_container_that_does_not_run_is_refused(docker: Docker) -> None:
    docker.ok("create", "--name", "still", "busybox", "true")
    outcome = docker("exec", "still", "true")
    assert outcome.status == 1
    identity = docker.inspect("still")["Id"]
    assert f"container {identity} is not running" in outcome.err.lower()


def test_wait_blocks_until_the_end_and_prints_the_status(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "ending", *("busybox", *PATIENT))
    ready(docker, "ending")
    waiter = docker.start("wait", "ending")
    docker.ok("kill", "-s", "TERM", "ending")
    out, _ = waiter.communicate(timeout=20)
    assert (waiter.returncode, out) == (0, b"14\n")
    assert docker.ok("wait", "ending") == "14"


def test_stop_sends_sigterm_and_waits(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "polite", "busybox", *PATIENT)
    ready(docker, "polite")
    assert docker.ok("stop", "polite") == "polite"
    assert docker.state("polite")["ExitCode"] == 14


def test_stop_kills_what_does_not_listen(docker: Docker) -> None:
    docker.ok(
        "run", "-d", "--name", "deaf", "busybox", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    )
    ready(docker, "deaf")
    began = time.monotonic()
    docker.ok("stop", "-t", "1", "deaf")
    assert 0.9 < time.monotonic() - began < 8
    assert docker.state("deaf")["ExitCode"] == 137


def test_stop_uses_the_stop_signal_of_image_and_user(docker: Docker) -> None:
    script = "trap 'exit 44' USR1; trap 'exit 45' INT; echo ready; while :; do sleep 0.05; done"
    docker.ok("run", "-d", "--name", "image", "--entrypoint", "sh", "configured", "-c", script)
    docker.ok("run", "-d", "--name", "user", "--stop-signal", "INT", "busybox", "sh", "-c", script)
    for name, status in (("image", 44), ("user", 45)):
        ready(docker, name)
        docker.ok("stop", name)
        assert docker.state(name)["ExitCode"] == status


def test_stop_of_a_stopped_container_changes_nothing(docker: Docker) -> None:
    docker("run", "--name", "ended", "busybox", "sh", "-c", "exit 3")
    before = docker.state("ended")
    docker.ok("stop", "ended")
    assert docker.state("ended") == before


def test_kill_sends_the_signal_it_is_told(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "hit", "busybox", *PATIENT)
    ready(docker, "hit")
    docker.ok("kill", "--signal", "USR1", "hit")
    eventually(lambda: "usr1" in docker.ok("logs", "hit"))
    assert docker.running("hit")
    docker.ok("kill", "-s", "SIGUSR1", "hit")
    docker.ok("kill", "-s", "15", "hit")
    eventually(lambda: not docker.running("hit"))
    assert docker.state("hit")["ExitCode"] == 14


def test_kill_without_a_signal_is_sigkill_and_128_plus_9_the_status(docker: Docker) -> None:
    client = docker.start("run", "--name", "shot", "busybox", "sleep", "100")
    eventually(lambda: docker("inspect", "-f", "{{.State.Running}}", "shot").out == "true\n")
    docker.ok("kill", "shot")
    client.communicate(timeout=20)
    assert client.returncode == 137
    assert docker.state("shot")["ExitCode"] == 137


def test_kill_of_what_does_not_run_is_refused(docker: Docker) -> None:
    identity = docker.ok("create", "--name", "still", "busybox", "true")
    outcome = docker("kill", "still")
    assert outcome.status == 1
    assert f"container {identity} is not running" in outcome.err.lower()


def test_restart_gives_a_new_process_and_keeps_the_files(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "again", "busybox", "sh", "-c", "echo life >> /lives; exec sleep 100")
    first = docker.state("again")["Pid"]
    docker.ok("restart", "-t", "0", "again")
    assert docker.running("again") and docker.state("again")["Pid"] != first
    eventually(lambda: docker.ok("exec", "again", "cat", "/lives") == "life\nlife")


def test_an_ended_container_starts_again_with_its_files(docker: Docker) -> None:
    docker.ok("run", "--name", "twice", "busybox", "sh", "-c", "echo x >> /marks; wc -l < /marks")
    assert docker.ok("start", "-a", "twice") == "2"
    assert docker.ok("logs", "twice") == "1\n2"


def test_start_a_passes_the_exit_status_on(docker: Docker) -> None:
    docker.ok("create", "--name", "later", "-i", "busybox", "sh", "-c", "read x; exit $x")
    assert docker("start", "-ai", "later", stdin="23\n").status == 23


def test_rm_refuses_a_running_container_unless_forced(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "going", "busybox", "sleep", "100")
    outcome = docker("rm", "going")
    assert outcome.status == 1
    assert "container is running" in outcome.err or "cannot remove a running container" in outcome.err
    assert docker.running("going")
    assert docker.ok("rm", "-f", "going") == "going"
    assert docker("inspect", "going").status == 1


def test_rm_v_removes_anonymous_volumes_and_rm_alone_keeps_them(docker: Docker) -> None:
    def volumes() -> set[str]:
        return set(docker.ok("volume", "ls", "-q").split())

    before = volumes()
    docker.ok("create", "--name", "one", "configured")
    docker.ok("create", "--name", "two", "configured")
    made = volumes() - before
    assert len(made) == 2
    docker.ok("rm", "-v", "one")
    docker.ok("rm", "two")
    (kept,) = volumes() - before
    assert kept in made
    docker.ok("volume", "rm", kept)


def test_a_taken_name_is_a_conflict_that_names_the_holder(docker: Docker) -> None:
    holder = docker.ok("create", "--name", "taken", "busybox", "true")
    outcome = docker("run", "--name", "taken", "busybox", "true")
    assert outcome.status == 125
    text = f'Conflict. The container name "/taken" is already in use by container "{holder}"'
    assert text in outcome.err


def test_version_and_info_describe_the_engine(docker: Docker, engine: Engine) -> None:
    version = json.loads(docker.ok("version", "--format", "{{json .}}"))
    assert version["Server"]["Os"] == "linux" and version["Server"]["KernelVersion"] == os.uname().release
    assert version["Server"]["MinAPIVersion"] <= "1.24"
    docker.ok("run", "-d", "busybox", "sleep", "100")
    docker.ok("create", "busybox", "true")
    info = json.loads(docker.ok("info", "--format", "{{json .}}"))
    assert (info["Containers"], info["ContainersRunning"], info["ContainersStopped"]) == (2, 1, 1)
    assert info["Images"] >= 2 and info["NCPU"] == os.cpu_count() and info["DockerRootDir"] == engine.root
    assert "runc" in info["Runtimes"] and {"bridge", "host", "null"} <= set(info["Plugins"]["Network"])
    assert info["KernelVersion"] == os.uname().release and info["Driver"] == expected_driver(engine)


def expected_driver(engine: Engine) -> str:
    """Of an engine that was told nothing: ours mounts layers unpacked where the kernel can, and only there."""
    if engine.kind == "dockerd":
        return "overlay2"
    return "overlayfs" if erofs.probe(engine.root) else "erofs"


def test_rename_and_the_name_of_a_removed_container_is_free_again(docker: Docker) -> None:
    docker.ok("create", "--name", "old", "busybox", "true")
    docker.ok("rename", "old", "new")
    docker.ok("create", "--name", "old", "busybox", "true")
    assert docker("create", "--name", "new", "busybox", "true").status == 1
    docker.ok("rm", "new")
    docker.ok("create", "--name", "new", "busybox", "true")


def test_restart_policy_on_failure_tries_again_as_often_as_told(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "stubborn", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo try; exit 1")
    eventually(lambda: docker.inspect("stubborn")["RestartCount"] == 2 and not docker.running("stubborn"))
    eventually(lambda: docker.ok("logs", "stubborn") == "try\ntry\ntry")


def test_top_lists_the_processes(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "box", "busybox", "sleep", "1234")
    table = docker.ok("top", "box").splitlines()
    assert table[0].split()[:2] == ["UID", "PID"]
    assert table[1].split()[1] == str(docker.state("box")["Pid"]) and table[1].endswith("sleep 1234")


def test_pause_stops_the_clock_of_a_container(docker: Docker) -> None:
    docker.ok("run", "-d", "--name", "box", "busybox", "sleep", "100")
    docker.ok("pause", "box")
    state = docker.state("box")
    assert (state["Status"], state["Paused"], state["Running"]) == ("paused", True, True)
    assert docker("exec", "box", "true").status == 1
    docker.ok("unpause", "box")
    assert docker.ok("exec", "box", "echo", "back") == "back"


def test_cp_carries_files_in_and_out(docker: Docker, tmp_path: str) -> None:
    docker.ok("run", "-d", "--name", "box", "busybox", "sleep", "100")
    with open(f"{tmp_path}/in", "w") as file:
        file.write("carried")
    docker.ok("cp", f"{tmp_path}/in", "box:/tmp/there")
    assert docker.ok("exec", "box", "cat", "/tmp/there") == "carried"
    docker.ok("cp", "box:/etc/passwd", f"{tmp_path}/out")
    with open(f"{tmp_path}/out") as file:
        assert file.readline() == "root:x:0:0:root:/root:/bin/sh\n"


def test_what_a_container_without_a_terminal_does_with_a_size_is_nothing(docker: Docker, engine: Engine) -> None:
    docker.ok("run", "-d", "--name", "one", "busybox", "sleep", "100")
    assert engine.request("POST", "/containers/one/resize?h=10&w=20")[0] == 200


@pytest.mark.parametrize(
    ("options", "label"),
    [(("--pid", "host"), True), (("--ipc", "host"), True), (("--privileged",), True), ((), False)],
)
def test_what_shares_the_host_s_processes_has_no_label(docker: Docker, options: tuple[str, ...], label: bool) -> None:
    docker.ok("create", "--name", "one", *options, "busybox", "true")
    assert docker.inspect("one")["HostConfig"]["SecurityOpt"] == (["label=disable"] if label else None)


def test_the_host_s_uts_namespace_does_not_rename_the_container(docker: Docker) -> None:
    docker.ok("create", "--name", "one", "--uts", "host", "busybox", "true")
    found = docker.inspect("one")
    assert found["Config"]["Hostname"] == found["Id"][:12]
