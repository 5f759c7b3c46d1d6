"""What the texts of /proc say about hierarchies, on hosts unlike this one."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.linux import cgroupfs, mountinfo

LEGACY = """\
31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/systemd rw shared:5 - cgroup cgroup rw,xattr,release_agent=/lib/systemd/agent,name=systemd
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
35 31 0:31 / /other/memory rw - cgroup cgroup rw,memory
36 31 0:32 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset,noprefix,clone_children,cpuset_v2_mode
"""
UNIFIED = "40 23 0:40 / /no/such/cgroup rw - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"


def test_each_v1_hierarchy_is_found_once_with_its_controllers_or_name() -> None:
    found = cgroupfs.hierarchies(mountinfo.parse(LEGACY))
    assert [(h.version, h.keys(), h.mount_point) for h in found] == [
        (1, ("name=systemd",), "/sys/fs/cgroup/systemd"),
        (1, ("cpu", "cpuacct"), "/sys/fs/cgroup/cpu,cpuacct"),
        (1, ("memory",), "/sys/fs/cgroup/memory"),
        (1, ("cpuset",), "/sys/fs/cgroup/cpuset"),
    ]


@pytest.mark.parametrize(
    ("text", "mode"), [(LEGACY, "legacy"), (UNIFIED, "unified"), (LEGACY + UNIFIED, "hybrid"), ("", "none")]
)
def test_the_mode_follows_from_the_versions_mounted(text: str, mode: str) -> None:
    assert cgroupfs.mode(cgroupfs.hierarchies(mountinfo.parse(text))) == mode


def test_the_unified_hierarchy_has_the_empty_key() -> None:
    (found,) = cgroupfs.hierarchies(mountinfo.parse(UNIFIED))
    assert (found.version, found.keys(), found.controllers) == (2, ("",), ())


def test_a_cgroup_path_becomes_a_directory_under_the_mount() -> None:
    whole = cgroupfs.Hierarchy(1, ("pids",), "", "/sys/fs/cgroup/pids", "/")
    assert whole.directory("/docker/x") == "/sys/fs/cgroup/pids/docker/x"
    assert whole.directory("/") == "/sys/fs/cgroup/pids/"


def test_in_a_container_the_path_is_taken_relative_to_what_is_mounted() -> None:
    part = cgroupfs.Hierarchy(1, ("pids",), "", "/sys/fs/cgroup/pids", "/docker/x")
    assert part.directory("/docker/x/sub") == "/sys/fs/cgroup/pids/sub"
    assert part.directory("/docker/x") == "/sys/fs/cgroup/pids/"
    for outside in ("/docker/xy", "/docker", "/"):
        with pytest.raises(OSError) as refused:
            part.directory(outside)
        assert refused.value.errno == errno.ENOENT


def test_proc_cgroup_is_read_by_controller_name_and_the_empty_key_of_v2() -> None:
    text = "12:cpu,cpuacct:/a\n11:name=systemd:/b:c\n0::/user.slice\n"
    assert cgroupfs.parse_paths(text) == {"cpu": "/a", "cpuacct": "/a", "name=systemd": "/b:c", "": "/user.slice"}


@given(st.text())
def test_garbage_is_a_value_error_or_a_table(text: str) -> None:
    try:
        cgroupfs.parse_paths(text)
    except ValueError as error:
        assert "not a cgroup line" in str(error)
