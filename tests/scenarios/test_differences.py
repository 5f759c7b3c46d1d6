"""The known differences from Docker of docs/compat, as both engines have them."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from typing import Any

import pytest
from tests.peers.client import Docker
from tests.peers.engines import Engine
from tests.peers.shelf import Shelf


@pytest.fixture
def sampan(engine_kind: str) -> bool:
    """Whether the engine under test is ours."""
    return engine_kind == "sampan"


def asked(engine: Engine, method: str, path: str, document: object = None) -> tuple[int, str]:
    """Status and body of one request of the API."""
    body = None if document is None else json.dumps(document).encode()
    status, _, answer = engine.request(method, path, body=body, headers={"Content-Type": "application/json"})
    return status, answer.decode()


def test_log_options_add_attributes_with_docker_alone(docker: Docker, sampan: bool) -> None:
    options = ("--log-opt", "labels=kind", "--label", "kind=x", "--log-opt", "env=MODE", "-e", "MODE=y")
    docker.ok("run", "--name", "one", *options, "busybox", "echo", "hello")
    with open(docker.inspect("one")["LogPath"]) as file:
        entry = json.loads(file.readline())
    assert entry["log"] == "hello\n"
    assert entry.get("attrs") == (None if sampan else {"kind": "x", "MODE": "y"})


def test_host_gateway_on_the_hosts_network(docker: Docker, sampan: bool) -> None:
    told = ("--network", "host", "--add-host", "outside:host-gateway")
    hosts = docker.ok("run", "--rm", *told, "busybox", "cat", "/etc/hosts")
    (address,) = [line.split()[0] for line in hosts.splitlines() if line.endswith("outside")]
    assert (address == "127.0.0.1") is sampan


def test_no_engine_has_a_device_driver_for_gpus(docker: Docker) -> None:
    done = docker("run", "--gpus", "all", "busybox", "true")
    assert done.status == 125
    assert 'could not select device driver "" with capabilities: [[gpu]]' in done.err


def test_attach_by_websocket_is_dockers_alone(docker: Docker, engine: Engine, sampan: bool) -> None:
    docker.ok("run", "-d", "--name", "one", "busybox", "sleep", "100")
    status, _ = asked(engine, "GET", "/containers/one/attach/ws?stream=1&stdout=1")
    assert (status == 404) is sampan


def test_the_parent_cgroup(docker: Docker, sampan: bool) -> None:
    paths = docker.ok("run", "--rm", "--cgroupns", "host", "busybox", "cat", "/proc/self/cgroup")
    parents = {line.split(":")[2].split("/")[1] for line in paths.splitlines() if len(line.split(":")[2]) > 60}
    assert parents == {"sampan" if sampan else "docker"}


def test_all_capabilities_where_the_engine_lacks_one(docker: Docker, sampan: bool) -> None:
    with open("/proc/self/status") as file:
        own = int(next(line for line in file if line.startswith("CapBnd")).split()[1], 16)
    with open("/proc/sys/kernel/cap_last_cap") as file:
        every = (1 << int(file.read()) + 1) - 1
    done = docker("run", "--rm", "--cap-add", "ALL", "busybox", "grep", "CapEff", "/proc/self/status")
    if sampan or own == every:
        assert int(done.out.split()[1], 16) == own
    else:
        assert done.status == 125 or done.status == 126
        assert "unable to apply caps" in done.err


def test_the_mode_and_the_names_of_what_cp_brings(docker: Docker, engine: Engine, sampan: bool) -> None:
    docker.ok("create", "--name", "one", "busybox", "true")
    _, _, body = engine.request("GET", "/containers/one/archive?path=/bin/busybox")
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        (member,) = archive.getmembers()
    assert member.mode & 0o7777 == 0o755
    assert (member.uname, member.mode >> 12) == (("", 0) if sampan else (member.uname, member.mode >> 12))


def test_the_size_of_an_image(docker: Docker, engine_kind: str) -> None:
    size = docker.inspect("image", "busybox")["Size"]
    files = docker.ok("run", "--rm", "busybox", "stat", "-c", "%s", "/bin/busybox")
    assert size >= int(files)
    assert (size % 512 == 0) or engine_kind == "dockerd"


def test_push_of_an_image_that_is_not_there(docker: Docker, engine: Engine, shelf: Shelf, sampan: bool) -> None:
    headers = {"X-Registry-Auth": "e30="}
    status, _, body = engine.request("POST", "/images/nowhere%2Fnothing/push?tag=1", headers=headers)
    assert status == (404 if sampan else 200)
    assert "An image does not exist locally with the tag: nowhere/nothing" in body.decode()


def weight(docker: Docker) -> dict[str, Any]:
    docker.ok("create", "--name", "one", "--blkio-weight", "300", "busybox", "true")
    return dict(docker.inspect("one")["HostConfig"])


def test_a_blkio_weight_that_only_bfq_takes(docker: Docker, sampan: bool) -> None:
    assert weight(docker)["BlkioWeight"] == (300 if sampan else 0)


def test_the_page_speaks_of_apparmor_only_where_the_host_has_it(docker: Docker) -> None:
    enabled = subprocess.run(["cat", "/sys/module/apparmor/parameters/enabled"], capture_output=True, text=True)
    options = docker.ok("info", "--format", "{{json .SecurityOptions}}")
    assert ("apparmor" in options) is (enabled.stdout.strip() == "Y")
