"""The machine's own hierarchies, and cgroups of our own below them that are removed again."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator

import pytest

from sampan.linux import abi, cgroupfs, mountinfo, process, procfs
from sampan.linux.paths import fstatfs_type

pytestmark = pytest.mark.root

NAME = f"sampan-test-cgroupfs-{os.getpid()}"


def found() -> list[cgroupfs.Hierarchy]:
    return cgroupfs.hierarchies(mountinfo.read())


@pytest.fixture(params=["pids", "freezer", "name=systemd", ""])
def own(request: pytest.FixtureRequest) -> Iterator[int]:
    """A new cgroup below our own in one hierarchy."""
    hierarchy = next((h for h in found() if request.param in set(h.keys())), None)
    if hierarchy is None:
        pytest.skip(f"no hierarchy {request.param!r} is mounted")
    parent = cgroupfs.open_cgroup(hierarchy.directory(cgroupfs.paths()[request.param]))
    fd = cgroupfs.mkdirs(parent, NAME)
    yield fd
    os.close(fd)
    cgroupfs.remove_tree(parent, NAME)
    os.close(parent)


def sleeper() -> tuple[int, int]:
    # The test runner's own handler (tests/conftest.py ends the peers by it) must not become the sleeper's.
    runners = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    pid, pidfd = process.clone3(0)
    if pid == 0:
        try:
            while True:
                signal.pause()
        finally:
            os._exit(0)
    signal.signal(signal.SIGTERM, runners)
    return pid, pidfd


def reaped(pidfd: int) -> int:
    result = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    assert result is not None
    return result.si_status


def test_every_cgroup_of_this_process_lies_in_a_hierarchy_that_was_found() -> None:
    keys = {key for keys in map(cgroupfs.Hierarchy.keys, found()) for key in keys}
    mounted = {key for key in cgroupfs.paths() if key in keys}
    assert mounted
    for hierarchy in found():
        for key, path in cgroupfs.paths().items():
            if key not in set(hierarchy.keys()):
                continue
            directory = hierarchy.directory(path)
            fd = cgroupfs.open_cgroup(directory)
            assert os.getpid() in cgroupfs.processes(fd)
            os.close(fd)


def test_the_mode_of_the_machine_agrees_with_the_mount_at_the_usual_place() -> None:
    kinds = {m.fstype for m in mountinfo.read() if m.fstype in ("cgroup", "cgroup2")}
    expected = {("cgroup",): "legacy", ("cgroup2",): "unified", ("cgroup", "cgroup2"): "hybrid", (): "none"}
    assert cgroupfs.mode(found()) == expected[tuple(sorted(kinds))]


def test_a_directory_that_is_no_cgroup_is_refused() -> None:
    with pytest.raises(OSError) as refused:
        cgroupfs.open_cgroup("/tmp")
    assert refused.value.errno == errno.EINVAL


def test_a_process_moves_into_a_cgroup_and_is_listed_below_it(own: int) -> None:
    deep = cgroupfs.mkdirs(own, "a/b")
    pid, pidfd = sleeper()
    cgroupfs.add_process(deep, pid)
    assert any(path.endswith(f"/{NAME}/a/b") for path in cgroupfs.paths(pid).values())
    assert cgroupfs.processes(own) == []
    assert cgroupfs.processes(deep) == [pid]
    assert cgroupfs.tree_processes(own) == [pid]
    assert cgroupfs.children(own) == ["a"]
    assert cgroupfs.signal_tree(own, abi.SIGTERM) == 1
    assert reaped(pidfd) == abi.SIGTERM
    os.close(deep)


def test_a_process_of_another_pid_namespace_is_not_signalled(own: int) -> None:
    """v2 lists it as 0, and kill(0) would hit the caller's own process group; v1 leaves it out."""
    shown = [0] if fstatfs_type(own) == abi.CGROUP2_SUPER_MAGIC else []
    outer, outer_pidfd = sleeper()
    cgroupfs.add_process(own, outer)
    pid, pidfd = process.clone3(abi.CLONE_NEWPID)
    if pid == 0:
        try:
            os.setsid()
            listed = cgroupfs.processes(own)
            os._exit(10 if (listed, cgroupfs.signal_tree(own, abi.SIGTERM)) == (shown, 0) else 11)
        finally:
            os._exit(12)
    code = reaped(pidfd)
    process.pidfd_send_signal(outer_pidfd, abi.SIGKILL)
    assert (code, reaped(outer_pidfd)) == (10, abi.SIGKILL)


def test_a_tree_is_killed_at_once_where_the_kernel_can(own: int) -> None:
    deep = cgroupfs.mkdirs(own, "a")
    pid, pidfd = sleeper()
    cgroupfs.add_process(deep, pid)
    os.close(deep)
    if not cgroupfs.kill_tree(own):
        assert "cgroup.kill" not in os.listdir(own)
        cgroupfs.signal_tree(own, abi.SIGKILL)
    assert reaped(pidfd) == abi.SIGKILL


def test_a_cgroup_in_use_is_not_removed_and_an_empty_tree_is(own: int) -> None:
    used = cgroupfs.mkdirs(own, "used")
    os.close(cgroupfs.mkdirs(own, "empty/a/b/c"))
    pid, pidfd = sleeper()
    cgroupfs.add_process(used, pid)
    with pytest.raises(OSError) as busy:
        cgroupfs.remove_tree(own, "used")
    assert busy.value.errno == errno.EBUSY
    assert str(busy.value.filename).endswith(f"{NAME}/used")
    cgroupfs.remove_tree(own, "empty")
    cgroupfs.remove_tree(own, "empty")
    assert cgroupfs.children(own) == ["used"]
    process.pidfd_send_signal(pidfd, abi.SIGKILL)
    reaped(pidfd)
    os.close(used)


def test_a_control_file_is_written_read_and_named_when_it_fails() -> None:
    hierarchy = next((h for h in found() if "pids" in h.controllers and h.version == 1), None)
    if hierarchy is None:
        pytest.skip("no v1 pids hierarchy is mounted")
    parent = cgroupfs.open_cgroup(hierarchy.directory(cgroupfs.paths()["pids"]))
    fd = cgroupfs.mkdirs(parent, NAME)
    try:
        cgroupfs.write(fd, "pids.max", "17")
        assert cgroupfs.read(fd, "pids.max") == "17\n"
        with pytest.raises(OSError) as refused:
            cgroupfs.write(fd, "pids.max", "many")
        assert refused.value.errno == errno.EINVAL
        assert str(refused.value.filename).endswith(f"/{NAME}/pids.max")
        with pytest.raises(FileNotFoundError) as missing:
            cgroupfs.read(fd, "no.such")
        assert str(missing.value.filename).endswith(f"/{NAME}/no.such")
        with pytest.raises(OSError):
            cgroupfs.write(fd, "../pids.max", "17")
    finally:
        os.close(fd)
        cgroupfs.remove_tree(parent, NAME)
        os.close(parent)


def test_the_paths_are_those_of_proc() -> None:
    lines = procfs.read_file("self/cgroup").split()
    assert cgroupfs.paths()[lines[0].split(":")[1].split(",")[0]] == lines[0].split(":", 2)[2]
