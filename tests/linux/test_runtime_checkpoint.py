"""Checkpoint and restore by CRIU on the real kernel; on Debian's runc first wherever it can do the same.

CRIU comes from Debian sid (`scripts/newer`): the one of Debian 12 does not know this kernel's vdso.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import leave_out
from tests.linux.private_netns import new_netns
from tests.linux.runtimes import Runtime
from tests.peers import newer
from tests.peers.runtimes import ConsoleSocket
from tests.peers.waiting import eventually

from sampan.linux import abi, mount

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox", "runc")]

Change = Callable[[dict[str, Any]], object]

COUNT = "i=0; while :; do i=$((i+1)); echo $i > /tmp/next; mv /tmp/next /tmp/count; usleep 20000; done"
"""A shell that counts: the number is in its memory, /tmp/count shows it."""


class Saver(Runtime):
    """A runtime with CRIU and a place for images."""

    def __init__(self, name: str, scratch: str, criu: str) -> None:
        super().__init__(name, scratch)
        self.criu = criu
        self.images = f"{scratch}/images"

    def checkpoint(self, *flags: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self("--criu", self.criu, "checkpoint", "--image-path", self.images, *flags, self.id, **more)

    def restore(self, *flags: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Detached, with /dev/null for standard streams, the way `background` starts."""
        for name in ("stdin", "stdout", "stderr"):
            more.setdefault(name, subprocess.DEVNULL)
        words = [*self.command, "--root", self.root, "--log", f"{self.root}.log", "--criu", self.criu, "restore"]
        return subprocess.run(
            [*words, "--image-path", self.images, "--detach", *flags, self.id],
            cwd=self.bundle, text=True, timeout=30, **more,
        )  # fmt: skip

    def saved(self, *flags: str) -> None:
        done = self.checkpoint(*flags)
        assert done.returncode == 0, done.stderr

    def restored(self, *flags: str, **more: Any) -> None:
        assert self.restore(*flags, **more).returncode == 0, Path(f"{self.root}.log").read_text()

    def counting(self, change: Change | None = None) -> None:
        def changed(spec: dict[str, Any]) -> None:
            writable(spec)
            if change:
                change(spec)

        self.background(["/bin/sh", "-c", COUNT], changed)
        eventually(lambda: self.count() > 3)

    def count(self) -> int:
        try:
            return int(Path(f"{self.bundle}/rootfs/tmp/count").read_text())
        except (FileNotFoundError, ValueError):
            return 0


def writable(spec: dict[str, Any]) -> None:
    spec["root"]["readonly"] = False


@pytest.fixture
def criu() -> str:
    found = newer.command("criu")
    if found is None:
        leave_out("needs criu (scripts/peers unpacks it from Debian sid)")
        raise AssertionError
    return found


@pytest.fixture(params=["runc", "sampan-runc"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path, criu: str) -> Iterator[Saver]:
    made = Saver(request.param, str(tmp_path), criu)
    yield made
    made.close()


@pytest.fixture
def ours(tmp_path: Path, criu: str) -> Iterator[Saver]:
    made = Saver("sampan-runc", str(tmp_path), criu)
    yield made
    made.close()


def test_a_restored_process_goes_on_with_its_memory(runtime: Saver) -> None:
    runtime.counting()
    runtime.saved()
    assert runtime.traces() == []
    reached = runtime.count()
    runtime.restored()
    state = runtime.state()
    assert state["status"] == "running"
    eventually(lambda: runtime.count() > reached + 3)
    # A shell that began anew would have counted from 1.
    assert runtime.count() < reached + 1000
    assert runtime("exec", runtime.id, "cat", "/proc/1/comm", check=True).stdout == "sh\n"
    # containerd's bundles have a symlink for it.
    os.mkdir(f"{runtime.bundle}/elsewhere")
    os.symlink(f"{runtime.bundle}/elsewhere", f"{runtime.bundle}/work")
    runtime.saved("--work-path", f"{runtime.bundle}/work")
    runtime.restored("--work-path", f"{runtime.bundle}/work")
    assert {"dump.log", "restore.log"} <= set(os.listdir(f"{runtime.bundle}/elsewhere"))
    eventually(lambda: runtime.count() > reached + 6)
    assert runtime("delete", "-f", runtime.id).returncode == 0
    assert runtime.traces() == []


def test_all_of_the_container_is_as_it_was(runtime: Saver) -> None:
    # Not the attributes of masked files: those are the host's null device, mounted anew.
    mounts = "cat /proc/1/mountinfo | cut -d' ' -f5,6 | grep -v -e ^/proc/keys -e ^/proc/timer_list | sort"
    script = f"{mounts}; hostname; cat /proc/1/cgroup; grep -E 'Cap|NoNew' /proc/1/status"

    def limited(spec: dict[str, Any]) -> None:
        spec["linux"]["resources"]["pids"] = {"limit": 77}

    runtime.counting(limited)
    before = runtime("exec", runtime.id, "/bin/sh", "-c", script, check=True).stdout
    runtime.saved()
    runtime.restored()
    assert runtime("exec", runtime.id, "/bin/sh", "-c", script, check=True).stdout == before
    pids = next(path for path in runtime.cgroup_dirs() if "/pids/" in path)
    assert Path(f"{pids}/pids.max").read_text() == "77\n"


def test_leave_running_saves_and_does_not_end_it(runtime: Saver) -> None:
    runtime.counting()
    pid = runtime.state()["pid"]
    runtime.saved("--leave-running")
    reached = runtime.count()
    state = runtime.state()
    assert (state["status"], state["pid"]) == ("running", pid)
    eventually(lambda: runtime.count() > reached + 3)
    assert runtime("delete", "-f", runtime.id).returncode == 0
    later = runtime.count()
    runtime.restored()
    # From where it was saved, not from where it ended.
    assert eventually(lambda: runtime.count() != later and runtime.count()) < later
    assert json.loads(Path(f"{runtime.images}/descriptors.json").read_text()) == ["/dev/null"] * 3


def test_a_pre_dump_saves_memory_for_a_later_checkpoint(runtime: Saver) -> None:
    """Where the kernel does not track which memory changes, it is refused in runc's words and the container goes on."""
    runtime.counting()
    images = runtime.images
    runtime.images = f"{images}/first"
    done = runtime.checkpoint("--pre-dump")
    assert runtime.state()["status"] == "running"
    if done.returncode:
        assert "CRIU is missing features" in done.stderr
        check = subprocess.run([runtime.criu, "check", "--feature", "mem_dirty_track"], capture_output=True)
        assert check.returncode != 0
        return
    runtime.images = f"{images}/second"
    runtime.saved("--parent-path", "../first")
    assert os.readlink(f"{images}/second/parent") == "../first"
    reached = runtime.count()
    runtime.restored()
    eventually(lambda: runtime.count() > reached + 3)


def test_restore_waits_and_has_the_exit_code_of_the_process(runtime: Saver) -> None:
    script = "while [ ! -e /tmp/go ]; do usleep 20000; done; exit 7"
    runtime.background(["/bin/sh", "-c", script], writable)
    runtime.saved()
    Path(f"{runtime.bundle}/rootfs/tmp/go").touch()
    words = [*runtime.command, "--root", runtime.root, "--criu", runtime.criu, "restore"]
    done = subprocess.run(
        [*words, "--image-path", runtime.images, runtime.id], cwd=runtime.bundle, timeout=30, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 7
    assert runtime.traces() == []


def test_signals_reach_a_process_that_restore_waits_for(runtime: Saver) -> None:
    runtime.background(["/bin/sh", "-c", "trap 'exit 9' TERM; while :; do usleep 20000; done"])
    runtime.saved()
    words = [*runtime.command, "--root", runtime.root, "--criu", runtime.criu, "restore", "--pid-file", "pid"]
    waiting = subprocess.Popen([*words, "--image-path", runtime.images, runtime.id], cwd=runtime.bundle)
    eventually(lambda: os.path.exists(f"{runtime.bundle}/pid"))
    waiting.terminate()
    assert waiting.wait(30) == 9


def test_the_pid_file_names_the_restored_process(runtime: Saver) -> None:
    runtime.counting()
    runtime.saved()
    runtime.restored("--pid-file", "pid")
    assert Path(f"{runtime.bundle}/pid").read_text() == str(runtime.state()["pid"])


def test_a_joined_network_namespace_is_joined_again(runtime: Saver, tmp_path: Path) -> None:
    place = tmp_path / "netns"
    place.touch()

    def joined(spec: dict[str, Any]) -> None:
        for one in spec["linux"]["namespaces"]:
            if one["type"] == "network":
                one["path"] = str(place)

    with new_netns() as netns:
        inode = os.fstat(netns).st_ino
        mount.mount(f"/proc/self/fd/{netns}", str(place), None, abi.MS_BIND)
    try:
        runtime.counting(joined)
        runtime.saved()
        runtime.restored()
        assert os.stat(f"/proc/{runtime.state()['pid']}/ns/net").st_ino == inode
    finally:
        runtime("delete", "-f", runtime.id)
        mount.umount2(str(place), abi.MNT_DETACH)


def test_a_network_namespace_of_its_own_has_its_loopback_again(ours: Saver) -> None:
    """runc leaves it down, and with it all that listened there."""
    ours.counting()
    ours.saved()
    ours.restored()
    flags = ours("exec", ours.id, "/bin/sh", "-c", "cat /sys/class/net/lo/flags", check=True).stdout
    assert int(flags, 16) & 1


def test_bind_mounts_are_the_hosts_again(runtime: Saver, tmp_path: Path) -> None:
    cargo = tmp_path / "cargo"
    (cargo / "inner").mkdir(parents=True)
    note = tmp_path / "note"
    note.write_text("before\n")

    def bound(spec: dict[str, Any]) -> None:
        spec["mounts"] += [
            {"destination": "/cargo", "type": "bind", "source": str(cargo), "options": ["rbind", "rw"]},
            {"destination": "/cargo/inner/note", "type": "bind", "source": str(note), "options": ["bind", "ro"]},
            {"destination": "/dev/shm/note", "type": "bind", "source": str(note), "options": ["bind", "ro"]},
        ]

    runtime.counting(bound)
    runtime.saved()
    note.write_text("after\n")
    os.rmdir(f"{runtime.bundle}/rootfs/cargo")
    runtime.restored()
    script = "cat /cargo/inner/note /dev/shm/note; echo here > /cargo/mark; echo x > /dev/shm/note"
    done = runtime("exec", runtime.id, "/bin/sh", "-c", script)
    assert done.stdout == "after\nafter\n"
    assert "Read-only" in done.stderr
    assert (cargo / "mark").read_text() == "here\n"
    assert runtime("delete", "-f", runtime.id).returncode == 0
    assert runtime.traces() == []


def test_pipes_of_the_standard_streams_are_replaced(runtime: Saver) -> None:
    runtime.write(args=["/bin/sh", "-c", "while read line; do n=$((n+1)); echo $n $line; done; echo end >&2"])
    words = [*runtime.command, "--root", runtime.root]
    first = subprocess.Popen(
        [*words, "run", runtime.id], cwd=runtime.bundle, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert first.stdin and first.stdout
    with first:
        first.stdin.write(b"ahoy\n")
        first.stdin.flush()
        assert first.stdout.readline() == b"1 ahoy\n"
        runtime.saved()
        assert first.wait(30) == 137
    words += ["--criu", runtime.criu, "restore", "--image-path", runtime.images, runtime.id]
    done = subprocess.run(words, cwd=runtime.bundle, input=b"again\n", capture_output=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"2 again\n", b"end\n")


def test_a_terminal_arrives_at_the_console_socket_of_restore(runtime: Saver, tmp_path: Path) -> None:
    def with_terminal(spec: dict[str, Any]) -> None:
        spec["process"]["terminal"] = True

    runtime.write(with_terminal, ["/bin/sh", "-c", "while read line; do n=$((n+1)); echo $n $line; done"])
    with ConsoleSocket(str(tmp_path / "first")) as console:
        assert runtime("run", "-d", "--console-socket", console.path, runtime.id).returncode == 0
        _, master = console.master()
        os.write(master, b"ahoy\n")
        read_line(master, "1 ahoy")
        runtime.saved()
        os.close(master)
    assert "cannot allocate tty" in run_error(runtime, runtime.restore())
    with ConsoleSocket(str(tmp_path / "second")) as console:
        runtime.restored("--console-socket", console.path)
        _, master = console.master()
        os.write(master, b"again\n")
        read_line(master, "2 again")
        os.close(master)


def read_line(master: int, wanted: str) -> None:
    seen = ""
    while wanted not in seen:
        assert select.select([master], [], [], 10)[0], seen
        seen += os.read(master, 4096).decode()


def run_error(runtime: Saver, done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1
    return Path(f"{runtime.root}.log").read_text()


def test_images_of_one_runtime_are_restored_by_the_other(tmp_path: Path, criu: str) -> None:
    for first, second in (("runc", "sampan-runc"), ("sampan-runc", "runc")):
        saver = Saver(first, str(tmp_path / first), criu)
        try:
            saver.counting()
            saver.saved()
            reached = saver.count()
            saver.close()
            saver.command = Saver(second, str(tmp_path / first / "other"), criu).command
            saver.restored()
            eventually(lambda saver=saver, reached=reached: saver.count() > reached + 3)  # type: ignore[misc]
        finally:
            saver.close()


def test_hooks_of_the_host_run_at_a_restore_and_their_failure_undoes_it(runtime: Saver, tmp_path: Path) -> None:
    log = tmp_path / "hooks"

    def hooked(spec: dict[str, Any]) -> None:
        spec["hooks"] = {
            name: [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {name} $(cat) >> {log}; test ! -e {tmp_path}/bad"]}]
            for name in ("prestart", "createRuntime", "poststart", "poststop")
        }

    runtime.counting(hooked)
    runtime.saved()
    assert [line.split()[0] for line in log.read_text().splitlines()][-1] == "poststop"
    log.unlink()
    runtime.restored()
    lines = [line.split(maxsplit=1) for line in log.read_text().splitlines()]
    assert [name for name, _ in lines] == ["prestart", "createRuntime"]
    pid = runtime.state()["pid"]
    assert {json.loads(text)["pid"] for _, text in lines} == {pid}
    runtime.saved()
    (tmp_path / "bad").touch()
    assert "error running" in run_error(runtime, runtime.restore())
    assert runtime.traces() == [] or runtime.name == "runc"


def test_what_cannot_be_checkpointed_is_refused_in_runcs_words(runtime: Saver) -> None:
    def refused(*flags: str) -> str:
        done = runtime.checkpoint(*flags)
        assert done.returncode == 1
        return runtime.message(done)

    assert refused() == "container does not exist"
    assert runtime.create() == 0
    assert refused() == "Container cannot be checkpointed in created state"
    runtime("delete", "-f", runtime.id)
    runtime.counting()
    assert "Use --page-server ADDRESS:PORT" in runtime.checkpoint("--page-server", "port").stderr
    assert "Invalid port number" in runtime.checkpoint("--page-server", "a:b").stderr
    assert 'namespace \\"pid\\" is not supported' in runtime.checkpoint("--empty-ns", "pid").stderr
    assert "--parent-path must be relative" in runtime.checkpoint("--parent-path", "/x").stderr
    missing = f"invalid --parent-path: stat {runtime.images}/x: no such file or directory"
    assert missing in runtime.checkpoint("--parent-path", "x").stderr
    runtime.criu = "/no/such/criu"
    missing = "CRIU version check failed: fork/exec /no/such/criu: no such file or directory"
    assert missing in runtime.checkpoint().stderr
    runtime.criu = "no-such-criu"
    missing = 'exec: \\"no-such-criu\\": executable file not found in $PATH'
    assert missing in runtime.checkpoint().stderr
    runtime.criu = "/bin/true"
    assert "CRIU version check failed" in runtime.checkpoint().stderr
    assert runtime.state()["status"] == "running"
    reached = runtime.count()
    eventually(lambda: runtime.count() > reached)


def test_what_cannot_be_restored_is_refused_in_runcs_words(runtime: Saver, tmp_path: Path) -> None:
    runtime.write()
    images = runtime.images
    runtime.images = f"{tmp_path}/missing"
    missing = f"open {tmp_path}/missing/descriptors.json: no such file or directory"
    assert missing in run_error(runtime, runtime.restore())
    assert "chdir /no/such: no such file or directory" in run_error(runtime, runtime.restore("--bundle", "/no/such"))
    assert runtime.traces() == []
    runtime.images = images
    runtime.counting()
    assert "container with given ID already exists" in run_error(runtime, runtime.restore())
    runtime.saved()
    os.unlink(f"{images}/pstree.img")
    message = run_error(runtime, runtime.restore())
    assert "EOF" in message  # CRIU ends without a word
    if runtime.name == "sampan-runc":
        assert f"log file: {images}/restore.log" in message
    assert runtime.traces() == [] or runtime.name == "runc"


def test_a_failed_checkpoint_names_the_log_and_the_container_goes_on(runtime: Saver, tmp_path: Path) -> None:
    """A standard stream that is a file of the host cannot be saved."""
    runtime.write(writable, ["/bin/sh", "-c", COUNT])
    with open(tmp_path / "out", "w") as out:
        words = [*runtime.command, "--root", runtime.root, "run", "-d", runtime.id]
        subprocess.run(words, cwd=runtime.bundle, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=True)
    done = runtime.checkpoint()
    assert done.returncode == 1
    assert "criu failed: type" in done.stderr
    assert "log file: " in done.stderr
    if runtime.name == "sampan-runc":  # runc says no more than dump.log, and not why
        assert f"log file: {runtime.images}/dump.log" in done.stderr
        assert "Can't lookup mount" in done.stderr and f"path={tmp_path}/out" in done.stderr
    reached = runtime.count()
    eventually(lambda: runtime.count() > reached + 3)
    assert runtime.state()["status"] == "running"


def test_a_paused_container_is_saved_and_runs_when_restored(runtime: Saver) -> None:
    runtime.counting()
    runtime("pause", runtime.id, check=True)
    reached = runtime.count()
    runtime.saved("--leave-running")
    assert runtime.state()["status"] == "paused"
    runtime("delete", "-f", runtime.id, check=True)
    runtime.restored()
    eventually(lambda: runtime.count() > reached + 3)
