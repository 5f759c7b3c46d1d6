"""The library below the command: what the keeper calls, in processes of its own so that a fork is of one thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.linux.runtimes import REPOSITORY, Runtime

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]

PROLOGUE = f"""
import sys; sys.path.insert(0, {os.path.join(REPOSITORY, "src")!r})
import json, os, select
from sampan.runtime import cgroup, delete, hooks, launch, state
from sampan.runtime.host import host_facts
bundle, root, name = sys.argv[1:4]
spec = json.load(open(bundle + "/config.json"))
host = host_facts()
def begin(**more):
    state.reserve(root, name)
    return launch.launch(spec, container_id=name, bundle=bundle, root=root, host=host, **more)
def events(launched, until):
    poller = select.poll(); poller.register(launched.channel, select.POLLIN)
    while True:
        assert poller.poll(10000), "init says nothing"
        event = launched.step()
        if event:
            if event[0] in (until, "failed"): return event
def end(launched):
    os.waitid(os.P_PIDFD, launched.pidfd, os.WEXITED)
    delete.clean_up(root, launched.state)
"""


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    made = Runtime("sampan-runc", str(tmp_path))
    yield made
    made.close()


def script(runtime: Runtime, text: str, *isolation: str) -> Any:
    """What a Python script that uses the library prints, as JSON."""
    done = subprocess.run(
        [sys.executable, *isolation, "-c", PROLOGUE + text, runtime.bundle, runtime.root, runtime.id],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_conversation_goes_ready_proceed_running(runtime: Runtime) -> None:
    runtime.write(None, ["/bin/true"])
    seen = script(
        runtime,
        """
launched = begin()
seen = [events(launched, "ready")]
launched.proceed()
seen.append(events(launched, "running"))
print(json.dumps([seen, launched.channel]))
end(launched)
""",
    )
    assert seen == [[["ready"], ["running"]], -1]
    assert runtime.traces() == []


def test_a_failure_is_an_event_with_kind_and_text(runtime: Runtime) -> None:
    runtime.write(None, ["/bin/nosuch"])
    seen = script(runtime, 'launched = begin(); print(json.dumps(events(launched, "ready"))); end(launched)')
    text = 'unable to start container process: exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory'
    assert seen == ["failed", "InvalidArgument", text]


@pytest.mark.parametrize(
    ("limit", "how"), [(0, "exited prematurely"), (64 << 20, "was OOM-killed (memory limit too low?)")]
)
def test_an_init_that_dies_when_it_is_ready_is_told_in_runcs_words(runtime: Runtime, limit: int, how: str) -> None:
    """As cgroup v2 does with a limit that init does not fit in: it is killed when all that is left is execve."""

    def limited(spec: dict[str, Any]) -> None:
        spec["linux"]["resources"]["memory"] = {"limit": limit} if limit else {}

    runtime.write(limited, ["/bin/true"])
    seen = script(
        runtime,
        """
import signal
launched = begin()
events(launched, "ready")
signal.pidfd_send_signal(launched.pidfd, signal.SIGKILL)
end(launched)
try:
    launched.proceed()
except BrokenPipeError as error:
    print(json.dumps(error.strerror))
""",
    )
    assert seen == f"unable to start container process: container init {how}"


def test_a_step_never_waits_for_a_hook(runtime: Runtime, tmp_path: Path) -> None:
    """Hooks that only end when we say so: with a step that waited for them, nobody would get to say it."""
    waiting = "cat >/dev/null; while [ ! -e {go} ]; do sleep 0.01; done; echo $(cat {go}) {name} >> {log}"

    def hook(name: str) -> list[dict[str, Any]]:
        script = waiting.format(go=tmp_path / name, name=name, log=tmp_path / "log")
        return [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]

    def hooks(spec: dict[str, Any]) -> None:
        spec["hooks"] = {name: hook(name) for name in ("createRuntime", "poststart")}

    runtime.write(hooks, ["/bin/true"])
    seen = script(
        runtime,
        f"""
import time
def until_hooks():
    poller = select.poll(); poller.register(launched.channel, select.POLLIN)
    steps = 0
    while poller.poll(300):
        assert launched.step() is None
        steps += 1
        assert steps < 50, "the channel is ready although nothing happens"
launched = begin()
until_hooks()
open({str(tmp_path / "createRuntime")!r}, "w").write("released")
seen = [events(launched, "ready")]
launched.proceed()
until_hooks()
seen.append(launched.executed)
os.waitid(os.P_PIDFD, launched.pidfd, os.WEXITED | os.WNOWAIT)
open({str(tmp_path / "poststart")!r}, "w").write("released")
seen.append(events(launched, "running"))
print(json.dumps([*seen, launched.channel]))
end(launched)
""",
    )
    assert seen == [["ready"], True, ["running"], -1]
    assert (tmp_path / "log").read_text() == "released createRuntime\nreleased poststart\n"


def test_a_clean_up_need_not_wait_for_the_poststop_hooks(runtime: Runtime, tmp_path: Path) -> None:
    def hook(text: str) -> dict[str, Any]:
        return {"path": "/bin/sh", "args": ["sh", "-c", text], "env": ["PATH=/usr/bin:/bin"]}

    def hooks(spec: dict[str, Any]) -> None:
        waiting = f"while [ ! -e {tmp_path}/go ]; do sleep 0.01; done; exit 1"
        spec["hooks"] = {"poststop": [hook(waiting), hook(f"cat > {tmp_path}/told; touch {tmp_path}/done")]}

    runtime.write(hooks, ["/bin/true"])
    status = script(
        runtime,
        f"""
launched = begin()
events(launched, "ready")
launched.proceed()
events(launched, "running")
os.waitid(os.P_PIDFD, launched.pidfd, os.WEXITED)
delete.clean_up(root, launched.state, wait=False)
assert not os.path.exists({str(tmp_path / "done")!r})
open({str(tmp_path / "go")!r}, "w").close()
os.wait()
assert os.path.exists({str(tmp_path / "done")!r}), "a hook that fails does not stop the next"
print(json.dumps(json.load(open({str(tmp_path / "told")!r}))["status"]))
""",
    )
    assert status == "stopped"


def test_a_conversation_that_is_closed_ends_the_hook_that_runs(runtime: Runtime, tmp_path: Path) -> None:
    mark = tmp_path / "pid"

    def endless(spec: dict[str, Any]) -> None:
        command = ["sh", "-c", f"echo $$ > {mark}.new; mv {mark}.new {mark}; exec sleep 1000"]
        spec["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": command, "env": ["PATH=/usr/bin:/bin"]}]}

    runtime.write(endless)
    hook = script(
        runtime,
        f"""
launched = begin()
poller = select.poll(); poller.register(launched.channel, select.POLLIN)
while not os.path.exists({str(mark)!r}):
    if poller.poll(10):
        assert launched.step() is None
hook = open({str(mark)!r}).read()
pidfd = os.pidfd_open(int(hook))
launched.discard()
ended = select.select([pidfd], [], [], 10)[0]
assert ended, "the hook lives"
end(launched)
print(hook)
""",
    )
    assert hook > 0


def test_a_launch_that_cannot_begin_leaves_no_cgroup(runtime: Runtime) -> None:
    def lost(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"][1]["path"] = "/proc/nobody/ns/net"

    runtime.write(lost)
    script(
        runtime,
        """
try:
    begin()
    print("null")
except Exception as error:
    print(json.dumps(str(error)))
state.remove(root, name)
""",
    )
    assert runtime.traces() == []


def test_an_init_that_is_never_told_to_proceed_ends_with_the_conversation(runtime: Runtime) -> None:
    runtime.write(None, ["/bin/echo", "must not run"])
    script(
        runtime,
        """
launched = begin()
events(launched, "ready")
launched.close()
end(launched)
print("null")
""",
    )
    assert runtime.traces() == []


def test_the_callers_rootfs_is_mounted_in_the_containers_own_namespace(runtime: Runtime, tmp_path: Path) -> None:
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    lower = f"{runtime.bundle}/lower"
    os.rename(f"{runtime.bundle}/rootfs", lower)
    os.mkdir(f"{runtime.bundle}/rootfs")

    def writable(spec: dict[str, Any]) -> None:
        spec["root"]["readonly"] = False

    runtime.write(writable, ["/bin/sh", "-c", "echo tea > /cargo"])
    rows = script(
        runtime,
        f"""
mounts = [{{"type": "overlay", "source": "overlay", "options": [
    "lowerdir={lower}", "upperdir={tmp_path}/upper", "workdir={tmp_path}/work", "index=off"]}}]
launched = begin(rootfs_mounts=mounts)
assert events(launched, "ready") == ("ready",)
seen = [line for line in open("/proc/self/mounts") if line.startswith("overlay") and bundle in line]
launched.proceed()
events(launched, "running")
end(launched)
print(json.dumps(seen))
""",
    )
    assert rows == []
    assert (tmp_path / "upper" / "cargo").read_text() == "tea\n"
    assert os.listdir(f"{runtime.bundle}/rootfs") == []


def test_nothing_is_imported_between_the_fork_and_execve(runtime: Runtime) -> None:
    """A late import would load the container's files as root."""

    def everything(spec: dict[str, Any]) -> None:
        hook = [{"path": "/bin/true"}]
        spec["hooks"] = {"prestart": hook, "createContainer": hook, "startContainer": hook}
        spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
        spec["linux"]["namespaces"] += [{"type": "cgroup"}]
        spec["process"] |= {"terminal": True, "oomScoreAdj": 100}
        spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
        spec["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]})

    runtime.write(everything, ["true"])
    text = """
from sampan.runtime.steps import identity, joining
before = set()
out = os.dup(1)
first = joining.join_cgroups
def begin_counting(init):
    before.update(sys.modules)
    first(init)
def end_counting(init, args):
    late = sorted(set(sys.modules) - before)
    os.write(out, json.dumps([late, sys.path, sys.meta_path, sys.path_hooks]).encode())
    os._exit(0)
joining.join_cgroups, identity.execve = begin_counting, end_counting
launched = begin(keep_fds=(out,))
out = 3
event = events(launched, "ready")
assert event == ("ready",), event
launched.proceed()
events(launched, "running")
end(launched)
"""
    # The child writes to descriptor 3, which is where keep_fds puts its copy of our standard output.
    assert script(runtime, text.replace("os.write(out, ", "os.write(3, "), "-I", "-S") == [[], [], [], []]


def test_an_import_of_the_runtime_stays_within_its_budget() -> None:
    """typing, argparse, subprocess and their like cost more than a whole container start."""
    code = (
        f"import sys; sys.path.insert(0, {os.path.join(REPOSITORY, 'src')!r}); before = set(sys.modules); "
        "from sampan.runtime import attend, cli, create, delete, exec, hooks, kill, launch, pause, start, update; "
        "print(' '.join(sorted(n for n in set(sys.modules) - before if not n.startswith('sampan'))))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    allowed = (
        "os os.path posixpath genericpath _collections_abc __future__ _ctypes _json _stat errno gc select stat time"
    )
    assert set(done.stdout.split()) <= set(allowed.split())


def test_the_compiled_filter_is_kept_where_only_root_can_change_it(runtime: Runtime) -> None:
    runtime.write(lambda spec: spec["linux"].update(seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}))  # fmt: skip
    runtime("run", runtime.id, check=True)
    folder = f"{runtime.root}/.seccomp"
    names = os.listdir(folder)
    assert len(names) == 1
    assert os.stat(folder).st_mode & 0o777 == 0o700
    os.truncate(f"{folder}/{names[0]}", 9)
    runtime("run", runtime.id, check=True)
    os.chmod(folder, 0o777)
    runtime("run", runtime.id, check=True)
    assert runtime("list", "-q", check=True).stdout == ""
