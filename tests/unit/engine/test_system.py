"""What the engine says about itself."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from sampan.engine import system
from sampan.engine.events import EventLog
from sampan.engine.settings import Settings
from sampan.engine.system import Controllers, System, controllers, warnings

ALL = Controllers("2", True, True, True, True, True, True, False)


class Images:
    def count(self) -> int:
        return 3


class Containers:
    def using_image(self, image_id: str) -> list[tuple[str, bool]]:
        return []

    def using_volume(self, name: str) -> list[str]:
        return []

    def counts(self) -> dict[str, int]:
        return {"running": 2, "paused": 1, "stopped": 4}


async def image_usage() -> tuple[int, list[object]]:
    return 7, []


async def volume_usage() -> list[str]:
    return ["v"]


def made(tmp_path: Path, **settings: object) -> System:
    return System(
        Settings(root=str(tmp_path), **settings),  # type: ignore[arg-type]
        images=Images(),
        containers=Containers(),
        events=EventLog(),
        driver="overlayfs",
        degraded=["native: layers are copied"],
        disk={"image": image_usage, "volume": volume_usage},
    )


def test_the_version_names_the_range_and_every_component(tmp_path: Path) -> None:
    version = made(tmp_path).version()
    assert (version.ApiVersion, version.MinAPIVersion) == ("1.51", "1.24")
    assert version.KernelVersion == os.uname().release
    assert [component.Name for component in version.Components] == ["Engine", "sampan-containerd", "sampan-runc"]


def test_info_counts_what_the_rooms_have(tmp_path: Path) -> None:
    info = made(tmp_path, insecure_registries=("reg:5000", "10.0.0.0/8"), labels=("a=b",)).info()
    assert (info.Containers, info.ContainersRunning, info.ContainersPaused, info.ContainersStopped) == (7, 2, 1, 4)
    assert info.Images == 3
    assert info.Labels == ["a=b"]
    assert not info.RegistryConfig.IndexConfigs["reg:5000"].Secure
    assert "10.0.0.0/8" in info.RegistryConfig.InsecureRegistryCIDRs
    assert info.Runtimes["sampan"].path == "sampan-runc"
    assert "WARNING: native: layers are copied" in (info.Warnings or [])


def test_the_engine_keeps_its_id(tmp_path: Path) -> None:
    assert made(tmp_path).id == made(tmp_path).id
    assert (tmp_path / "engine-id").read_text() == made(tmp_path).id


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


def test_disk_usage_computes_only_what_was_asked_for(tmp_path: Path) -> None:
    everything = asyncio.run(made(tmp_path).disk_usage())
    assert (everything.LayersSize, everything.Volumes, everything.BuildCache) == (7, ["v"], [])
    only = asyncio.run(made(tmp_path).disk_usage(["volume"]))
    assert (only.Images, only.Volumes, only.BuildCache) == (None, ["v"], None)


def test_os_release_is_read_without_its_quotes(tmp_path: Path) -> None:
    path = tmp_path / "os-release"
    path.write_text("# comment\nPRETTY_NAME=\"Some Linux 9\"\nVERSION_ID='9'\n")
    assert system.os_release(["/nonexistent", str(path)]) == {"PRETTY_NAME": "Some Linux 9", "VERSION_ID": "9"}


def test_a_proxys_password_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy:8080")
    assert made(tmp_path).info().HttpsProxy == "http://xxxxx:xxxxx@proxy:8080"
