"""Documents of the System tag (Engine API 1.51): version, info, events, disk usage, ping."""

from __future__ import annotations

from typing import Any

import msgspec


class Actor(msgspec.Struct):
    ID: str
    Attributes: dict[str, str]


class Event(msgspec.Struct, omit_defaults=True, kw_only=True):
    """EventMessage. `status`, `id` and `from` are those of API 1.21 and older, left out when empty."""

    status: str = ""
    id: str = ""
    origin: str = msgspec.field(default="", name="from")
    Type: str
    Action: str
    Actor: Actor
    scope: str
    time: int
    timeNano: int


class Component(msgspec.Struct):
    Name: str
    Version: str
    Details: dict[str, str]


class Platform(msgspec.Struct):
    Name: str


class Version(msgspec.Struct):
    """SystemVersion."""

    Platform: Platform
    Components: list[Component]
    Version: str
    ApiVersion: str
    MinAPIVersion: str
    GitCommit: str
    GoVersion: str
    Os: str
    Arch: str
    KernelVersion: str
    BuildTime: str
    Experimental: bool | msgspec.UnsetType = msgspec.UNSET


class Runtime(msgspec.Struct, omit_defaults=True):
    path: str = ""
    runtimeArgs: list[str] | None = None
    status: dict[str, str] | None = None


class Commit(msgspec.Struct):
    """`Expected` ended with API 1.48; clients of before show a difference as a mismatch."""

    ID: str
    Expected: str = ""


class Plugins(msgspec.Struct):
    Volume: list[str]
    Network: list[str]
    Authorization: list[str] | None
    Log: list[str]


class Swarm(msgspec.Struct):
    """Swarm is not offered: always inactive."""

    NodeID: str = ""
    NodeAddr: str = ""
    LocalNodeState: str = "inactive"
    ControlAvailable: bool = False
    Error: str = ""
    RemoteManagers: list[Any] | None = None


class IndexInfo(msgspec.Struct):
    Name: str
    Mirrors: list[str]
    Secure: bool
    Official: bool


class RegistryConfig(msgspec.Struct):
    IndexConfigs: dict[str, IndexInfo]
    InsecureRegistryCIDRs: list[str]
    Mirrors: list[str]


class AddressPool(msgspec.Struct):
    Base: str
    Size: int


class Firewall(msgspec.Struct):
    Driver: str
    Info: list[list[str]] | None = None


class Info(msgspec.Struct):
    """SystemInfo."""

    ID: str
    Containers: int
    ContainersRunning: int
    ContainersPaused: int
    ContainersStopped: int
    Images: int
    Driver: str
    DriverStatus: list[list[str]]
    Plugins: Plugins
    MemoryLimit: bool
    SwapLimit: bool
    CpuCfsPeriod: bool
    CpuCfsQuota: bool
    CPUShares: bool
    CPUSet: bool
    PidsLimit: bool
    IPv4Forwarding: bool
    Debug: bool
    NFd: int
    OomKillDisable: bool
    NGoroutines: int
    SystemTime: str
    LoggingDriver: str
    CgroupDriver: str
    CgroupVersion: str
    NEventsListener: int
    KernelVersion: str
    OperatingSystem: str
    OSVersion: str
    OSType: str
    Architecture: str
    IndexServerAddress: str
    RegistryConfig: RegistryConfig
    NCPU: int
    MemTotal: int
    GenericResources: list[Any] | None
    DockerRootDir: str
    HttpProxy: str
    HttpsProxy: str
    NoProxy: str
    Name: str
    Labels: list[str]
    ExperimentalBuild: bool
    ServerVersion: str
    Runtimes: dict[str, Runtime]
    DefaultRuntime: str
    Swarm: Swarm
    LiveRestoreEnabled: bool
    Isolation: str
    InitBinary: str
    ContainerdCommit: Commit
    RuncCommit: Commit
    InitCommit: Commit
    SecurityOptions: list[str]
    FirewallBackend: Firewall
    CDISpecDirs: list[str]
    Warnings: list[str] | None
    DefaultAddressPools: list[AddressPool] | msgspec.UnsetType = msgspec.UNSET


class DiskUsage(msgspec.Struct):
    """SystemDataUsageResponse. A list the request's `type` left out is null."""

    LayersSize: int = 0
    Images: list[Any] | None = None
    Containers: list[Any] | None = None
    Volumes: list[Any] | None = None
    BuildCache: list[Any] | None = None


class AuthConfig(msgspec.Struct):
    """The body of POST /auth and, base64url encoded, the header X-Registry-Auth."""

    username: str | None = ""
    password: str | None = ""
    auth: str | None = ""
    email: str | None = ""
    serveraddress: str | None = ""
    identitytoken: str | None = ""
    registrytoken: str | None = ""


class AuthResult(msgspec.Struct):
    Status: str
    IdentityToken: str
