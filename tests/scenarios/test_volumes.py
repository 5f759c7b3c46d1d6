"""Bind mounts and volumes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from tests.peers.client import Docker
from tests.peers.engines import Engine, UnixConnection
from tests.peers.shelf import Shelf


@pytest.fixture(autouse=True)
def no_volume_left(docker: Docker) -> Iterator[None]:
    yield
    for identity in docker.ok("ps", "-aq").split():
        docker.ok("rm", "-fv", identity)
    for name in docker.ok("volume", "ls", "-q").split():
        docker.ok("volume", "rm", "-f", name)


def test_a_bind_mount_shows_the_host_s_directory_both_ways(docker: Docker, tmp_path: str) -> None:
    with open(f"{tmp_path}/in", "w") as file:
        file.write("from the host")
    out = docker.ok(
        "run", "--rm", "-v", f"{tmp_path}:/shared", "busybox", "sh", "-c", "cat /shared/in; echo x > /shared/out"
    )
    assert out == "from the host"
    assert os.path.exists(f"{tmp_path}/out")


def test_a_bind_mount_may_be_read_only(docker: Docker, tmp_path: str) -> None:
    outcome = docker("run", "--rm", "-v", f"{tmp_path}:/shared:ro", "busybox", "touch", "/shared/x")
    assert outcome.status == 1 and "Read-only file system" in outcome.err


def test_a_single_file_can_be_bound(docker: Docker, tmp_path: str) -> None:
    with open(f"{tmp_path}/message", "w") as file:
        file.write("one file")
    assert (
        docker.ok("run", "--rm", "-v", f"{tmp_path}/message:/etc/message:ro", "busybox", "cat", "/etc/message")
        == "one file"
    )


def test_v_makes_a_missing_host_directory_and_mount_refuses_it(docker: Docker, tmp_path: str) -> None:
    docker.ok("run", "--rm", "-v", f"{tmp_path}/made:/shared", "busybox", "true")
    assert os.path.isdir(f"{tmp_path}/made")
    outcome = docker("run", "--rm", "--mount", f"type=bind,src={tmp_path}/absent,dst=/x", "busybox", "true")
    assert outcome.status == 125
    assert f'invalid mount config for type "bind": bind source path does not exist: {tmp_path}/absent' in outcome.err
    assert not os.path.exists(f"{tmp_path}/absent")


def test_a_named_volume_keeps_data_between_containers(docker: Docker) -> None:
    docker.ok("run", "--rm", "-v", "kept:/data", "busybox", "sh", "-c", "echo value > /data/file")
    assert docker.ok("run", "--rm", "-v", "kept:/other:ro", "busybox", "cat", "/other/file") == "value"
    assert docker.ok("volume", "ls", "-q") == "kept"


def test_a_new_volume_is_filled_from_the_image(docker: Docker) -> None:
    docker.ok("run", "--rm", "-v", "filled:/home", "busybox", "true")
    out = docker.ok("run", "--rm", "-v", "filled:/x", "busybox", "stat", "-c", "%u:%g %a", "/x/tester")
    assert out == "1000:1000 755"
    assert docker.ok("run", "--rm", "-v", "filled:/home:nocopy", "busybox", "ls", "/home") == "tester"
    assert docker.ok("run", "--rm", "-v", "empty:/home:nocopy", "busybox", "ls", "/home") == ""


def test_an_image_s_volume_is_made_and_filled_without_asking(docker: Docker) -> None:
    docker.ok("create", "--name", "anonymous", "configured")
    (mount,) = docker.inspect("anonymous")["Mounts"]
    assert mount["Type"] == "volume" and mount["Destination"] == "/var/kept" and len(mount["Name"]) == 64
    docker.ok("run", "--rm", "--volumes-from", "anonymous", "busybox", "sh", "-c", "echo more >> /var/kept/note")
    assert (
        docker.ok("run", "--rm", "--volumes-from", "anonymous", "busybox", "sh", "-c", "cat /var/kept/*")
        == "more\nseed"
    )


def test_volume_create_inspect_ls_rm(docker: Docker) -> None:
    assert docker.ok("volume", "create", "--label", "kind=x", "made") == "made"
    seen = docker.inspect("volume", "made")
    assert seen["Name"] == "made" and seen["Driver"] == "local" and seen["Scope"] == "local"
    assert seen["Labels"] == {"kind": "x"} and os.path.isdir(seen["Mountpoint"])
    assert docker.ok("volume", "create", "made") == "made"
    assert docker.ok("volume", "ls", "-q", "--filter", "label=kind=x") == "made"
    assert docker.ok("volume", "ls", "-q", "--filter", "dangling=false") == ""
    rows = [json.loads(line) for line in docker.ok("volume", "ls", "--format", "{{json .}}").splitlines()]
    assert [(row["Driver"], row["Name"]) for row in rows] == [("local", "made")]
    assert docker.ok("volume", "rm", "made") == "made"
    assert not os.path.exists(seen["Mountpoint"])
    unnamed = docker.ok("volume", "create")
    assert len(unnamed) == 64


def test_a_volume_in_use_cannot_be_removed(docker: Docker) -> None:
    identity = docker.ok("create", "-v", "used:/x", "busybox", "true")
    outcome = docker("volume", "rm", "used")
    assert outcome.status == 1
    assert f"remove used: volume is in use - [{identity}]" in outcome.err


def test_an_unknown_volume_and_a_bad_name_are_refused(docker: Docker) -> None:
    assert "no such volume" in docker("volume", "inspect", "nowhere").err.lower()
    assert "no such volume" in docker("volume", "rm", "nowhere").err.lower()
    outcome = docker("volume", "create", "bad/name")
    assert outcome.status == 1
    assert 'create bad/name: "bad/name" includes invalid characters for a local volume name' in outcome.err
    outcome = docker("run", "--rm", "-v", "relative/path:/x", "busybox", "true")
    assert outcome.status == 125 and "includes invalid characters for a local volume name" in outcome.err


def test_volume_prune_removes_unused_anonymous_volumes(docker: Docker) -> None:
    unused = docker.ok("volume", "create")
    docker.ok("create", "-v", "used:/x", "-v", "/y", "busybox", "true")
    before = set(docker.ok("volume", "ls", "-q").split())
    docker.ok("volume", "prune", "-f")
    assert before - set(docker.ok("volume", "ls", "-q").split()) == {unused}


def test_a_mount_below_another_is_seen(docker: Docker, tmp_path: str) -> None:
    os.makedirs(f"{tmp_path}/outer/inner")
    mounts = ("--tmpfs", "/m/inner2", "-v", "deep:/m/inner", "-v", f"{tmp_path}/outer:/m")
    out = docker.ok("run", "--rm", *mounts, "busybox", "awk", '$2 ~ "^/m" {print $2}', "/proc/mounts")
    assert sorted(out.splitlines()) == ["/m", "/m/inner", "/m/inner2"]


def test_a_symbolic_link_of_the_image_cannot_lead_a_mount_out(docker: Docker, shelf: Shelf, tmp_path: str) -> None:
    image = shelf.reference("linked")
    out = docker.ok("run", "--rm", "-v", f"{tmp_path}:/escape/inside", image, "sh", "-c",
                    "awk '{print $2}' /proc/mounts | grep inside")  # fmt: skip
    assert out == "/tmp/inside"
    assert not os.path.exists("/tmp/inside")


@pytest.mark.sampan_only("Docker 20.10 does not know VolumeOptions.Subpath; 26 refuses the link in these words")
def test_a_path_inside_a_volume_is_mounted_and_a_link_there_does_not_lead_out(engine: Engine, docker: Docker) -> None:
    docker.ok(
        "run", "--rm", "-v", "kept:/data", "busybox",
        "sh", "-c", "mkdir /data/real && echo below > /data/real/file && ln -s / /data/root",
    )  # fmt: skip

    def started(subpath: str) -> tuple[int, bytes]:
        mount = {"Type": "volume", "Source": "kept", "Target": "/x", "VolumeOptions": {"Subpath": subpath}}
        body = {"Image": "busybox", "Cmd": ["cat", "/x/file"], "HostConfig": {"Mounts": [mount]}}
        connection = UnixConnection(engine.socket)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", f"/containers/create?name={subpath}", json.dumps(body), headers)
        assert connection.getresponse().read().startswith(b'{"Id":')
        connection.request("POST", f"/containers/{subpath}/start")
        answer = connection.getresponse()
        return answer.status, answer.read()

    assert started("real") == (204, b"")
    assert docker.ok("wait", "real") == "0" and docker.ok("logs", "real") == "below"
    status, text = started("root")
    assert status == 400 and b"path concatenation escapes the base directory" in text
    assert os.listdir(f"{engine.state}/subpaths") == []
