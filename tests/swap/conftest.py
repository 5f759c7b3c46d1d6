"""Real neighbours over two runtimes in the same run: Debian's runc, and sampan-runc with nothing else changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import pytest
from tests.conftest import leave_out
from tests.peers import images
from tests.peers.machine import CGROUPS, Machine
from tests.peers.runtimes import PATHS


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "swap" in item.path.parts:
            item.add_marker(pytest.mark.root)
            item.add_marker(pytest.mark.needs("runc", "busybox", "ip", "nft"))


@pytest.fixture(scope="session")
def scratch() -> Iterator[str]:
    """A directory with a short name, without characters that an image reference may not have."""
    path = tempfile.mkdtemp(prefix="swap")
    plain = f"/tmp/swap{os.getpid()}"
    os.rename(path, plain)
    os.chmod(plain, 0o755)
    yield plain
    shutil.rmtree(plain, ignore_errors=True)


@pytest.fixture(scope="session")
def machine(scratch: str) -> Iterator[Machine]:
    if not os.path.isdir(f"{CGROUPS}/memory"):
        leave_out("needs cgroup v1 controllers in /sys/fs/cgroup")
    made = Machine(scratch, "swap")
    yield made
    made.close()


@pytest.fixture(scope="session", params=sorted(PATHS))
def runtime(request: pytest.FixtureRequest) -> str:
    """The path of the runtime's program."""
    return PATHS[request.param]


@pytest.fixture(scope="session")
def layout(scratch: str) -> str:
    """An OCI layout of busybox with the tag `latest`."""
    path = f"{scratch}/busybox"
    blob = images.layer(images.tar(images.busybox_entries()))
    images.write_layout(path, [images.image([blob], {"Cmd": ["sh"], "Env": ["PATH=/bin:/usr/bin"]})])
    return path


@pytest.fixture(scope="session")
def archive(layout: str, scratch: str) -> str:
    """The same as a tar file, for `docker load` and `ctr image import`."""
    path = f"{scratch}/busybox.tar"
    subprocess.run(
        ["skopeo", "copy", "-q", f"oci:{layout}:latest", f"docker-archive:{path}:example.org/busybox:latest"],
        check=True,
    )
    return path
