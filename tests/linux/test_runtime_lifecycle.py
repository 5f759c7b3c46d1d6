"""The verbs after `run`, on the real kernel; on Debian's runc first wherever it can do the same."""

from __future__ import annotations

import array
import json
import os
import re
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.linux.runtimes import COMMANDS, UNIFIED, Runtime

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]


@pytest.fixture(params=[pytest.param("runc", marks=pytest.mark.needs("runc")), "sampan-runc"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    made = Runtime(request.param, str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Runtime]:
    made = Runtime("sampan-runc", str(tmp_path))
    yield made
    made.close()


def eventually(check: Callable[[], bool], patience: float = 10.0) -> None:
    deadline = time.monotonic() + patience
    while not check():
        assert time.monotonic() < deadline, "it did not come about"
        select.select([], [], [], 0.01)


def test_created_running_stopped_gone(runtime: Runtime, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.touch()

    def marked(spec: dict[str, Any]) -> None:
        spec["mounts"].append({"destination": "/mark", "source": str(mark), "options": ["bind"]})
        spec["root"]["readonly"] = False

    assert runtime.create(marked, ["/bin/sh", "-c", "echo ran > /mark; exec sleep 100"]) == 0
    created = runtime.state()
    assert created["status"] == "created"
    assert mark.read_text() == ""
    assert runtime("start", runtime.id).returncode == 0
    eventually(lambda: mark.read_text() == "ran\n")
    running = runtime.state()
    assert (running["status"], running["pid"]) == ("running", created["pid"])
    assert runtime("kill", runtime.id, "KILL").returncode == 0
    eventually(lambda: runtime.state()["status"] == "stopped")
    assert runtime.state()["pid"] == 0
    assert runtime("delete", runtime.id).returncode == 0
    assert runtime.traces() == []


def test_the_state_document_has_runcs_keys_in_runcs_form(runtime: Runtime) -> None:
    def annotated(spec: dict[str, Any]) -> None:
        spec["annotations"] = {"port": "Canton"}

    runtime.background(["/bin/sleep", "100"], annotated)
    text = runtime("state", runtime.id, check=True).stdout
    found = json.loads(text)
    assert list(found) == [
        "ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "annotations", "owner",
    ]  # fmt: skip
    assert text == json.dumps(found, indent=2)
    assert found["bundle"] == runtime.bundle
    assert found["rootfs"] == f"{runtime.bundle}/rootfs"
    assert found["annotations"]["port"] == "Canton"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", found["created"])


def refusals(runtime: Runtime) -> list[tuple[list[str], int, str]]:
    name = runtime.id
    return [
        (["start", name], 1, "cannot start an already running container"),
        (["delete", name], 1, f"cannot delete container {name} that is not stopped: running"),
        (["resume", name], 1, "container not paused"),
        (["run", name], 1, "container with given"),
        (["kill", name, "FOO"], 1, 'unknown signal "FOO"'),
        (["exec", name, "nosuch"], 255, 'exec failed: unable to start container process: exec: "nosuch": '
         "executable file not found in $PATH"),
        (["exec", "--cwd", "/nowhere", name, "/bin/true"], 255, 'exec failed: unable to start container process: '
         'chdir to cwd ("/nowhere") set in config.json failed: no such file or directory'),
        (["state", "nobody"], 1, "container does not exist"),
        (["start", "nobody"], 1, "container does not exist"),
        (["kill", "nobody"], 1, "container does not exist"),
        (["delete", "nobody"], 1, "container does not exist"),
        (["delete", "--force", "nobody"], 0, ""),
        (["list", "-f", "yaml"], 1, "invalid format option"),
        (["state", ""], 1, "container id cannot be empty"),
        (["exec", "--cgroup", "nosuch", name, "true"], 255, "cgroup.procs: no such file or directory"),
        (["exec", "--cgroup", "..", name, "true"], 255, ".. is not a sub cgroup path"),
        (["exec", "--apparmor", "nosuch", name, "true"], 255, "apparmor failed to apply profile: write "),
        (["exec", "--process-label", "nosuch", name, "true"], 255,
         "exec failed: selinux label is specified in config, but selinux is disabled or not supported"),
        (["exec", "--pid-file", "/nosuch/pid", name, "true"], 255,
         "exec failed: open /nosuch/.pid: no such file or directory"),
        (["update", "--memory", "-5", name], 1, "invalid value for memory: invalid size: '-5'"),
        (["update", "--cpu-share", "x", name], 1,
         'invalid value for cpu-share: strconv.ParseUint: parsing "x": invalid syntax'),
        (["update", "--pids-limit", "x", name], 1, 'invalid value "x" for flag -pids-limit: parse error'),
        (["update", "-r", "/nosuch", name], 1, "open /nosuch: no such file or directory"),
        (["sail"], 3, "No help topic for 'sail'"),
        (["state"], 1, 'runc: "state" requires exactly 1 argument(s)'),
        (["state", "a", "b"], 1, 'runc: "state" requires exactly 1 argument(s)'),
    ]  # fmt: skip


def test_what_cannot_be_done_is_refused_in_runcs_words(runtime: Runtime) -> None:
    runtime.background(["/bin/sleep", "100"])
    for words, code, text in refusals(runtime):
        done = runtime(*words)
        assert done.returncode == code, words
        if text:
            assert text in runtime.message(done), words


@pytest.mark.parametrize("name", ["a/b", "..", "a b"])
def test_a_name_that_is_none_is_refused(ours: Runtime, name: str) -> None:
    ours.write()
    done = ours("run", name)
    assert done.returncode == 1
    assert "invalid container ID format" in ours.message(done)


def test_a_bundle_without_spec_or_with_a_broken_one_is_refused(ours: Runtime) -> None:
    assert "JSON specification file config.json not found" in ours.message(ours("run", ours.id))
    for text in ("", "{", '{"process": 1}', "[]", '{"root": {"path": "rootfs"}, "process": {"args": "x"}}'):
        Path(f"{ours.bundle}/config.json").write_text(text)
        done = ours("run", ours.id)
        assert done.returncode == 1
        assert len(done.stderr.strip().split("\n")) == 1, done.stderr
        assert ours.traces() == []


def test_delete_kills_what_was_only_created(runtime: Runtime) -> None:
    runtime.create(None, ["/bin/true"])
    assert runtime("delete", runtime.id).returncode == 0
    assert runtime.traces() == []


def test_delete_by_force_kills_what_runs(runtime: Runtime) -> None:
    runtime.background(["/bin/sleep", "100"])
    assert runtime("delete", "--force", runtime.id).returncode == 0
    assert runtime.traces() == []


def test_exec_runs_beside_the_first_process_as_the_flags_say(runtime: Runtime) -> None:
    runtime.background(["/bin/sleep", "100"])
    done = runtime("exec", "-u", "1000:1000", "-e", "CARGO=tea", "--cwd", "/tmp", runtime.id,
                   "/bin/sh", "-c", "id -u; id -g; echo $CARGO; pwd; ls /proc/self/fd; exit 9")  # fmt: skip
    assert done.returncode == 9
    assert done.stdout.split() == ["1000", "1000", "tea", "/tmp", "0", "1", "2", "3"]


def test_exec_shares_all_namespaces_and_cgroups_with_the_container(runtime: Runtime) -> None:
    def cgroupns(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"].append({"type": "cgroup"})

    state = runtime.background(["/bin/sleep", "100"], cgroupns)
    script = "for n in /proc/self/ns/*; do readlink $n; done"
    inside = set(runtime("exec", runtime.id, "/bin/sh", "-c", script, check=True).stdout.split())
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    assert {os.readlink(f"/proc/{state['pid']}/ns/{kind}") for kind in kinds} <= inside
    init_cgroups = Path(f"/proc/{state['pid']}/cgroup").read_text()
    subprocess.run(
        [*runtime.command, "--root", runtime.root, "exec", "-d", runtime.id, "/bin/sleep", "100"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=20,
    )  # fmt: skip
    pids = json.loads(runtime("ps", "-f", "json", runtime.id, check=True).stdout)
    assert len(pids) == 2
    for pid in pids:
        assert Path(f"/proc/{pid}/cgroup").read_text() == init_cgroups


@pytest.mark.skipif(not UNIFIED, reason="cgroup v1 lets processes into any cgroup")
def test_exec_goes_where_init_has_gone_when_the_container_has_divided_its_cgroup(runtime: Runtime) -> None:
    """As systemd and docker do inside of one: the kernel lets no process into a cgroup that hands controllers down."""

    def writable(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"].append({"type": "cgroup"})
        for mount in spec["mounts"]:
            if mount["type"] == "cgroup":
                mount["options"].remove("ro")

    divide = "cd /sys/fs/cgroup; mkdir init; echo 1 > init/cgroup.procs; echo +memory > cgroup.subtree_control"
    runtime.background(["/bin/sh", "-c", f"{divide}; exec sleep 1000"], writable)
    eventually(lambda: runtime("exec", runtime.id, "cat", "/sys/fs/cgroup/cgroup.subtree_control").stdout == "memory\n")
    done = runtime("exec", runtime.id, "cat", "/proc/self/cgroup", check=True)
    assert done.stdout == "0::/init\n"


def test_exec_with_a_process_file_has_of_the_spec_only_what_confines_it(runtime: Runtime, tmp_path: Path) -> None:
    def scored(spec: dict[str, Any]) -> None:
        spec["process"]["oomScoreAdj"] = 300

    runtime.background(["/bin/sleep", "100"], scored)
    script = "/bin/env; echo $(/bin/cat /proc/self/oom_score_adj); /bin/grep CapBnd /proc/1/status; "
    process = {
        "args": ["/bin/sh", "-c", f"{script} /bin/grep CapBnd /proc/self/status"], "cwd": "/", "env": ["ONLY=this"],
        "user": {"uid": 0, "gid": 0},
    }  # fmt: skip
    (tmp_path / "process.json").write_text(json.dumps(process))
    *env, score, first, second = runtime(
        "exec", "-p", str(tmp_path / "process.json"), runtime.id, check=True
    ).stdout.splitlines()
    own = {"PATH", "PWD", "SHLVL"}  # the shell's
    assert sorted(one for one in env if one.partition("=")[0] not in own) == ["HOME=/root", "ONLY=this"]
    assert (score, first) == ("300", second)


def test_a_container_that_was_only_created_ends_by_a_signal_too(runtime: Runtime) -> None:
    """Although it is process 1 of its namespace, from which the kernel keeps what it has no handler for."""
    assert runtime.create(None, ["/bin/true"]) == 0
    runtime("kill", runtime.id, check=True)
    eventually(lambda: runtime.state()["status"] == "stopped")
    assert runtime("ps", "-f", "json", runtime.id, check=True).stdout == "null\n"


def test_exec_is_confined_as_the_container_is(runtime: Runtime) -> None:
    def confined(spec: dict[str, Any]) -> None:
        spec["linux"]["seccomp"] = {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}],
        }

    runtime.background(["/bin/sleep", "100"], confined)
    status = runtime("exec", runtime.id, "/bin/cat", "/proc/1/status", "/proc/self/status", check=True).stdout
    for name in ("CapEff", "CapBnd", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp"):
        first, second = re.findall(rf"^{name}:\s*(\S+)$", status, re.M)
        assert first == second, name


def test_pause_stops_everything_until_resume(runtime: Runtime) -> None:
    state = runtime.background(["/bin/sleep", "100"])
    assert runtime("pause", runtime.id).returncode == 0
    assert runtime.state()["status"] == "paused"
    done = runtime("exec", runtime.id, "/bin/true")
    assert done.returncode == 255
    assert "paused container" in runtime.message(done)
    assert runtime("resume", runtime.id).returncode == 0
    assert runtime.state() == state


def test_update_changes_limits_and_leaves_the_others(runtime: Runtime) -> None:
    def limited(spec: dict[str, Any]) -> None:
        spec["linux"]["resources"]["pids"] = {"limit": 40}

    runtime.background(["/bin/sleep", "100"], limited)
    runtime(
        "update", "--memory", "67108864", "--memory-swap", "134217728", "--cpu-share", "512", runtime.id, check=True
    )
    if UNIFIED:
        place = Path(f"/sys/fs/cgroup{runtime.cgroup}")
        # runc 1.1 turns shares into another weight than 1.2 and ours.
        assert (place / "cpu.weight").read_text() == ("20\n" if runtime.name == "runc" else "59\n")
        assert (place / "pids.max").read_text() == "40\n"
        assert [(place / f"memory.{name}").read_text() for name in ("max", "swap.max")] == ["67108864\n"] * 2
        runtime("update", "-r", "-", runtime.id, check=True, stdin=None, input='{"memory": {"limit": 33554432}}')
        assert (place / "memory.max").read_text() == "33554432\n"
        assert (place / "pids.max").read_text() == "40\n"
        return
    top = "/sys/fs/cgroup"
    assert Path(f"{top}/cpu{runtime.cgroup}/cpu.shares").read_text() == "512\n"
    assert Path(f"{top}/pids{runtime.cgroup}/pids.max").read_text() == "40\n"
    memory = Path(f"{top}/memory{runtime.cgroup}")
    assert (memory / "memory.limit_in_bytes").read_text() == "67108864\n"
    assert (memory / "memory.memsw.limit_in_bytes").read_text() == "134217728\n"
    runtime("update", "-r", "-", runtime.id, check=True, stdin=None, input='{"memory": {"limit": 33554432}}')
    assert (memory / "memory.limit_in_bytes").read_text() == "33554432\n"
    assert Path(f"{top}/cpu{runtime.cgroup}/cpu.shares").read_text() == "512\n"


def test_a_refused_update_leaves_the_old_limits(runtime: Runtime) -> None:
    def limited(spec: dict[str, Any]) -> None:
        spec["linux"]["resources"] |= {"memory": {"limit": 64 << 20}, "pids": {"limit": 40}}

    runtime.background(["/bin/sleep", "100"], limited)
    if UNIFIED:  # which takes any memory limit, and kills whom it does not hold
        done = runtime("update", "--pids-limit", "30", "--cpuset-cpus", "1000", runtime.id)
        assert done.returncode == 1
        assert Path(f"/sys/fs/cgroup{runtime.cgroup}/pids.max").read_text() == "40\n"
        return
    done = runtime("update", "--memory", "1", runtime.id)
    assert done.returncode == 1
    limit = Path(f"/sys/fs/cgroup/memory{runtime.cgroup}/memory.limit_in_bytes")
    assert limit.read_text() == f"{64 << 20}\n"


@pytest.mark.skipif(not UNIFIED, reason="cgroup v1 refuses such a limit by itself")
def test_a_limit_below_the_usage_is_refused_when_that_is_to_be_checked(tmp_path: Path) -> None:
    """runc 1.1 does not know the field."""
    runtime = Runtime("sampan-runc", str(tmp_path))
    try:
        runtime.background(["/bin/sleep", "100"])
        text = '{"memory": {"limit": 4096, "checkBeforeUpdate": true}}'
        done = runtime("update", "-r", "-", runtime.id, stdin=None, input=text)
        assert done.returncode == 1
        assert "rejecting memory limit 4096 <= usage" in runtime.message(done)
        assert runtime.state()["status"] == "running"
        assert Path(f"/sys/fs/cgroup{runtime.cgroup}/memory.max").read_text() == "max\n"
    finally:
        runtime.close()


def test_list_names_the_containers_of_its_root(runtime: Runtime) -> None:
    assert runtime("list", "-f", "json").stdout == "null\n"
    state = runtime.background(["/bin/sleep", "100"])
    assert json.loads(runtime("list", "-f", "json").stdout) == [state | {"owner": "root"}]
    assert runtime("list", "-q").stdout == f"{runtime.id}\n"
    header, row = runtime("list").stdout.splitlines()
    assert header.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert row.split() == [runtime.id, str(state["pid"]), "running", runtime.bundle, state["created"], "root"]
    assert header.index("BUNDLE") == row.index(runtime.bundle)


def test_ps_shows_the_hosts_ps_for_the_containers_processes(runtime: Runtime) -> None:
    state = runtime.background(["/bin/sleep", "100"])
    header, row = runtime("ps", runtime.id, check=True).stdout.splitlines()
    assert "PID" in header.split()
    assert str(state["pid"]) in row.split()


def test_events_stats_is_one_json_line(runtime: Runtime) -> None:
    runtime.background(["/bin/sleep", "100"])
    event = json.loads(runtime("events", "--stats", runtime.id, check=True).stdout)
    assert (event["type"], event["id"]) == ("stats", runtime.id)
    assert event["data"]["cpu"]["usage"]["total"] > 0
    assert event["data"]["pids"]["current"] == 1
    assert event["data"]["memory"]["usage"]["usage"] > 0
    if UNIFIED:
        assert event["data"]["memory"]["swap"]["usage"] >= event["data"]["memory"]["usage"]["usage"]
        return
    cpus = len(event["data"]["cpu"]["usage"]["percpu"])
    assert len(event["data"]["cpu"]["usage"]["percpu_kernel"]) == len(event["data"]["cpu"]["usage"]["percpu_user"])
    assert len(event["data"]["cpu"]["usage"]["percpu_user"]) == cpus
    cpuset = event["data"]["cpuset"]
    assert cpuset["cpus"] == sorted(os.sched_getaffinity(0))
    assert (cpuset["mems"], cpuset["sched_load_balance"], cpuset["sched_relax_domain_level"]) == ([0], 1, -1)


def test_the_pid_file_has_the_pid(runtime: Runtime, tmp_path: Path) -> None:
    runtime.write(None, ["/bin/sleep", "100"])
    subprocess.run(
        [*runtime.command, "--root", runtime.root, "run", "-d", "--pid-file", str(tmp_path / "pid"), runtime.id],
        cwd=runtime.bundle, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    assert (tmp_path / "pid").read_text() == str(runtime.state()["pid"])


def receive_terminal(path: str, got: list[int]) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        connection, _ = listener.accept()
        with connection:
            _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
    numbers = array.array("i")
    numbers.frombytes(ancillary[0][2])
    got.append(numbers[0])


def test_a_terminal_arrives_at_the_console_socket(runtime: Runtime, tmp_path: Path) -> None:
    def terminal(spec: dict[str, Any]) -> None:
        spec["process"]["terminal"] = True
        spec["process"]["consoleSize"] = {"height": 30, "width": 100}

    got: list[int] = []
    path = str(tmp_path / "s")
    thread = threading.Thread(target=receive_terminal, args=(path, got))
    thread.start()
    eventually(lambda: os.path.exists(path))
    runtime.write(terminal, ["/bin/sh", "-c", "tty; stty size; stat -c %t /dev/console; read x; echo got $x"])
    runtime("run", "-d", "--console-socket", path, runtime.id, check=True)
    thread.join(10)
    master = got[0]
    text = b""
    while b"\n88\r\n" not in text:
        text += os.read(master, 4096)
    os.write(master, b"rope\n")
    while b"got rope" not in text:
        text += os.read(master, 4096)
    os.close(master)
    assert text.replace(b"\r\n", b"\n").startswith(b"/dev/pts/0\n30 100\n88\n")


def test_a_terminal_without_a_place_to_go_is_refused(runtime: Runtime) -> None:
    runtime.write(lambda spec: spec["process"].update(terminal=True))
    done = runtime("create", runtime.id)
    assert done.returncode == 1
    assert "cannot allocate tty if runc will detach without setting console socket" in runtime.message(done)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_spec_writes_an_example_that_runs(name: str, tmp_path: Path) -> None:
    runtime = Runtime(name, str(tmp_path))
    try:
        runtime("spec", check=True)
        assert "File config.json exists. Remove it first" in runtime.message(runtime("spec"))
        config = Path(f"{runtime.bundle}/config.json")
        spec = json.loads(config.read_text())
        assert config.read_text().startswith('{\n\t"ociVersion"')
        spec["process"] |= {"terminal": False, "args": ["/bin/echo", "afloat"]}
        spec["linux"]["cgroupsPath"] = runtime.cgroup
        config.write_text(json.dumps(spec))
        assert runtime("run", runtime.id, check=True).stdout == "afloat\n"
    finally:
        runtime.close()


def test_features_is_the_document_of_the_spec(ours: Runtime) -> None:
    features = json.loads(ours("features", check=True).stdout)
    assert features["ociVersionMax"] == "1.2.0"
    assert {"rro", "ridmap"} <= set(features["mountOptions"])
    assert features["linux"]["mountExtensions"]["idmap"]["enabled"] is True
    assert "SCMP_ARCH_X86_64" in features["linux"]["seccomp"]["archs"]


# features-linux.json of the runtime-spec: a member to its type, a list's to the form of its entries.
FEATURES: dict[str, Any] = {
    "ociVersionMin": str, "ociVersionMax": str, "hooks": r"[a-zA-Z]+", "mountOptions": r"[a-z]+",
    "annotations": {}, "potentiallyUnsafeConfigAnnotations": r"[a-z.]+",
    "linux": {
        "namespaces": r"mount|pid|network|uts|ipc|user|cgroup|time", "capabilities": r"CAP_[A-Z0-9_]+",
        "cgroup": {"v1": bool, "v2": bool, "systemd": bool, "systemdUser": bool, "rdma": bool},
        "seccomp": {
            "enabled": bool, "actions": r"SCMP_ACT_[A-Z_]+", "operators": r"SCMP_CMP_[A-Z_]+",
            "archs": r"SCMP_ARCH_[A-Z0-9_]+", "knownFlags": r"SECCOMP_FILTER_FLAG_[A-Z_]+",
            "supportedFlags": r"SECCOMP_FILTER_FLAG_[A-Z_]+",
        },
        "apparmor": {"enabled": bool}, "selinux": {"enabled": bool}, "intelRdt": {"enabled": bool},
        "mountExtensions": {"idmap": {"enabled": bool}}, "netDevices": {"enabled": bool},
        "memoryPolicy": {"modes": r"MPOL_[A-Z_]+", "flags": r"MPOL_F_[A-Z_]+"},
    },
}  # fmt: skip


def fits(found: Any, form: Any, path: str) -> None:
    if isinstance(form, type):
        assert type(found) is form, path
    elif isinstance(form, str):
        assert found == list(dict.fromkeys(found)), path
        assert [one for one in found if not re.fullmatch(form, one)] == [], path
    else:
        assert not form or set(found) <= set(form), path
        for name, member in found.items():
            fits(member, form.get(name, str), f"{path}.{name}")


def test_features_fits_the_schema_and_leaves_out_nothing_that_runc_has(ours: Runtime) -> None:
    features = json.loads(ours("features", check=True).stdout)
    fits(features, FEATURES, "")
    assert set(features) == set(FEATURES)
    if not shutil.which("runc"):
        return
    runcs = json.loads(subprocess.run(["runc", "features"], capture_output=True, check=True).stdout)
    fits(runcs, FEATURES, "")
    assert set(runcs["mountOptions"]) <= set(features["mountOptions"])
    assert set(runcs["linux"]["capabilities"]) == set(features["linux"]["capabilities"])
    for name in ("enabled", "actions", "operators"):
        assert runcs["linux"]["seccomp"][name] == features["linux"]["seccomp"][name]
    # libseccomp has tables also for machines that sampan does not run on.
    family = {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"}
    assert set(runcs["linux"]["seccomp"]["archs"]) & family == set(features["linux"]["seccomp"]["archs"])
    for name in ("apparmor", "selinux"):
        assert runcs["linux"][name] == features["linux"][name]


def test_the_plan_names_the_field_behind_each_step(ours: Runtime) -> None:
    ours.write()
    lines = ours("create", "--plan", ours.id, check=True).stdout.splitlines()
    assert any(line.startswith("mount type=proc") and line.endswith("# mounts[0]") for line in lines)
    assert any(line.startswith("mask_path path=/proc/acpi") and "linux.maskedPaths[0]" in line for line in lines)
    assert ours.traces() == []


def test_an_explanation_comes_before_what_the_container_says(ours: Runtime) -> None:
    ours.write(None, ["/bin/echo", "here I am"])
    said = ours("run", "--explain", ours.id, check=True).stdout
    assert 0 < said.index("mount proc on /proc") < said.index("become the program") < said.rindex("here I am")
    ours.write(None, ["/bin/nonesuch"])
    done = ours("create", "--explain", ours.id)
    assert (done.returncode, "become the program: /bin/nonesuch" in done.stdout) == (1, True)
    assert ours.traces() == []


def test_debug_tells_each_step_and_how_it_ended(ours: Runtime) -> None:
    """In the log file when there is one, as JSON when that is asked for; nothing of it without --debug."""
    log = f"{ours.bundle}/log"
    ours.write(None, ["/bin/sh", "-c", "exit 3"])
    done = ours("--debug", "--log", log, "--log-format", "json", "run", ours.id)
    assert (done.returncode, done.stderr) == (3, "")
    with open(log) as file:
        entries = [json.loads(line) for line in file]
    assert {entry["level"] for entry in entries} == {"debug"}
    told = [entry["msg"] for entry in entries]
    plan = ours("create", "--plan", ours.id, check=True).stdout.splitlines()
    # The parent sets the limits when init has said that it is ready.
    assert told[-3:-1] == ["ready  # process", "limit name=devices set=allow=no,access=rwm  # linux.resources.devices"]
    assert sorted(told[:-1]) == sorted(plan[: len(told) - 1])
    assert [step for step in plan if step in told and not step.startswith("limit")] == [*told[:-2]]
    assert (told[-1], entries[-1]["status"]) == ("process exited", 3)
    done = ours("--debug", "run", ours.id)
    assert 'level=debug msg="process exited"' in done.stderr
    assert ours("run", ours.id).stderr == ""


def test_debug_of_exec_tells_its_steps(ours: Runtime) -> None:
    ours.background(["/bin/sleep", "1000"])
    done = ours("--debug", "exec", "-e", "SECRET=swordfish", ours.id, "/bin/true", check=True)
    assert 'msg="join_container namespaces=' in done.stderr
    assert "SECRET" in done.stderr
    assert "swordfish" not in done.stderr


def test_a_log_file_that_cannot_be_written_is_told_before_anything_is_done(runtime: Runtime) -> None:
    done = runtime("--log", "/nonesuch/log", "run", runtime.id)
    assert done.returncode == 1
    assert runtime.message(done) == "open /nonesuch/log: no such file or directory"


def test_help_of_each_verb_names_it_on_the_second_line(runtime: Runtime) -> None:
    for verb in ("create", "delete", "exec", "kill", "list", "run", "spec", "start", "state", "update"):
        for words in ((verb, "--help"), (verb, "-h"), ("help", verb)):
            done = runtime(*words)
            assert done.returncode == 0
            lines = done.stdout.split("\n")
            assert (lines[0], lines[1].startswith(f"   runc {verb} - ")) == ("NAME:", True)
            assert "USAGE:" in lines
            assert ("OPTIONS:" in lines) == (verb not in ("start", "state"))
    assert '(default: "table")' in runtime("list", "--help").stdout


def test_help_of_all_names_the_verbs(runtime: Runtime) -> None:
    for words in ((), ("help",), ("h",), ("--help",)):
        done = runtime(*words)
        assert done.returncode == 0
        assert [part for part in ("NAME:", "USAGE:", "VERSION:", "COMMANDS:", "GLOBAL OPTIONS:")
                if f"{part}\n" not in done.stdout] == []  # fmt: skip
        assert "   pause " in done.stdout


def test_what_is_no_verb_has_no_help_topic(runtime: Runtime) -> None:
    for words in (("nonesuch",), ("help", "nonesuch")):
        done = runtime(*words)
        assert (done.returncode, done.stdout) == (3, "")
        assert runtime.message(done) == "No help topic for 'nonesuch'\n"


@pytest.mark.parametrize(
    ("words", "usage", "message"),
    [
        (["state"], "Incorrect Usage.", '"state" requires exactly 1 argument(s)'),
        (["run", "a", "b"], "Incorrect Usage.", '"run" requires exactly 1 argument(s)'),
        (["kill"], "Incorrect Usage.", '"kill" requires a minimum of 1 argument(s)'),
        (["kill", "a", "b", "c"], "Incorrect Usage.", '"kill" requires a maximum of 2 argument(s)'),
        (["run", "--nonesuch", "a"], "Incorrect Usage: flag provided", "flag provided but not defined: -nonesuch"),
        (["--nonesuch"], "Incorrect Usage. flag provided", "flag provided but not defined: -nonesuch"),
    ],
)
def test_a_wrong_command_line_is_answered_with_the_right_one(
    runtime: Runtime, words: list[str], usage: str, message: str
) -> None:
    done = runtime(*words)
    assert done.returncode == 1
    assert done.stdout.startswith(usage)
    assert "USAGE:" in done.stdout
    assert message in runtime.message(done)


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_capabilities_that_nobody_knows_are_warned_of(runtime: Runtime, verb: str) -> None:
    warning = 'level=warning msg="ignoring unknown or unavailable capabilities: [CAP_NOPE KILL]"'

    def odd(spec: dict[str, Any]) -> None:
        spec["process"]["capabilities"]["bounding"] += ["KILL", "CAP_NOPE"]

    if verb == "run":
        done = runtime.run(["/bin/true"], odd)
    else:
        runtime.background(["/bin/sleep", "1000"])
        done = runtime("exec", "--cap", "KILL", "--cap", "CAP_NOPE", runtime.id, "/bin/true")
    assert done.returncode == 0
    assert warning in done.stderr


def test_inits_executable_is_on_a_read_only_mount(ours: Runtime) -> None:
    """CVE-2019-5736: through /proc/PID/exe nobody may get a writable handle on the host's interpreter."""
    assert os.access(os.path.realpath("/proc/self/exe"), os.W_OK), "this host's interpreter could be written"
    assert ours.create(None, ["/bin/true"]) == 0
    exe = f"/proc/{ours.state()['pid']}/exe"
    assert os.stat(exe).st_ino == os.stat("/proc/self/exe").st_ino
    assert not os.access(exe, os.W_OK)


def test_a_created_init_holds_only_the_descriptors_on_the_list(ours: Runtime) -> None:
    assert ours.create(None, ["/bin/true"]) == 0
    pid = ours.state()["pid"]
    found = {os.readlink(f"/proc/{pid}/fd/{fd}").split(":")[0] for fd in os.listdir(f"/proc/{pid}/fd")}
    # the streams, the exec.fifo, the root, the mask source, the private proc: none of them of the host but the fifo
    assert found <= {"/dev/null", f"{ours.root}/{ours.id}/exec.fifo", "/", "/proc"}


def test_a_created_init_cannot_be_traced_and_has_one_thread(ours: Runtime) -> None:
    assert ours.create(None, ["/bin/true"]) == 0
    pid = ours.state()["pid"]
    assert os.listdir(f"/proc/{pid}/task") == [str(pid)]
    # A process that is not dumpable shows its files as root's whatever its own ids are.
    assert os.stat(f"/proc/{pid}/environ").st_uid == 0


def test_the_interpreters_environment_does_not_reach_the_program(ours: Runtime) -> None:
    ours.write(None, ["/bin/env"])
    done = ours("run", ours.id, check=True, env={**os.environ, "PYTHONUNBUFFERED": "1", "SECRET": "x"})
    assert sorted(line.split("=")[0] for line in done.stdout.split()) == ["HOME", "PATH", "TERM"]
