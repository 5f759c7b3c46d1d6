"""Starting a shim by each of the three protocols, and reading what it answers."""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from tests.peers.waiting import eventually

from sampan import errors
from sampan.api.containerd.runtime.bootstrap.v1 import bootstrap_pb2
from sampan.containerd.client_tasks import Stdio
from sampan.containerd.containers import Payload
from sampan.containerd.shims import binary
from sampan.containerd.shims.binary import Home, Programs, parse_answer
from sampan.containerd.shims.bundle import Bundles, Endpoint

ADDRESS = "unix:///run/containerd/s/4f"


@pytest.mark.parametrize(
    ("answer", "endpoint"),
    [
        (ADDRESS.encode(), Endpoint(2, ADDRESS)),
        (f"{ADDRESS}\n".encode(), Endpoint(2, ADDRESS)),
        (b"/run/s/x", Endpoint(2, "/run/s/x")),
        (json.dumps({"version": 2, "address": ADDRESS, "protocol": "ttrpc"}).encode(), Endpoint(2, ADDRESS)),
        (json.dumps({"version": 3, "address": ADDRESS, "protocol": "ttrpc"}).encode() + b"\n", Endpoint(3, ADDRESS)),
        (
            bootstrap_pb2.BootstrapResult(version=3, address=ADDRESS, protocol="ttrpc").SerializeToString(),
            Endpoint(3, ADDRESS),
        ),
    ],
)
def test_an_answer_is_read_in_every_protocol(answer: bytes, endpoint: Endpoint) -> None:
    assert parse_answer(answer) == endpoint


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", errors.Error),
        (b"\x00\x01\x02", errors.Error),
        (b'{"version":4,"address":"unix:///x","protocol":"ttrpc"}', errors.Unimplemented),
        (b'{"version":3,"address":"unix:///x","protocol":"grpc"}', errors.Unimplemented),
    ],
)
def test_an_answer_that_is_none_or_too_new_is_refused(answer: bytes, kind: type[errors.Error]) -> None:
    with pytest.raises(kind):
        parse_answer(answer)


PROGRAM = """#!/bin/sh
echo "$*" >>$0.arguments
echo "$TTRPC_ADDRESS $GRPC_ADDRESS $NAMESPACE $PWD" >>$0.environment
cat >$0.stdin
{body}
"""


class Place:
    def __init__(self, directory: str, body: str) -> None:
        self.binary = f"{directory}/shim"
        with open(self.binary, "w") as file:
            file.write(PROGRAM.format(body=body))
        os.chmod(self.binary, 0o755)
        self.bundle = Bundles(f"{directory}/state", f"{directory}/root").of("ns", "c1")
        self.bundle.make(b"{}", self.binary, Stdio())
        self.programs = Programs(Home("/run/x.sock"))

    def said(self, what: str) -> str:
        with open(f"{self.binary}.{what}") as file:
            return file.read()

    def start(self, options: Payload | None = None) -> Endpoint:
        return asyncio.run(self.programs.start(self.bundle, self.binary, options))


def test_a_shim_is_told_who_asks_where_and_with_which_options(tmp_path) -> None:
    place = Place(str(tmp_path), f"printf {ADDRESS}")
    options = Payload("containerd.runc.v1.Options", b"\x32\x04runc")
    assert place.start(options) == Endpoint(2, ADDRESS)
    arguments = place.said("arguments").split()
    assert arguments[:4] == ["-namespace", "ns", "-address", "/run/x.sock"]
    assert arguments[-3:] == ["-id", "c1", "start"]
    assert place.said("environment") == f"/run/x.sock.ttrpc /run/x.sock ns {place.bundle.path}\n"
    assert "containerd.runc.v1.Options" in place.said("stdin")


def test_a_shim_that_refuses_the_old_protocol_gets_the_new_one_and_is_remembered(tmp_path) -> None:
    result = bootstrap_pb2.BootstrapResult(version=3, address=ADDRESS, protocol="ttrpc").SerializeToString()
    (tmp_path / "answer").write_bytes(result)
    place = Place(str(tmp_path), f"grep -q x.sock.ttrpc $0.stdin || exit 1; cat {tmp_path}/answer")
    assert place.start() == Endpoint(3, ADDRESS)
    params = bootstrap_pb2.BootstrapParams.FromString((tmp_path / "shim.stdin").read_bytes())
    assert (params.instance_id, params.namespace) == ("c1", "ns")
    assert params.containerd_ttrpc_address == "/run/x.sock.ttrpc"
    assert len(place.said("arguments").splitlines()) == 2
    assert place.start() == Endpoint(3, ADDRESS)
    assert len(place.said("arguments").splitlines()) == 3, "the second time it is not tried the old way"


def test_what_a_shim_says_when_it_fails_is_the_error(tmp_path) -> None:
    with pytest.raises(errors.Error, match="no such cgroup"):
        Place(str(tmp_path), "echo no such cgroup >&2; exit 1").start()


def test_a_shim_that_hangs_is_ended_with_all_that_it_started(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(binary, "START_TIMEOUT", 2.0)  # by then the program has long said who its child is
    place = Place(str(tmp_path), "sleep 1000 & echo $! >$0.child; wait")
    with pytest.raises(errors.Unavailable, match="took longer"):
        place.start()
    child = int(place.said("child"))

    def is_gone() -> bool:
        try:
            with open(f"/proc/{child}/stat") as file:
                return file.read().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    eventually(is_gone, what="its child is ended too")


def test_a_program_that_is_not_there_is_named(tmp_path) -> None:
    place = Place(str(tmp_path), "")
    os.unlink(place.binary)
    with pytest.raises(errors.Error, match=f'exec "{place.binary}": No such file'):
        place.start()


def test_delete_gives_the_end_that_the_program_knows(tmp_path) -> None:
    # pid 7, status 137
    place = Place(str(tmp_path), r"printf '\010\007\020\211\001'")
    ended = asyncio.run(place.programs.delete(place.bundle))
    assert (ended.container_id, ended.pid, ended.status) == ("c1", 7, 137)
    assert place.said("arguments").split()[-3:] == ["-bundle", place.bundle.path, "delete"]
