from __future__ import annotations

import pytest

from sampan.linux.cgroupfs import Hierarchy
from sampan.runtime import cgroup
from sampan.runtime.host import HostFacts

HIERARCHIES = [
    Hierarchy(1, ("memory",), "", "/cg/memory", "/"),
    Hierarchy(1, ("cpu", "cpuacct"), "", "/cg/cpu,cpuacct", "/"),
    Hierarchy(1, (), "systemd", "/cg/systemd", "/"),
    Hierarchy(2, (), "", "/cg/unified", "/"),
]
OWN = {"memory": "/us", "cpu": "/", "cpuacct": "/", "name=systemd": "/", "": "/"}


def paths(wanted: str, own: dict[str, str] = OWN, hierarchies: list[Hierarchy] = HIERARCHIES) -> dict[str, str]:
    return cgroup.paths(HostFacts(hierarchies, own, 0, 40), wanted, "boat")


def test_an_absolute_path_starts_at_each_trees_root() -> None:
    assert paths("/docker/x") == {
        "memory": "/cg/memory/docker/x", "cpu": "/cg/cpu,cpuacct/docker/x", "cpuacct": "/cg/cpu,cpuacct/docker/x",
        "name=systemd": "/cg/systemd/docker/x", "": "/cg/unified/docker/x",
    }  # fmt: skip


def test_without_a_path_it_is_the_id_below_our_own_cgroup() -> None:
    found = paths("")
    assert (found["memory"], found["cpu"]) == ("/cg/memory/us/boat", "/cg/cpu,cpuacct/boat")


def test_a_relative_path_is_below_our_own_cgroup() -> None:
    assert paths("a/b")["memory"] == "/cg/memory/us/a/b"


@pytest.mark.parametrize("wanted", ["../../etc", "/../../etc", "x/../../../etc"])
def test_no_path_leads_out_of_the_tree(wanted: str) -> None:
    for directory in paths(wanted).values():
        assert directory.startswith("/cg/")
        assert ".." not in directory


def test_a_host_without_cgroups_has_none() -> None:
    assert paths("/x", {}, []) == {}
