"""Every attack is tried on two runtimes, Debian's runc and ours, and none may leave anything on the host."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from tests.conftest import leave_out
from tests.peers.runtimes import PATHS, Runtime, adopting


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "security" in item.path.parts:
            item.add_marker(pytest.mark.root)
            item.add_marker(pytest.mark.needs("busybox"))


@pytest.fixture
def scratch() -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="sampan-attack-")
    # User namespaces' roots are nobody here, and must reach the bundles.
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(params=sorted(PATHS))
def runtime(request: pytest.FixtureRequest, scratch: str) -> Iterator[Runtime]:
    """The runtime under attack; whatever the test did, it is gone afterwards."""
    if not shutil.which(PATHS[request.param]):
        leave_out(f"needs {request.param}")
    with adopting():
        made = Runtime(request.param, scratch)
        yield made
        made.tidy()
        assert made.leftovers() == []


@pytest.fixture
def sampan(scratch: str) -> Iterator[Runtime]:
    """Ours alone, for what only a runtime written in Python must fear."""
    with adopting():
        made = Runtime("sampan", scratch)
        yield made
        made.tidy()
        assert made.leftovers() == []
