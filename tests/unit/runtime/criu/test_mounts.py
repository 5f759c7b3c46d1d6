"""What of a container's mounts CRIU is told to be the host's; no root and no container is needed to say so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.linux.cgroupfs import Hierarchy
from sampan.runtime.criu import mounts
from sampan.runtime.host import HostFacts

V1 = [
    Hierarchy(1, ("memory",), "", "/sys/fs/cgroup/memory", "/"),
    Hierarchy(1, ("cpu", "cpuacct"), "", "/sys/fs/cgroup/cpu,cpuacct", "/"),
    Hierarchy(2, (), "", "/sys/fs/cgroup/unified", "/"),
]
V2 = [Hierarchy(2, ("memory",), "", "/sys/fs/cgroup", "/")]
PATHS = {"memory": "/sys/fs/cgroup/memory/x", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/x", "": "/sys/fs/cgroup/unified/x"}


def host(hierarchies: list[Hierarchy]) -> HostFacts:
    return HostFacts(hierarchies, {}, 0, 40)


def spec(*entries: dict[str, Any], namespaces: tuple[str, ...] = (), **linux: Any) -> Any:
    return {"mounts": list(entries), "linux": {"namespaces": [{"type": kind} for kind in namespaces], **linux}}


def bind(destination: str, source: str) -> dict[str, Any]:
    return {"destination": destination, "source": source, "type": "bind"}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "real").mkdir()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "kcore").touch()
    (tmp_path / "proc" / "acpi").mkdir()
    os.symlink("/real", tmp_path / "link")
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def saved(root: int, document: Any, hierarchies: list[Hierarchy] = V2) -> dict[str, str]:
    return {one["key"]: one["val"] for one in mounts.saved(document, host(hierarchies), root)}


def offered(root: int, document: Any, hierarchies: list[Hierarchy] = V2) -> dict[str, str]:
    return {one["key"]: one["val"] for one in mounts.offered(document, host(hierarchies), "/bundle", root, PATHS)}


def test_a_bind_is_saved_by_its_place_and_offered_by_its_source(root: int) -> None:
    document = spec(bind("/real/", "/srv"), {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
                    {"destination": "/data", "source": "data", "options": ["rbind"]})  # fmt: skip
    assert saved(root, document) == {"/real": "/real", "/data": "/data"}
    assert offered(root, document) == {"/real": "/srv", "/data": "/bundle/data"}


def test_a_symlinked_destination_is_where_it_leads_inside_the_root(root: int) -> None:
    document = spec(bind("/link", "/srv"))
    assert saved(root, document) == {"/real": "/real"}
    assert offered(root, document) == {"/link": "/srv", "/real": "/srv"}


def test_masked_files_are_the_null_device_and_masked_directories_are_saved(root: int) -> None:
    document = spec(maskedPaths=["/proc/kcore", "/proc/acpi", "/proc/none"])
    assert saved(root, document) == {"/proc/kcore": "/dev/null"}
    assert offered(root, document) == {"/dev/null": "/dev/null"}


CGROUP = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}


def test_a_cgroup_mount_of_v1_is_a_bind_for_each_hierarchy(root: int) -> None:
    assert saved(root, spec(CGROUP), V1) == {
        "/sys/fs/cgroup/memory": "/sys/fs/cgroup/memory",
        "/sys/fs/cgroup/cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
    }
    assert offered(root, spec(CGROUP), V1) == {
        "/sys/fs/cgroup/memory": "/sys/fs/cgroup/memory/x",
        "/sys/fs/cgroup/cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct/x",
    }


@pytest.mark.parametrize(("hierarchies", "namespaces"), [(V2, ()), (V1, ("cgroup",))])
def test_a_cgroup_mount_that_is_real_is_crius_own(
    root: int, hierarchies: list[Hierarchy], namespaces: tuple[str, ...]
) -> None:
    assert saved(root, spec(CGROUP, namespaces=namespaces), hierarchies) == {}


def test_devices_are_the_hosts_where_a_user_namespace_cannot_make_them(root: int) -> None:
    document = spec(namespaces=("user",), devices=[{"path": "/dev/fuse"}])
    assert {"/dev/null", "/dev/tty", "/dev/fuse"} <= set(saved(root, document))
    assert offered(root, document)["/dev/fuse"] == "/dev/fuse"
    assert saved(root, spec(devices=[{"path": "/dev/fuse"}])) == {}
