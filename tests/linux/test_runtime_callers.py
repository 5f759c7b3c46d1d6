"""What a caller may hand over or get back: descriptors of processes, a supervisor's sockets."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.linux.runtimes import Runtime
from tests.peers.waiting import eventually

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


class Receiver:
    """A stream socket that takes one message with one descriptor."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(1)
        self._listener.settimeout(10)

    def take(self) -> tuple[str, int]:
        connection, _ = self._listener.accept()
        with connection, self._listener:
            data, extra, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
            found = array("i")
            found.frombytes(extra[0][2][:4])
            return data.decode(), found[0]


def pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def quietly(runtime: Runtime, *words: str, **environment: str) -> int:
    """The exit code of a command whose container lives on, and would hold the streams open."""
    done = subprocess.run(
        [*runtime.command, "--root", runtime.root, *words], cwd=runtime.bundle, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20, env={**os.environ, **environment},
    )  # fmt: skip
    return done.returncode


def test_a_pidfd_socket_gets_the_first_process(ours: Runtime, tmp_path: Path) -> None:
    """runc has the flag from 1.2 on."""
    receiver = Receiver(tmp_path / "pidfd")
    ours.write(None, ["/bin/sleep", "100"])
    assert quietly(ours, "create", "--pidfd-socket", receiver.path, ours.id) == 0
    kind, pidfd = receiver.take()
    assert (kind, pid_of(pidfd)) == ("standard", ours.state()["pid"])
    os.close(pidfd)


def test_a_pidfd_socket_of_exec_gets_its_process(ours: Runtime, tmp_path: Path) -> None:
    init = ours.background(["/bin/sleep", "100"])["pid"]
    receiver = Receiver(tmp_path / "pidfd")
    mark = tmp_path / "pid"
    words = ("exec", "-d", "--pid-file", str(mark), "--pidfd-socket", receiver.path, ours.id, "/bin/sleep", "50")
    assert quietly(ours, *words) == 0
    kind, pidfd = receiver.take()
    assert (kind, pid_of(pidfd)) == ("setns", int(mark.read_text()))
    assert pid_of(pidfd) != init
    os.close(pidfd)


class Supervisor:
    """systemd's end of NOTIFY_SOCKET: gathers messages, and lets a barrier's descriptor go."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.heard: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while select.select([self._socket], [], [], 30)[0]:
            data, extra, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(4))
            for _, _, content in extra:
                for fd in array("i", content):
                    os.close(fd)
            if data == b"stop":
                return
            if not data.startswith(b"BARRIER"):
                self.heard.append(data.decode())

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stopping:
            stopping.sendto(b"stop", self.path)
        self._thread.join()
        self._socket.close()


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path / "supervisor")
    yield made
    made.close()


TELLING = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect("/proc/%s/root%s" % (sys.argv[1], sys.argv[2]))
for word in sys.argv[3:]: s.send(word.encode())
"""


def tell(runtime: Runtime, *messages: str) -> None:
    """Speak to the container's NOTIFY_SOCKET: busybox has no way of its own to."""
    pid = str(runtime.state()["pid"])
    with open(f"/proc/{pid}/environ") as file:
        inside = next(one.partition("=")[2] for one in file.read().split("\0") if one.startswith("NOTIFY_SOCKET="))
    subprocess.run([sys.executable, "-c", TELLING, pid, inside, *messages], check=True)


def test_readiness_reaches_the_supervisor_of_a_detached_run(
    runtime: Runtime, supervisor: Supervisor, tmp_path: Path
) -> None:
    runtime.write(None, ["/bin/sleep", "100"])
    with subprocess.Popen(
        [*runtime.command, "--root", runtime.root, "run", "-d", runtime.id], cwd=runtime.bundle,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env={**os.environ, "NOTIFY_SOCKET": supervisor.path},
    ) as running:  # fmt: skip
        eventually(lambda: runtime("state", runtime.id).returncode == 0 and runtime.state()["status"] == "running")
        assert running.poll() is None, "it waits for the container's word"
        tell(runtime, "STATUS=nearly", "READY=1\nSTATUS=there")
        assert running.wait(10) == 0
    assert supervisor.heard == ["READY=1\n", f"MAINPID={runtime.state()['pid']}\n"]
    runtime("delete", "-f", runtime.id)
    assert runtime.traces() == []


def test_readiness_of_a_created_container_is_waited_for_by_start(runtime: Runtime, supervisor: Supervisor) -> None:
    environment = {**os.environ, "NOTIFY_SOCKET": supervisor.path}
    runtime.write(None, ["/bin/sleep", "100"])
    assert quietly(runtime, "create", runtime.id, NOTIFY_SOCKET=supervisor.path) == 0
    with subprocess.Popen([*runtime.command, "--root", runtime.root, "start", runtime.id], env=environment) as starting:
        eventually(lambda: runtime.state()["status"] == "running")
        assert starting.poll() is None
        tell(runtime, "READY=1")
        assert starting.wait(10) == 0
    assert supervisor.heard == ["READY=1\n", f"MAINPID={runtime.state()['pid']}\n"]


def test_a_container_that_ends_without_a_word_holds_nobody_up(ours: Runtime, supervisor: Supervisor) -> None:
    """runc 1.1.5 waits for ever: it takes its own unreaped child for a living process."""
    ours.write(None, ["/bin/true"])
    assert quietly(ours, "run", "-d", ours.id, NOTIFY_SOCKET=supervisor.path) == 0
    assert supervisor.heard == []


@pytest.mark.parametrize("meant", [True, False], ids=["for the runtime", "for somebody else"])
def test_listening_sockets_are_passed_on_if_they_are_meant_for_us(runtime: Runtime, meant: bool) -> None:
    runtime.write(None, ["/bin/sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; ls /proc/self/fd"])
    script = (
        "import os, sys; r, w = os.pipe(); os.dup2(r, 3); os.set_inheritable(3, True)\n"
        f"os.environ['LISTEN_FDS'] = '1'; os.environ['LISTEN_PID'] = str(os.getpid() if {meant} else 1)\n"
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *runtime.command, "--root", runtime.root, "run", runtime.id],
        cwd=runtime.bundle, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    lines = done.stdout.split("\n")
    assert lines[0].split() == (["1", "1"] if meant else [])
    # The directory that ls reads is one more, with the next number.
    assert len(lines[1:-1]) == (5 if meant else 4), done.stdout


def test_a_rootfs_behind_a_symlink_is_refused(runtime: Runtime) -> None:
    os.symlink("rootfs", f"{runtime.bundle}/link")

    def linked(spec: dict[str, Any]) -> None:
        spec["root"]["path"] = "link"

    assert "invalid rootfs: not an absolute path, or a symlink" in runtime.message(runtime.run(["/bin/true"], linked))
    assert runtime.traces() == []


def test_a_rootfs_that_is_missing_is_named(runtime: Runtime) -> None:
    def missing(spec: dict[str, Any]) -> None:
        spec["root"]["path"] = "nosuch"

    text = runtime.message(runtime.run(["/bin/true"], missing))
    assert text.endswith(f"invalid rootfs: stat {runtime.bundle}/nosuch: no such file or directory")


def test_kill_all_ends_what_shares_the_hosts_pid_namespace(runtime: Runtime) -> None:
    def without_pidns(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"] = [one for one in spec["linux"]["namespaces"] if one["type"] != "pid"]

    runtime.background(["/bin/sh", "-c", "sleep 1000 & sleep 1000 & wait"], without_pidns)
    eventually(lambda: len(runtime("ps", "-f", "json", runtime.id).stdout.split(",")) == 3)
    assert runtime("kill", "--all", runtime.id, "KILL").returncode == 0
    eventually(lambda: runtime.state()["status"] == "stopped")
    eventually(lambda: runtime("ps", "-f", "json", runtime.id).stdout.strip() in ("null", "[]"))


def test_the_standard_streams_are_the_callers_own(ours: Runtime, tmp_path: Path) -> None:
    """runc copies between pipes of its own and the caller's."""
    ours.write(None, ["/bin/stat", "-L", "-c", "%i", "/proc/self/fd/1"])
    with open(tmp_path / "out", "w+") as file:
        command = [*ours.command, "--root", ours.root, "run", ours.id]
        subprocess.run(command, cwd=ours.bundle, stdin=subprocess.DEVNULL, stdout=file, check=True, timeout=30)
        file.seek(0)
        assert int(file.read()) == os.fstat(file.fileno()).st_ino


def test_a_terminal_without_one_of_the_callers_talks_to_its_standard_streams(ours: Runtime) -> None:
    def terminal(spec: dict[str, Any]) -> None:
        spec["process"]["terminal"] = True

    assert ours.shell("test -t 0 && tty", terminal) == "/dev/pts/0\n"


def test_kill_all_leaves_a_paused_container_paused(ours: Runtime) -> None:
    ours.background(["/bin/sleep", "1000"])
    ours("pause", ours.id, check=True)
    ours("kill", "--all", ours.id, "CONT", check=True)
    assert ours.state()["status"] == "paused"
    ours("kill", "--all", ours.id, "KILL", check=True)
    eventually(lambda: ours.state()["status"] == "stopped")
