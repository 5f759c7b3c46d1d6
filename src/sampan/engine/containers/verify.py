"""What a create request may say: Docker's checks, in Docker's words, and the defaults it fills in. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from sampan.api.docker.containers import Config, HealthConfig, HostConfig, LogConfig, RestartPolicy
from sampan.engine.containers import capabilities, devices, resources, spec
from sampan.engine.containers.host import HostFacts
from sampan.engine.containers.security import security_options
from sampan.engine.containers.signals import parse_signal
from sampan.engine.logging import drivers
from sampan.engine.networks import etc
from sampan.errors import Error, InvalidArgument

_RESTART_POLICIES = ("", "no", "always", "on-failure", "unless-stopped")
_MIN_HEALTH_DURATION = 1_000_000


def check(config: Config, host_config: HostConfig, facts: HostFacts) -> None:
    """InvalidArgument, or Error where Docker answers 500."""
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    for entry in config.env:
        if not entry or entry.startswith("="):
            raise InvalidArgument(f"invalid environment variable: {entry}")
    if config.stop_signal:
        parse_signal(config.stop_signal)
    if config.healthcheck is not None:
        _check_health(config.healthcheck)
    if len(config.hostname) > 63:
        raise InvalidArgument(f"invalid hostname: {config.hostname}")
    _check_modes(config, host_config)
    check_restart_policy(host_config.restart_policy, host_config.auto_remove)
    resources.check(host_config, facts)
    resources.check_rules(host_config)
    devices.check(host_config)
    security_options(host_config.security_opt)
    capabilities.resolve(host_config.cap_add, host_config.cap_drop, host_config.privileged)
    for entry in host_config.extra_hosts:
        etc.parse_extra_host(entry)
    if host_config.storage_opt:
        raise Error("--storage-opt is supported only for overlay over xfs with 'pquota' mount option")
    if host_config.isolation not in ("", "default"):
        raise InvalidArgument(f"invalid isolation: \"{host_config.isolation}\" - linux only supports 'default'")


def _check_modes(config: Config, host_config: HostConfig) -> None:
    network = host_config.network_mode
    if network.startswith("container:"):
        if not network.partition(":")[2]:
            raise InvalidArgument("invalid network mode: invalid container format container:<name|id>")
        if config.hostname:
            raise InvalidArgument("conflicting options: hostname and the network mode")
        if host_config.port_bindings or host_config.publish_all_ports:
            raise InvalidArgument("conflicting options: port publishing and the container type network mode")
        if host_config.extra_hosts:
            raise InvalidArgument("conflicting options: custom host-to-IP mapping and the network mode")
        if host_config.dns:
            raise InvalidArgument("conflicting options: dns and the network mode")
    if host_config.uts_mode not in ("", "host"):
        raise InvalidArgument(f"invalid UTS mode: {host_config.uts_mode}")
    if host_config.uts_mode == "host" and config.hostname:
        raise InvalidArgument("conflicting options: hostname and the UTS mode")
    if host_config.pid_mode not in ("", "host") and not _joins(host_config.pid_mode):
        raise InvalidArgument(f"invalid PID mode: {host_config.pid_mode}")
    if host_config.ipc_mode not in ("", "none", "private", "shareable", "host") and not _joins(host_config.ipc_mode):
        raise InvalidArgument(f"invalid IPC mode: {host_config.ipc_mode}")
    if host_config.cgroupns_mode not in ("", "private", "host"):
        raise InvalidArgument(f"invalid cgroup namespace mode: {host_config.cgroupns_mode}")
    if host_config.userns_mode not in ("", "host"):
        raise InvalidArgument(f"invalid USER mode: {host_config.userns_mode}")


def _joins(mode: str) -> bool:
    return mode.startswith("container:") and len(mode) > len("container:")


def check_restart_policy(policy: RestartPolicy, auto_remove: bool = False) -> None:
    if policy.name not in _RESTART_POLICIES:
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', 'on-failure', "
            "or 'unless-stopped'"
        )
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidArgument("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if policy.maximum_retry_count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    if auto_remove and policy.name not in ("", "no"):
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")


def _check_health(health: HealthConfig) -> None:
    for name in ("interval", "timeout", "start_period", "start_interval"):
        value = getattr(health, name)
        if value and value < _MIN_HEALTH_DURATION:
            title = "".join(part.capitalize() for part in name.split("_"))
            raise InvalidArgument(f"{title} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")


def with_defaults(
    config: Config,
    host_config: HostConfig,
    container_id: str,
    facts: HostFacts,
    *,
    runtime: str,
    shm_size: int,
    log: LogConfig,
    init: bool,
) -> tuple[Config, HostConfig]:
    """What Docker's inspect shows after create: every default written out."""
    changes: dict[str, Any] = {
        "network_mode": host_config.network_mode if host_config.network_mode not in ("", "default") else "bridge",
        "ipc_mode": host_config.ipc_mode or "private",
        "cgroupns_mode": spec.cgroupns_mode(host_config, facts),
        "shm_size": host_config.shm_size or shm_size,
        "runtime": host_config.runtime or runtime,
        "log_config": drivers.complete(host_config.log_config, log),
        "console_size": host_config.console_size or [0, 0],
        "restart_policy": host_config.restart_policy if host_config.restart_policy.name else RestartPolicy(name="no"),
    }
    if host_config.network_mode in ("", "default") and config.network_disabled:
        changes["network_mode"] = "none"
    if host_config.memory and not host_config.memory_swap:
        changes["memory_swap"] = host_config.memory * 2
    if host_config.init is None and init:
        changes["init"] = True
    open_paths = host_config.privileged or security_options(host_config.security_opt).systempaths_unconfined
    if host_config.privileged or "host" in (host_config.pid_mode, host_config.ipc_mode):
        # Docker writes it down on every kernel: such a process is nobody's label.
        changes["security_opt"] = [*host_config.security_opt, "label=disable"]
    if host_config.masked_paths is None and not open_paths:
        changes["masked_paths"] = spec.masked_paths(facts)
    if host_config.readonly_paths is None and not open_paths:
        changes["readonly_paths"] = list(spec.READONLY_PATHS)
    return _with_hostname(config, host_config, container_id), msgspec.structs.replace(host_config, **changes)


def _with_hostname(config: Config, host_config: HostConfig, container_id: str) -> Config:
    if config.hostname:
        return config
    if host_config.network_mode == "host":
        return msgspec.structs.replace(config, hostname=os.uname().nodename)
    if host_config.network_mode.startswith("container:"):
        return config
    return msgspec.structs.replace(config, hostname=container_id[:12])


def check_runtime(name: str, runtimes: Mapping[str, str], built_in: tuple[str, ...]) -> None:
    """InvalidArgument `unknown or invalid runtime name: x`."""
    if name and name not in runtimes and name not in built_in:
        raise InvalidArgument(f"unknown or invalid runtime name: {name}")
