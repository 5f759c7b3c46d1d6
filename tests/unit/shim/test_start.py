"""What `start` reads from whom, and answers to whom; shims of one group are one."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile

import pytest
from google.protobuf import any_pb2

from sampan import errors
from sampan.api.containerd.runtime.bootstrap.v1 import bootstrap_pb2
from sampan.api.containerd.types.runc.options import oci_pb2
from sampan.shim import start
from sampan.shim.__main__ import parse
from sampan.shim.start import Parameters, answer

FLAGS = {"id": "c1", "namespace": "ns", "address": "/run/c.sock"}
OPTIONS = oci_pb2.Options(shim_cgroup="/shims", binary_name="crun")
ANY = any_pb2.Any(type_url="containerd.runc.v1.Options", value=OPTIONS.SerializeToString())


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("TTRPC_ADDRESS", "/run/c.sock.ttrpc")
    monkeypatch.delenv("MAX_SHIM_VERSION", raising=False)


def test_options_of_old_come_alone() -> None:
    found = Parameters(FLAGS, ANY.SerializeToString())
    assert (found.bootstrap, found.events, found.sockets) == (False, "/run/c.sock.ttrpc", start.SOCKETS)
    assert (found.options["shim_cgroup"], found.options["binary_name"]) == ("/shims", "crun")
    assert Parameters(FLAGS, b"").options == {}
    other = any_pb2.Any(type_url="some.other.Options", value=b"\xff")
    assert Parameters(FLAGS, other.SerializeToString()).options == {}


def test_bootstrap_parameters_are_known_by_their_names() -> None:
    params = bootstrap_pb2.BootstrapParams(
        instance_id="c1", namespace="ns", containerd_ttrpc_address="/other.ttrpc", socket_dir="/run/short"
    )
    params.extensions.add().value.CopyFrom(any_pb2.Any(type_url="x.Y", value=b"\x01"))
    params.extensions.add().value.CopyFrom(ANY)
    found = Parameters(FLAGS, params.SerializeToString())
    assert (found.bootstrap, found.events, found.sockets) == (True, "/other.ttrpc", "/run/short")
    assert found.options["binary_name"] == "crun"
    wrapped = bootstrap_pb2.BootstrapParams(instance_id="c1", namespace="ns")
    wrapped.extensions.add().value.CopyFrom(
        any_pb2.Any(type_url="type.googleapis.com/google.protobuf.Any", value=ANY.SerializeToString())
    )
    assert Parameters(FLAGS, wrapped.SerializeToString()).options["binary_name"] == "crun"
    params.instance_id = "another"
    assert not Parameters(FLAGS, params.SerializeToString()).bootstrap


def test_garbage_on_stdin_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument):
        Parameters(FLAGS, b"\xff\xff")


def test_everybody_is_answered_as_he_asks() -> None:
    assert answer("unix:///s", False, "") == b"unix:///s"
    assert json.loads(answer("unix:///s", False, "2")) == {"version": 2, "address": "unix:///s", "protocol": "ttrpc"}
    assert json.loads(answer("unix:///s", False, "9"))["version"] == 3
    result = bootstrap_pb2.BootstrapResult.FromString(answer("unix:///s", True, "2"))
    assert (result.version, result.address, result.protocol) == (3, "unix:///s", "ttrpc")


class Started:
    """`start` without a shim: the processes that it would have spawned."""

    def __init__(self, tmp_path, monkeypatch) -> None:
        self.pids: list[str] = []
        self.held: list[int] = []
        monkeypatch.chdir(tmp_path)
        self.sockets = tempfile.mkdtemp(prefix="shim")  # a socket's path is short
        monkeypatch.setattr(start, "SOCKETS", self.sockets)
        monkeypatch.setattr(start, "_spawn", self.spawn)
        monkeypatch.setattr(start, "_adjust_oom_score", lambda pid: None)
        self.verbs: list[str] = []
        self.directory = tmp_path

    def spawn(self, wanted, path, listener, verb) -> int:
        self.verbs.append(verb[-1])
        self.held.append(os.dup(listener.fileno()))  # as the shim has it
        self.pids.append(wanted.id)
        return os.getpid()

    def __call__(self, name: str, annotations: dict[str, str]) -> str:
        (self.directory / "config.json").write_text(json.dumps({"annotations": annotations}))
        return start.start({**FLAGS, "id": name}, b"").decode()


def test_a_group_shares_a_shim_and_others_have_their_own(tmp_path, monkeypatch) -> None:
    started = Started(tmp_path, monkeypatch)
    pod = {"io.kubernetes.cri.sandbox-id": "p"}
    one, two, alone = started("c1", pod), started("c2", pod), started("c3", {})
    assert one == two != alone
    assert started.pids == ["c1", "c3"]
    assert started("c4", {"io.containerd.runc.v2.group": "p"}) == one
    assert (tmp_path / "address").read_text() == one
    assert stat.S_IMODE(os.stat(one.removeprefix("unix://")).st_mode) == 0o600
    os.close(started.held[0])
    assert started("c5", pod) == one, "the socket of a shim that died is taken over"
    assert started.pids == ["c1", "c3", "c5"]
    assert started.verbs == ["nurse"] * 3
    for fd in started.held[1:]:
        os.close(fd)
    shutil.rmtree(started.sockets)


def test_a_cgroup_that_is_not_there_is_an_error_and_leaves_no_socket(tmp_path, monkeypatch) -> None:
    started = Started(tmp_path, monkeypatch)
    monkeypatch.setattr(start, "CGROUPS", f"{tmp_path}/cgroup")
    (tmp_path / "cgroup" / "memory" / "there").mkdir(parents=True)
    (tmp_path / "cgroup" / "memory" / "there" / "cgroup.procs").write_text("")
    (tmp_path / "config.json").write_text("{}")

    def ask(name: str) -> bytes:
        value = oci_pb2.Options(shim_cgroup=name).SerializeToString()
        given = any_pb2.Any(type_url="containerd.runc.v1.Options", value=value)
        return start.start(FLAGS, given.SerializeToString())

    ask("/there")
    assert started.verbs == ["serve"], "one in a cgroup of its own is no child of another's"
    assert (tmp_path / "cgroup" / "memory" / "there" / "cgroup.procs").read_text() == str(os.getpid())
    os.close(started.held.pop())
    with pytest.raises(errors.Error, match="failed to load cgroup /nowhere"):
        ask("/nowhere")
    assert os.listdir(started.sockets) == []
    os.close(started.held.pop())
    os.rmdir(started.sockets)


def test_flags_are_read_as_go_reads_them() -> None:
    flags, verb = parse(["-namespace", "n", "--id=c", "-debug", "-publish-binary", "/c", "start"])
    assert (flags["namespace"], flags["id"], flags["debug"], verb) == ("n", "c", True, "start")
    for wrong in (["-nosuch"], ["-id"]):
        with pytest.raises(ValueError, match="flag"):
            parse(wrong)
