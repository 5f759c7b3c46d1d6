"""What the engine says about itself."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec
import pytest

from sampan.engine.events import EventLog
from sampan.engine.settings import Settings
from sampan.engine.system import System


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


def test_an_experimental_engine_says_so(tmp_path: Path) -> None:
    for experimental in (False, True):
        system = made(tmp_path, experimental=experimental)
        assert msgspec.to_builtins(system.version()).get("Experimental", False) is experimental
        assert system.version().Components[0].Details["Experimental"] == str(experimental).lower()
        assert system.info().ExperimentalBuild is experimental


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


def test_disk_usage_computes_only_what_was_asked_for(tmp_path: Path) -> None:
    everything = asyncio.run(made(tmp_path).disk_usage())
    assert (everything.LayersSize, everything.Volumes, everything.BuildCache) == (7, ["v"], [])
    only = asyncio.run(made(tmp_path).disk_usage(["volume"]))
    assert (only.Images, only.Volumes, only.BuildCache) == (None, ["v"], None)


def test_a_proxys_password_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy:8080")
    assert made(tmp_path).info().HttpsProxy == "http://xxxxx:xxxxx@proxy:8080"
