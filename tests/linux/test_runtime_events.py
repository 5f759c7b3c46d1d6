"""`events` as it is followed: a line each interval, a line for each kill by the kernel, and an end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator

import pytest
from tests.peers.client import Command
from tests.peers.machine import CGROUPS
from tests.peers.runtimes import PATHS, Runtime, adopting

pytestmark = pytest.mark.root

V1 = os.path.isdir(f"{CGROUPS}/memory")
LIMIT = 30_003_200
HUNGRY = "while [ ! -e /tmp/go ]; do usleep 10000; done; dd if=/dev/zero of=/dev/null bs=200M count=1; exec sleep 1000"


@pytest.fixture(params=sorted(PATHS))
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    if not shutil.which(PATHS[request.param]):
        pytest.skip(f"{request.param} is not installed here")
    path = tempfile.mkdtemp(prefix="sampan-events-")
    with adopting():
        made = Runtime(request.param, path)
        yield made
        made.tidy()
    shutil.rmtree(path, ignore_errors=True)


def test_a_kill_by_the_kernel_is_an_event_and_the_end_of_the_container_the_end(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    bundle.spec["linux"]["resources"] = (
        {"memory": {"limit": LIMIT, "swap": LIMIT}} if V1 else {"memory": {"limit": LIMIT}}
    )
    pid = runtime.start(bundle.shell(HUNGRY))
    watching = Command(runtime.argv("events", "--interval", "50ms", "one"), stdout=subprocess.PIPE, bufsize=0)
    first = json.loads(watching.line())
    assert (first["type"], first["id"]) == ("stats", "one")
    assert first["data"]["memory"]["usage"]["limit"] == LIMIT // 4096 * 4096
    with open(f"{bundle.rootfs}/tmp/go", "w"):
        pass
    deadline = time.monotonic() + 30
    event = first
    while event["type"] == "stats" and time.monotonic() < deadline:
        event = json.loads(watching.line())
    assert event == {"type": "oom", "id": "one"}
    os.kill(pid, 9)
    if runtime.name == "runc":  # which goes on until its container is deleted
        watching.kill()
    watching.communicate(timeout=20)
    assert watching.returncode == 0 or runtime.name == "runc"
