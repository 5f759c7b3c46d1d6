"""containerd's requests in the keeper's words."""

from __future__ import annotations

import pytest

from sampan import errors
from sampan.api.containerd.runtime.task.v2 import shim_pb2
from sampan.api.containerd.types.runc.options import oci_pb2
from sampan.api.keeper.messages import OPTIONS
from sampan.keeper.requests import checked_options
from sampan.shim import requests
from sampan.shim.messages import METHODS
from sampan.wire import protobuf


def create(**options) -> dict:
    made = shim_pb2.CreateTaskRequest(id="c1", bundle="/b", stdin="/in")
    made.options.type_url = "containerd.runc.v1.Options"
    made.options.value = oci_pb2.Options(**options).SerializeToString()
    return requests.create(protobuf.decode(METHODS["Create"][1], made.SerializeToString()), "ns")


def test_without_options_it_is_ours_at_containerd_s_place() -> None:
    found = create()
    assert (found["container"], found["bundle"], found["runtime"], found["stdin"]) == ("c1", "/b", "", True)
    assert found["options"] == {"root": "/run/containerd/runc/ns"}


def test_options_are_passed_on_in_the_keeper_s_words(tmp_path) -> None:
    runc = tmp_path / "myrunc"
    runc.write_text("#!/bin/sh\n")
    runc.chmod(0o755)
    found = create(binary_name=str(runc), root="/r", no_pivot_root=True, systemd_cgroup=True, io_uid=7, io_gid=8)
    assert found["runtime"] == str(runc)
    assert checked_options(found["options"]) == {
        "root": "/r/ns", "no_pivot_root": True, "systemd_cgroup": True, "io_uid": 7, "io_gid": 8,
    }  # fmt: skip
    assert set(found["options"]) <= set(OPTIONS)


def test_a_runtime_is_found_on_path_and_one_that_is_not_there_is_named(tmp_path, monkeypatch) -> None:
    (tmp_path / "crun").write_text("")
    (tmp_path / "crun").chmod(0o755)
    monkeypatch.setenv("PATH", f"/nowhere:{tmp_path}")
    assert create(binary_name="crun")["runtime"] == f"{tmp_path}/crun"
    assert create(binary_name="sampan-runc")["runtime"] == ""
    with pytest.raises(errors.Error, match=r'exec: "nosuch": executable file not found in \$PATH'):
        create(binary_name="nosuch")
    with pytest.raises(errors.Error, match="fork/exec /no/such: no such file"):
        create(binary_name="/no/such")


def test_checkpoint_options_are_runc_s_flags() -> None:
    wanted = oci_pb2.CheckpointOptions(
        open_tcp=True, file_locks=True, empty_namespaces=["network"], cgroups_mode="soft", parent_path="../p"
    )
    given = {"type_url": "containerd.runc.v1.CheckpointOptions", "value": wanted.SerializeToString()}
    assert requests.checkpoint_flags({"path": "/images", "options": given}, "/b") == [
        "--image-path", "/images", "--work-path", "/b/criu-work", "--leave-running", "--tcp-established",
        "--file-locks", "--empty-ns", "network", "--manage-cgroups-mode", "soft", "--parent-path", "../p",
    ]  # fmt: skip
    given = {"type_url": "x.CheckpointOptions", "value": b""}
    assert "--leave-running" in requests.checkpoint_flags({"path": "/i", "options": None}, "/b")
    leave = {**given, "value": oci_pb2.CheckpointOptions(exit=True, work_path="/w").SerializeToString()}
    leave["type_url"] = "containerd.runc.v1.CheckpointOptions"
    assert requests.checkpoint_flags({"path": "/i", "options": leave}, "/b") == [
        "--image-path", "/i", "--work-path", "/w",
    ]  # fmt: skip


def test_garbage_is_refused() -> None:
    bad = {"type_url": "containerd.runc.v1.Options", "value": b"\xff\xff"}
    with pytest.raises(errors.InvalidArgument):
        requests.runtime_options(bad)
    for exec_id in ("", "../x", "a/b", "a" * 77):
        with pytest.raises(errors.InvalidArgument):
            requests.check_exec_id(exec_id)
