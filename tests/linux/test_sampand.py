"""The daemon as a process: pidfile, sockets, signals, a second one, broken starts."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.root


class Daemon:
    """sampand without bridge and firewall: nothing outside of its own directories."""

    def __init__(self, directory: Path, *arguments: str, prefix: Sequence[str] = ()) -> None:
        self.directory = directory
        self.socket = str(directory / "s")
        roots = ["--root", f"{directory}/root", "--state", f"{directory}/state"]
        network = ["--bridge", "none", "--iptables=false", "--ip-forward=false"]
        self.log = directory / f"log-{len(list(directory.glob('log-*')))}"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [
                    *prefix,
                    sys.executable,
                    "-m",
                    "sampan.engine",
                    "-H",
                    f"unix://{self.socket}",
                    *roots,
                    *network,
                    *arguments,
                ],
                stderr=log,
            )

    @property
    def pidfile(self) -> Path:
        return self.directory / "state" / "sampand.pid"

    def ask(self, path: str, method: str = "GET", body: object = None) -> tuple[int, bytes]:
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(self.socket)
            connection.sendall(head.encode() + data)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        first, _, content = answer.partition(b"\r\n\r\n")
        return int(first.split()[1]), content

    def answers(self) -> bool:
        try:
            return self.ask("/_ping")[0] == 200
        except OSError:
            return False

    def up(self) -> Daemon:
        until = time.monotonic() + 30
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.02)
        return self

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path).up()
    yield made
    if made.process.poll() is None:
        made.end()


def test_it_serves_with_a_pidfile_and_goes_without_a_trace_in_state(daemon: Daemon) -> None:
    assert daemon.pidfile.read_text() == str(daemon.process.pid)
    assert stat.S_IMODE(os.stat(daemon.socket).st_mode) == 0o660
    assert daemon.end() == 0
    assert not daemon.pidfile.exists()
    assert not os.path.exists(daemon.socket)
    assert "Traceback" not in daemon.log.read_text()


def test_what_it_keeps_is_nobody_elses_even_when_it_was(tmp_path: Path) -> None:
    """The databases have the environment of every container in them, the volumes anybody's set-uid programs
    (CVE-2021-41091, CVE-2024-25621)."""
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o755)
    for name in ("engine.db", "core.db"):
        (root / name).touch()
        (root / name).chmod(0o644)
    daemon = Daemon(tmp_path).up()
    try:
        modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in root.glob("*.db*")}
        assert modes.keys() >= {"engine.db", "engine.db-wal", "core.db", "core.db-wal"}
        assert [name for name, mode in modes.items() if mode & 0o077] == []
        assert stat.S_IMODE(root.stat().st_mode) == 0o700
    finally:
        daemon.end()


def test_a_second_one_is_refused_and_the_first_goes_on(daemon: Daemon) -> None:
    second = Daemon(daemon.directory)
    assert second.process.wait(30) == 1
    assert second.log.read_text() == (
        f"failed to start daemon: ensure sampand is not running or delete {daemon.pidfile}: "
        f"process with PID {daemon.process.pid} is still running\n"
    )
    assert daemon.answers()
    assert daemon.pidfile.exists()


def test_after_a_kill_the_next_start_takes_over_pidfile_and_socket(daemon: Daemon) -> None:
    identity = json.loads(daemon.ask("/info")[1])["ID"]
    daemon.end(signal.SIGKILL)
    assert daemon.pidfile.exists()
    again = Daemon(daemon.directory).up()
    assert again.pidfile.read_text() == str(again.process.pid)
    assert json.loads(again.ask("/info")[1])["ID"] == identity
    assert again.end() == 0


def test_a_stop_does_not_wait_for_a_client_that_listens_to_events(daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.connect(daemon.socket)
        listener.sendall(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n")
        assert listener.recv(4096).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        assert daemon.end() == 0
        assert time.monotonic() - began < 10


def test_a_hangup_is_no_reason_to_end(daemon: Daemon) -> None:
    daemon.process.send_signal(signal.SIGHUP)
    assert daemon.answers()
    assert "reloading the configuration is not offered" in daemon.log.read_text()


def test_two_addresses_are_served_at_once(tmp_path: Path) -> None:
    made = Daemon(tmp_path, "-H", "tcp://127.0.0.1:0").up()
    line = next(line for line in made.log.read_text().splitlines() if "tcp://" in line)
    port = int(line.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.0 200")
    assert made.end() == 0


@pytest.mark.parametrize("live_restore", ["true", "false"])
def test_containers_outlive_it_unless_told_otherwise(tmp_path: Path, live_restore: str) -> None:
    made = Daemon(tmp_path, "--live-restore", live_restore).up()
    wanted = {"Image": "sampan/host", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "none"}, "StopTimeout": 0}
    status, answer = made.ask("/containers/create?name=long", "POST", wanted)
    assert status == 201, answer
    assert made.ask("/containers/long/start", "POST")[0] == 204
    pid = json.loads(made.ask("/containers/long/json")[1])["State"]["Pid"]
    assert made.end() == 0
    assert os.path.exists(f"/proc/{pid}") is (live_restore == "true")
    again = Daemon(tmp_path).up()
    state = json.loads(again.ask("/containers/long/json")[1])["State"]
    assert state["Running"] is (live_restore == "true")
    assert state["ExitCode"] == (0 if live_restore == "true" else 137)
    assert again.ask("/containers/long?force=1", "DELETE")[0] == 204
    assert not os.path.exists(f"/proc/{pid}")
    assert again.end() == 0


# Runs what follows it on a kernel that has no netfilter netlink: socket(AF_NETLINK, _, NETLINK_NETFILTER) fails.
WITHOUT_NF_TABLES = """
import errno, os, sys
from sampan.linux import process, seccomp
from sampan.runtime.seccomp import compile_profile
family, protocol = ({"index": index, "value": value, "op": "SCMP_CMP_EQ"} for index, value in ((0, 16), (2, 12)))
rule = {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EPROTONOSUPPORT, "args": [family, protocol]}
seccomp.load(compile_profile({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_without_nf_tables_it_serves_and_says_what_is_missing(tmp_path: Path) -> None:
    """Containers run and have their bridge; what only a firewall could do is refused by name, and is in `info`."""
    prefix = ["unshare", "--net", sys.executable, "-c", WITHOUT_NF_TABLES]
    network = ["--iptables=true", "--bridge", "sp-bare", "--bip", "10.211.0.1/24"]
    daemon = Daemon(tmp_path, *network, prefix=prefix).up()
    try:
        info = json.loads(daemon.ask("/info")[1])
        assert info["FirewallBackend"]["Driver"] == "none"
        (warning,) = [line for line in info["Warnings"] if "nftables" in line]
        assert "Protocol not supported" in warning
        wish = {"Image": "sampan/host", "Cmd": ["true"]}
        assert daemon.ask("/containers/create?name=plain", "POST", wish)[0] == 201
        assert daemon.ask("/containers/plain/start", "POST")[0] == 204
        assert json.loads(daemon.ask("/containers/plain/wait", "POST")[1])["StatusCode"] == 0
        assert daemon.ask("/networks/create", "POST", {"Name": "harbour"})[0] == 201
        calling = {"Image": "sampan/host", "Cmd": ["getent", "hosts", "boat"], "HostConfig": {"NetworkMode": "harbour"}}
        assert daemon.ask("/containers/create?name=boat", "POST", calling)[0] == 201
        assert daemon.ask("/containers/boat/start", "POST")[0] == 204
        assert json.loads(daemon.ask("/containers/boat/wait", "POST")[1])["StatusCode"] == 0
        published = wish | {"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}}
        assert daemon.ask("/containers/create?name=published", "POST", published)[0] == 201
        status, body = daemon.ask("/containers/published/start", "POST")
        text = json.loads(body)["message"]
        assert status == 500
        assert text.startswith("driver failed programming external connectivity on endpoint published (")
        assert "no port can be published: the kernel does not offer the firewall" in text
        inside = ["nsenter", "--target", str(daemon.process.pid), "--net", "cat"]
        localnet = "/proc/sys/net/ipv4/conf/sp-bare/route_localnet"  # nothing would keep a container from 127.0.0.1
        assert subprocess.run([*inside, localnet], capture_output=True, text=True).stdout == "0\n"
    finally:
        assert daemon.end() == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-H", "ftp://x"], "invalid protocol address: ftp://x"),
        (["-H", "tcp://203.0.113.1:1"], "can't create tcp socket 203.0.113.1:1"),
        (["--storage-driver", "zfs"], 'unknown snapshotter "zfs"'),
        (["--root", "/dev/null/x"], "failed to start daemon: [Errno 20] Not a directory: '/dev/null/x'"),
        (["--log-level", "loud"], "invalid logging level: loud"),
        (["--config-file", "/no/such/file"], "no such file or directory"),
    ],
)
def test_a_start_that_cannot_be_is_one_line_and_status_1(tmp_path: Path, arguments: list[str], text: str) -> None:
    failed = Daemon(tmp_path, *arguments)
    assert failed.process.wait(30) == 1
    log = failed.log.read_text()
    assert text in log
    assert "Traceback" not in log
    assert not failed.pidfile.exists()
    assert not os.path.exists(failed.socket)
