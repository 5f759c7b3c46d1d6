"""What the engine says about itself: version, info, disk usage (Engine API 1.51, System tag).

Everything is read from the running kernel and the rooms at the time of the question; a feature that this host
does not give is named in Info.Warnings.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from sampan import VERSION
from sampan.api.docker import system as documents
from sampan.engine import machine, timestamps
from sampan.engine.services import ContainerUsage
from sampan.engine.settings import FOUND_BY_NAME, Settings

INDEX = "https://index.docker.io/v1/"
API_VERSION = "1.51"
MIN_API_VERSION = "1.24"


class Counted(Protocol):
    def count(self) -> int: ...


class Listened(Protocol):
    @property
    def listeners(self) -> int: ...


class System:
    """The answers of the System tag, from settings, host and rooms."""

    def __init__(
        self,
        settings: Settings,
        *,
        images: Counted,
        containers: ContainerUsage,
        events: Listened,
        driver: str,
        log_drivers: Sequence[str] = ("json-file", "local", "none"),
        degraded: Sequence[str] = (),
        fenced: bool = True,
        disk: Mapping[str, Callable[[], Awaitable[Any]]] | None = None,
    ) -> None:
        self._settings = settings
        self._images = images
        self._containers = containers
        self._events = events
        self._driver = driver
        self._log_drivers = log_drivers
        self._degraded = degraded
        self._fenced = fenced
        self._disk = disk or {}
        self.id = engine_id(settings.root)

    def version(self) -> documents.Version:
        kernel = os.uname().release
        python = platform.python_version()
        arch = machine.architecture()
        details = {
            "ApiVersion": API_VERSION,
            "Arch": arch,
            "BuildTime": "",
            "Experimental": "true" if self._settings.experimental else "false",
            "GitCommit": "",
            "GoVersion": "",
            "KernelVersion": kernel,
            "MinAPIVersion": MIN_API_VERSION,
            "Os": "linux",
            "PythonVersion": python,
        }
        return documents.Version(
            Platform=documents.Platform(Name="sampan"),
            Components=[
                documents.Component(Name="Engine", Version=VERSION, Details=details),
                documents.Component(Name="sampan-containerd", Version=VERSION, Details={"GitCommit": ""}),
                documents.Component(Name="sampan-runc", Version=VERSION, Details={"GitCommit": ""}),
            ],
            Version=VERSION,
            ApiVersion=API_VERSION,
            MinAPIVersion=MIN_API_VERSION,
            GitCommit="",
            GoVersion="",
            Os="linux",
            Arch=arch,
            KernelVersion=kernel,
            Experimental=self._settings.experimental or msgspec.UNSET,
            BuildTime="",
        )

    def info(self) -> documents.Info:
        found = machine.controllers()
        forwarding = machine.read("/proc/sys/net/ipv4/ip_forward").strip() == "1"
        lines = machine.warnings(found, forwarding, self._settings.hosts, self._degraded)
        info = documents.Info(
            **self._counted(),
            **_configured(self._settings),
            **_controlled(found),
            **_machine(),
            ID=self.id,
            Driver=self._driver,
            DriverStatus=[["Backing Filesystem", machine.backing_filesystem(self._settings.root)]],
            Plugins=documents.Plugins(
                Volume=["local"], Network=["bridge", "host", "null"], Authorization=None, Log=list(self._log_drivers)
            ),
            IPv4Forwarding=forwarding,
            SystemTime=timestamps.now(),
            GenericResources=None,
            ExperimentalBuild=self._settings.experimental,
            Swarm=documents.Swarm(),
            Isolation="",
            InitBinary="docker-init",
            ServerVersion=VERSION,
            ContainerdCommit=documents.Commit(ID=VERSION, Expected=VERSION),
            RuncCommit=documents.Commit(ID=VERSION, Expected=VERSION),
            InitCommit=documents.Commit(ID=VERSION, Expected=VERSION),
            SecurityOptions=machine.security_options(),
            CDISpecDirs=[],
            FirewallBackend=documents.Firewall(Driver="nftables" if self._fenced else "none"),
            Warnings=lines or None,
        )
        if self._settings.default_address_pools:
            info.DefaultAddressPools = [
                documents.AddressPool(Base=base, Size=size) for base, size in self._settings.default_address_pools
            ]
        return info

    def _counted(self) -> dict[str, Any]:
        counts = self._containers.counts()
        return {
            "Containers": sum(counts.values()),
            "ContainersRunning": counts.get("running", 0),
            "ContainersPaused": counts.get("paused", 0),
            "ContainersStopped": counts.get("stopped", 0),
            "Images": self._images.count(),
            "NFd": len(os.listdir("/proc/self/fd")),
            "NGoroutines": _tasks(),
            "NEventsListener": self._events.listeners,
        }

    async def disk_usage(self, wanted: Sequence[str] = ()) -> documents.DiskUsage:
        """GET /system/df. `wanted` of container, image, volume, build-cache; empty: all."""
        usage = documents.DiskUsage()
        for kind, compute in self._disk.items():
            if wanted and kind not in wanted:
                continue
            result = await compute()
            if kind == "image":
                usage.LayersSize, usage.Images = result
            elif kind == "container":
                usage.Containers = result
            elif kind == "volume":
                usage.Volumes = result
        if not wanted or "build-cache" in wanted:
            usage.BuildCache = []
        return usage


def _configured(settings: Settings) -> dict[str, Any]:
    """The members of Info that settings decide."""
    return {
        "Debug": settings.debug,
        "LoggingDriver": settings.log_driver,
        "CgroupDriver": "systemd" if settings.systemd_cgroup else "cgroupfs",
        "IndexServerAddress": INDEX,
        "RegistryConfig": registry_config(settings),
        "DockerRootDir": settings.root,
        "Labels": list(settings.labels),
        "Runtimes": runtimes(settings),
        "DefaultRuntime": settings.default_runtime,
        "LiveRestoreEnabled": settings.live_restore,
        "HttpProxy": _environment("HTTP_PROXY"),
        "HttpsProxy": _environment("HTTPS_PROXY"),
        "NoProxy": _environment("NO_PROXY"),
    }


def _controlled(found: machine.Controllers) -> dict[str, Any]:
    """The members of Info that say which limits this host can set."""
    return {
        "CgroupVersion": found.version,
        "MemoryLimit": found.memory,
        "SwapLimit": found.swap,
        "CpuCfsPeriod": found.cpu_quota,
        "CpuCfsQuota": found.cpu_quota,
        "CPUShares": found.cpu_shares,
        "CPUSet": found.cpuset,
        "PidsLimit": found.pids,
        "OomKillDisable": found.oom_kill_disable,
    }


def _machine() -> dict[str, Any]:
    """The members of Info about the machine."""
    release, host = machine.os_release(), os.uname()
    return {
        "KernelVersion": host.release,
        "OperatingSystem": release.get("PRETTY_NAME", "Linux"),
        "OSVersion": release.get("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": host.machine,
        "NCPU": len(os.sched_getaffinity(0)),
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "Name": host.nodename,
    }


def engine_id(root: str) -> str:
    """The id that this engine keeps for life, in <root>/engine-id as dockerd 23 and later."""
    path = f"{root}/engine-id"
    known = machine.read(path).strip()
    if known:
        return known
    fresh = str(uuid.uuid4())
    with open(path, "w", encoding="ascii") as file:
        file.write(fresh)
    return fresh


def runtimes(settings: Settings) -> dict[str, documents.Runtime]:
    found = {"sampan": documents.Runtime(path="sampan-runc")}
    for name in FOUND_BY_NAME:
        if shutil.which(name):
            found[name] = documents.Runtime(path=name)
    found.update({name: documents.Runtime(path=path) for name, path in settings.runtimes.items()})
    return found


def registry_config(settings: Settings) -> documents.RegistryConfig:
    """Docker Hub, the registries named insecure, and the loopback network that always is."""
    ranges = ["::1/128", "127.0.0.0/8"]
    hosts = {}
    for entry in settings.insecure_registries:
        if "/" in entry:
            ranges.insert(0, entry)
        else:
            hosts[entry] = documents.IndexInfo(Name=entry, Mirrors=[], Secure=False, Official=False)
    mirrors = list(settings.registry_mirrors)
    hosts["docker.io"] = documents.IndexInfo(Name="docker.io", Mirrors=mirrors, Secure=True, Official=True)
    return documents.RegistryConfig(
        IndexConfigs=hosts, InsecureRegistryCIDRs=list(dict.fromkeys(ranges)), Mirrors=mirrors
    )


def _environment(name: str) -> str:
    """A proxy setting, its password masked as dockerd does."""
    value = os.environ.get(name) or os.environ.get(name.lower(), "")
    scheme, mark, rest = value.partition("://")
    if mark and "@" in rest.partition("/")[0]:
        return f"{scheme}://xxxxx:xxxxx@{rest.rpartition('@')[2]}"
    return value


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:
        return len(sys._current_frames())
