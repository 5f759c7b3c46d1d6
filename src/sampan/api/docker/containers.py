"""Documents of the Container and Exec tags (Engine API 1.24 to 1.51).

Fields are snake case here and Docker's Pascal case on the wire. The request types (`Config`, `HostConfig`,
`NetworkingConfig`) are also what a container record keeps, so they are frozen. A Go client sends `null` for every
absent list, map or text: `reading.parse` drops those nulls, so that a field has its zero value and never None unless
None means something of its own. `document` writes a value back with Go's "omitempty" and its nulls.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import field

from sampan.api.docker.networks import EndpointSettings, NetworkSettings, PortBinding

_INITIALISMS = {
    "io_maximum_iops": "IOMaximumIOps",
    "io_maximum_bandwidth": "IOMaximumBandwidth",
    "uts_mode": "UTSMode",
    "container_id_file": "ContainerIDFile",
    "blkio_device_read_iops": "BlkioDeviceReadIOps",
    "blkio_device_write_iops": "BlkioDeviceWriteIOps",
    "kernel_memory_tcp": "KernelMemoryTCP",
    "device_ids": "DeviceIDs",
    "image_id": "ImageID",
    "oom_killed": "OOMKilled",
    "rw": "RW",
    "container_id": "ContainerID",
    "exec_ids": "ExecIDs",
    "open_stdin": "OpenStdin",
    "exec_id": "ID",
    "graph_driver": "GraphDriver",
}


def wire_name(name: str) -> str:
    """The JSON key of a field: Pascal case, with Docker's own spelling of initialisms."""
    return _INITIALISMS.get(name) or "".join(part.capitalize() for part in name.split("_"))


class Document(msgspec.Struct, rename=wire_name, frozen=True, kw_only=True):
    """Base of the documents here: the renaming, nothing else. Unknown keys are ignored, as Docker does."""


class HealthConfig(Document, frozen=True):
    """Durations in nanoseconds; 0 inherits. `test` is [] (inherit), ["NONE"], ["CMD", ...] or ["CMD-SHELL", text]."""

    test: list[str] = []
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Config(Document, frozen=True):
    """The portable part of a container's configuration. None for `cmd`, `entrypoint`: not given (the image's)."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any]] = {}
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] = []
    cmd: list[str] | str | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, dict[str, Any]] = {}
    working_dir: str = ""
    entrypoint: list[str] | str | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] = []
    labels: dict[str, str] = {}
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] = []


class LogConfig(Document, frozen=True):
    type: str = ""
    config: dict[str, str] = {}


class RestartPolicy(Document, frozen=True):
    name: str = ""
    maximum_retry_count: int = 0


class WeightDevice(Document, frozen=True):
    path: str = ""
    weight: int = 0


class ThrottleDevice(Document, frozen=True):
    """`rate` in bytes or operations per second."""

    path: str = ""
    rate: int = 0


class DeviceMapping(Document, frozen=True):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class DeviceRequest(Document, frozen=True):
    driver: str = ""
    count: int = 0
    device_ids: list[str] = []
    capabilities: list[list[str]] = []
    options: dict[str, str] = {}


class Ulimit(Document, frozen=True):
    name: str = ""
    soft: int = 0
    hard: int = 0


class BindOptions(Document, frozen=True):
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class DriverConfig(Document, frozen=True):
    name: str = ""
    options: dict[str, str] = {}


class VolumeOptions(Document, frozen=True):
    no_copy: bool = False
    labels: dict[str, str] = {}
    driver_config: DriverConfig | None = None
    subpath: str = ""


class TmpfsOptions(Document, frozen=True):
    """`size_bytes` 0: unlimited; `mode` as a number (0o1777)."""

    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] = []


class Mount(Document, frozen=True):
    """One --mount. `type` is bind, volume, tmpfs, image, npipe or cluster."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class HostConfig(Document, frozen=True):
    """What depends on the host. None in `pids_limit`, `oom_kill_disable`, `init`, `masked_paths`... means not given."""

    binds: list[str] = []
    container_id_file: str = ""
    log_config: LogConfig = LogConfig()
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] = {}
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] = []
    console_size: list[int] = []
    annotations: dict[str, str] = {}
    cap_add: list[str] = []
    cap_drop: list[str] = []
    cgroupns_mode: str = ""
    dns: list[str] = []
    dns_options: list[str] = []
    dns_search: list[str] = []
    extra_hosts: list[str] = []
    group_add: list[str] = []
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] = []
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] = []
    storage_opt: dict[str, str] = {}
    tmpfs: dict[str, str] = {}
    uts_mode: str = ""
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] = {}
    runtime: str = ""
    isolation: str = ""
    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] = []
    blkio_device_read_bps: list[ThrottleDevice] = []
    blkio_device_write_bps: list[ThrottleDevice] = []
    blkio_device_read_iops: list[ThrottleDevice] = []
    blkio_device_write_iops: list[ThrottleDevice] = []
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] = []
    device_cgroup_rules: list[str] = []
    device_requests: list[DeviceRequest] = []
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] = []
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = 0
    io_maximum_bandwidth: int = 0
    mounts: list[Mount] = []
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | None = None


class NetworkingConfig(Document, frozen=True):
    endpoints_config: dict[str, EndpointSettings | None] = {}


class CreateRequest(Config, frozen=True, kw_only=True):
    """`POST /containers/create`: the fields of Config beside HostConfig and NetworkingConfig."""

    host_config: HostConfig = HostConfig()
    networking_config: NetworkingConfig = NetworkingConfig()


class CreateResponse(Document, frozen=True):
    id: str
    warnings: list[str] = []


class CheckpointRequest(Document, frozen=True):
    """`POST /containers/{id}/checkpoints`; without `exit` the container goes on."""

    checkpoint_id: str = msgspec.field(default="", name="CheckpointID")
    checkpoint_dir: str = ""
    exit: bool = False


class UpdateRequest(Document, frozen=True):
    """`POST /containers/{id}/update`: only what is given changes; 0 and None leave as is."""

    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    memory_reservation: int = 0
    memory_swap: int = 0
    pids_limit: int | None = None
    oom_kill_disable: bool | None = None
    restart_policy: RestartPolicy = RestartPolicy()


class ExecCreateRequest(Document, frozen=True):
    """`POST /containers/{id}/exec`. `console_size` is [height, width]."""

    user: str = ""
    privileged: bool = False
    tty: bool = False
    console_size: list[int] = []
    attach_stdin: bool = False
    attach_stderr: bool = False
    attach_stdout: bool = False
    detach: bool = False
    detach_keys: str = ""
    env: list[str] = []
    working_dir: str = ""
    cmd: list[str] = []


class ExecStartRequest(Document, frozen=True):
    detach: bool = False
    tty: bool = False
    console_size: list[int] = []


class HealthResult(Document, frozen=True):
    """One probe. `start` and `end` are RFC 3339."""

    start: str = ""
    end: str = ""
    exit_code: int = 0
    output: str = ""


class Health(Document, frozen=True):
    status: str = "none"
    failing_streak: int = 0
    log: list[HealthResult] = []


class MountPoint(Document, frozen=True):
    """One entry of Mounts in inspect and list."""

    type: str = ""
    name: str = ""
    source: str = ""
    destination: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""


class Port(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """One entry of Ports in list; a port that is exposed and not published has only the last two."""

    ip: str = field(default="", name="IP")
    private_port: int
    public_port: int = 0
    type: str


class State(Document, frozen=True):
    """State of a container inspect; times RFC 3339, zero is Go's 0001-01-01T00:00:00Z."""

    status: str
    running: bool
    paused: bool
    restarting: bool
    oom_killed: bool
    dead: bool
    pid: int
    exit_code: int
    error: str
    started_at: str
    finished_at: str
    health: Health | None = None


class ProcessConfig(msgspec.Struct, frozen=True, kw_only=True):
    """ProcessConfig of an exec inspect: Docker's own lower-case keys."""

    tty: bool
    entrypoint: str
    arguments: list[str]
    privileged: bool
    user: str = ""


class ExecInspect(Document, frozen=True):
    """`exit_code` is None until it ended."""

    exec_id: str
    running: bool
    exit_code: int | None
    process_config: ProcessConfig
    open_stdin: bool
    open_stderr: bool
    open_stdout: bool
    can_remove: bool
    container_id: str
    detach_keys: str
    pid: int


# Go's "omitempty": keys left out when they are empty.
_OMIT = {
    "ExposedPorts",
    "Healthcheck",
    "ArgsEscaped",
    "NetworkDisabled",
    "MacAddress",
    "StopSignal",
    "StopTimeout",
    "Shell",
    "Annotations",
    "StorageOpt",
    "Tmpfs",
    "Sysctls",
    "Mounts",
    "Init",
    "Health",
}
# Go's nil slices and maps: null when empty.
_NULL = {
    "Env",
    "Cmd",
    "Entrypoint",
    "Volumes",
    "OnBuild",
    "Binds",
    "VolumesFrom",
    "CapAdd",
    "CapDrop",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "SecurityOpt",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "Ulimits",
}


def document(value: msgspec.Struct) -> dict[str, Any]:
    """`value` as plain JSON values, shaped as dockerd writes a Config, HostConfig, Mount or State."""
    plain: dict[str, Any] = msgspec.to_builtins(value)
    shaped: dict[str, Any] = {}
    for key, item in plain.items():
        empty = item is None or item is False or item in ("", [], {})
        if empty and key in _OMIT:
            continue
        shaped[key] = None if empty and key in _NULL else item
    if "Mounts" in shaped:
        shaped["Mounts"] = [_mount(entry) for entry in shaped["Mounts"]]
    if "Healthcheck" in shaped:
        shaped["Healthcheck"] = {key: item for key, item in shaped["Healthcheck"].items() if item}
    return shaped


def _mount(entry: dict[str, Any]) -> dict[str, Any]:
    """Every field of a Mount is omitempty, its options too, but a Type."""
    found: dict[str, Any] = {}
    for key, item in entry.items():
        if isinstance(item, dict):
            found[key] = _mount(item)
        elif item not in (None, "", 0, False, []):
            found[key] = item
    return found


__all__ = [
    "BindOptions",
    "Config",
    "CreateRequest",
    "CreateResponse",
    "DeviceMapping",
    "DeviceRequest",
    "Document",
    "DriverConfig",
    "EndpointSettings",
    "ExecCreateRequest",
    "ExecInspect",
    "ExecStartRequest",
    "Health",
    "HealthConfig",
    "HealthResult",
    "HostConfig",
    "LogConfig",
    "Mount",
    "MountPoint",
    "NetworkSettings",
    "NetworkingConfig",
    "Port",
    "PortBinding",
    "ProcessConfig",
    "RestartPolicy",
    "State",
    "ThrottleDevice",
    "TmpfsOptions",
    "Ulimit",
    "UpdateRequest",
    "VolumeOptions",
    "WeightDevice",
    "document",
]
