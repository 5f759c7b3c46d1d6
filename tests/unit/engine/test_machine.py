"""What this machine offers, read from files."""

from __future__ import annotations

from pathlib import Path

from sampan.engine.machine import Controllers, controllers, lacking, os_release, warnings

ALL = Controllers("2", True, True, True, True, True, True, False)


def test_what_the_host_lacks_is_warned_about_in_dockers_words() -> None:
    assert warnings(ALL, True, ()) == []
    poor = Controllers("1", False, False, False, False, False, False, False)
    lines = warnings(poor, False, ("unix:///x", "tcp://0.0.0.0:2375"))
    assert lines[:3] == [
        "WARNING: No memory limit support",
        "WARNING: No swap limit support",
        "WARNING: No cpu cfs quota support",
    ]
    assert "WARNING: IPv4 forwarding is disabled" in lines
    assert lines[-1].startswith("WARNING: API is accessible on http://0.0.0.0:2375 without encryption.")


def test_the_controllers_of_a_pure_v2_host_are_read_from_its_root(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    found = controllers(str(tmp_path))
    assert (found.version, found.memory, found.cpu_quota, found.cpuset, found.pids) == ("2", True, True, False, True)


def test_the_controllers_of_a_v1_host_are_found_by_their_files(tmp_path: Path) -> None:
    for name in ("memory/memory.limit_in_bytes", "cpu,cpuacct/cpu.shares", "pids/cgroup.procs"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = controllers(str(tmp_path))
    assert (found.version, found.memory, found.swap, found.cpu_shares, found.cpu_quota, found.pids) == (
        "1",
        True,
        False,
        True,
        False,
        True,
    )


def test_os_release_is_read_without_its_quotes(tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text("# comment\nPRETTY_NAME=\"Some Linux 9\"\nVERSION_ID='9'\n")
    assert os_release(["/nonexistent", str(path)]) == {"PRETTY_NAME": "Some Linux 9", "VERSION_ID": "9"}


def test_a_missing_capability_is_named_with_what_it_costs() -> None:
    have = ("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_MKNOD")
    assert lacking(have) == ["no CAP_SYS_RESOURCE: ulimits cannot be raised above those of sampand"]
    assert lacking((*have, "CAP_SYS_RESOURCE")) == []
