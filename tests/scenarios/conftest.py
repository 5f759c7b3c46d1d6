"""One machine, one registry, one engine for the whole session; every scenario leaves the engine empty behind it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator

import pytest
from tests.conftest import leave_out
from tests.peers import images
from tests.peers.client import Docker
from tests.peers.engines import ENGINES, Engine
from tests.peers.machine import CGROUPS, Machine
from tests.peers.registry import Authority, FaultyFront, Registry, TokenServer
from tests.peers.shelf import Shelf

LAUNCHER = os.path.join(os.path.dirname(__file__), "../../sampan")
PEERS = ("docker", "docker-registry", "skopeo", "busybox", "ip", "nft", "openssl")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kind = config.getoption("--engine")
    for item in items:
        if "scenarios" not in item.path.parts:
            continue
        item.add_marker(pytest.mark.root)
        item.add_marker(pytest.mark.needs(*PEERS, *(("dockerd",) if kind == "dockerd" else ())))
        for only, other in (("sampan_only", "dockerd"), ("dockerd_only", "sampan")):
            mark = item.get_closest_marker(only)
            if mark and kind == other:
                item.add_marker(pytest.mark.skip(reason=f"not on {kind}: {mark.args[0]}"))


@pytest.fixture(scope="session")
def scratch() -> Iterator[str]:
    """A directory of this session on the host, with a name short enough for unix sockets."""
    path = tempfile.mkdtemp(prefix="sampan-tests-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def machine(scratch: str) -> Iterator[Machine]:
    if not os.path.isdir(f"{CGROUPS}/memory"):
        leave_out("needs cgroup v1 controllers in /sys/fs/cgroup")
    made = Machine(scratch)
    yield made
    made.close()


@pytest.fixture(scope="session")
def authority(scratch: str) -> Authority:
    return Authority(scratch)


@pytest.fixture(scope="session")
def registry(machine: Machine, scratch: str) -> Iterator[Registry]:
    """A plain-HTTP registry on the machine's 127.0.0.1:5000."""
    made = Registry(machine, scratch, f"{scratch}/registry")
    yield made
    made.close()


@pytest.fixture(scope="session")
def shelf(registry: Registry, scratch: str) -> Shelf:
    """The test images, pushed to the plain registry."""
    made = Shelf(registry, f"{scratch}/layouts")
    made.fill()
    return made


@pytest.fixture(scope="session")
def token_server(machine: Machine, authority: Authority) -> Iterator[TokenServer]:
    made = TokenServer(machine, authority)
    yield made
    made.close()


@pytest.fixture(scope="session")
def faulty(machine: Machine, registry: Registry) -> Iterator[FaultyFront]:
    made = FaultyFront(machine, registry)
    yield made
    made.close()


@pytest.fixture(scope="session")
def engine_kind(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--engine"))


@pytest.fixture(scope="session")
def new_engine(
    machine: Machine, authority: Authority, engine_kind: str, scratch: str
) -> Iterator[Callable[[str], Engine]]:
    """Makes a further engine of the chosen kind, not started, in a directory of the given name."""
    made: list[Engine] = []

    def make(name: str) -> Engine:
        os.makedirs(f"{scratch}/{name}", exist_ok=True)
        one: Engine = ENGINES[engine_kind](machine, f"{scratch}/{name}", {"SSL_CERT_FILE": authority.certificate})
        made.append(one)
        return one

    yield make
    for one in made:
        one.end()


@pytest.fixture(scope="session")
def engine(new_engine: Callable[[str], Engine]) -> Engine:
    """The engine under test, running."""
    one = new_engine("engine")
    one.start()
    return one


@pytest.fixture(scope="session")
def bare_docker(engine: Engine, scratch: str, request: pytest.FixtureRequest) -> Docker:
    """The newest docker client on PATH, or our own (`--client=sampan`), before any image is there."""
    own = request.config.getoption("--client") == "sampan"
    binary = LAUNCHER if own else shutil.which("docker")
    assert binary
    return Docker(binary, engine.uri, f"{scratch}/home")


@pytest.fixture(scope="session")
def stocked(bare_docker: Docker, shelf: Shelf) -> None:
    """The images most scenarios use are in the engine, under short names."""
    for name in ("busybox", "configured"):
        bare_docker.ok("pull", "-q", shelf.reference(name))
        bare_docker.ok("tag", shelf.reference(name), name)


@pytest.fixture
def docker(bare_docker: Docker, stocked: None) -> Docker:
    return bare_docker


@pytest.fixture(scope="session")
def debian(bare_docker: Docker, registry: Registry, scratch: str) -> str:
    """A reference to a real Debian minbase in the registry."""
    if not shutil.which("debootstrap"):
        leave_out("needs debootstrap")
    with open(images.debian_tar(), "rb") as file:
        blob = images.layer(file.read())
    layout = f"{scratch}/layouts/debian"
    config = {"Cmd": ["bash"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]}
    images.write_layout(layout, [images.image([blob], config)])
    return registry.push(layout, "debian")


@pytest.fixture(autouse=True)
def tidy(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each scenario no container is left in the engine, whatever the scenario did."""
    yield
    if "bare_docker" in request.fixturenames:
        request.getfixturevalue("bare_docker").tidy()
    if "engine" in request.fixturenames:
        remove_containers(request.getfixturevalue("engine"))


def remove_containers(engine: Engine) -> None:
    """Removes every container of an engine by force, with its anonymous volumes."""
    status, _, body = engine.request("GET", "/containers/json?all=1")
    for row in json.loads(body) if status == 200 else []:
        engine.request("DELETE", f"/containers/{row['Id']}?force=1&v=1")
