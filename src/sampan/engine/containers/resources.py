"""Limits: Docker's resource fields, checked with Docker's words, and as runtime-spec `linux.resources`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sampan.api.docker.containers import HostConfig, ThrottleDevice, Ulimit, UpdateRequest
from sampan.engine.containers.host import HostFacts, device_at
from sampan.errors import InvalidArgument

_MIN_MEMORY = 6 << 20
_PERIOD = 100_000
_MAX_U64 = 2**64 - 1

# Docker's default allow-list (its default spec); the runtime adds mknod, ptmx and pts by itself.
_DEFAULT_DEVICES: tuple[dict[str, Any], ...] = (
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 9, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 8, "access": "rwm"},
    {"allow": True, "type": "c", "major": 5, "minor": 0, "access": "rwm"},
    {"allow": True, "type": "c", "major": 5, "minor": 1, "access": "rwm"},
    {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
)

_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})")

_RLIMITS = frozenset(
    (
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    )
)


def check(wanted: HostConfig | UpdateRequest, facts: HostFacts) -> None:
    """InvalidArgument in Docker's words for limits that contradict each other or this machine."""
    if wanted.memory and wanted.memory < _MIN_MEMORY:
        raise InvalidArgument("Minimum memory limit allowed is 6MB")
    if wanted.memory and wanted.memory_swap > 0 and wanted.memory_swap < wanted.memory:
        raise InvalidArgument("Minimum memoryswap limit should be larger than memory limit, see usage")
    if isinstance(wanted, HostConfig):
        _check_memory(wanted)
    if wanted.nano_cpus and (wanted.cpu_period or wanted.cpu_quota):
        other = "Period" if wanted.cpu_period else "Quota"
        raise InvalidArgument(f"Conflicting options: Nano CPUs and CPU {other} cannot both be set")
    if wanted.nano_cpus < 0 or wanted.nano_cpus > facts.cpus * 10**9:
        raise InvalidArgument(
            f"Range of CPUs is from 0.01 to {facts.cpus}.00, as there are only {facts.cpus} CPUs available"
        )
    if wanted.cpu_period and not 1000 <= wanted.cpu_period <= 1_000_000:
        raise InvalidArgument("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if wanted.cpu_quota and wanted.cpu_quota != -1 and wanted.cpu_quota < 1000:
        raise InvalidArgument("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if wanted.cpu_shares < 0:
        raise InvalidArgument(f"invalid CPU shares ({wanted.cpu_shares}): value must be a positive integer")
    if wanted.blkio_weight and not 10 <= wanted.blkio_weight <= 1000:
        raise InvalidArgument("Range of blkio weight is from 10 to 1000")
    if wanted.cpuset_cpus:
        _check_set(wanted.cpuset_cpus, facts.cpus, "CPUs", "cpus")
    if wanted.cpuset_mems:
        _check_set(wanted.cpuset_mems, facts.memory_nodes, "memory nodes", "mems")


def _check_memory(wanted: HostConfig) -> None:
    if not wanted.memory and wanted.memory_swap > 0:
        raise InvalidArgument("You should always set the Memory limit when using Memoryswap limit, see usage")
    swappiness = wanted.memory_swappiness
    if swappiness is not None and not -1 <= swappiness <= 100:
        raise InvalidArgument(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
    if 0 < wanted.memory_reservation < _MIN_MEMORY:
        raise InvalidArgument("Minimum memory reservation allowed is 6MB")
    if wanted.memory and wanted.memory_reservation > wanted.memory:
        raise InvalidArgument("Minimum memory limit can not be less than memory reservation limit, see usage")
    if not -1000 <= wanted.oom_score_adj <= 1000:
        raise InvalidArgument(f"Invalid value {wanted.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if wanted.shm_size < 0:
        raise InvalidArgument("SHM size can not be less than 0")


def _check_set(text: str, count: int, things: str, field: str) -> None:
    """Lists like "0-2,4". InvalidArgument for a malformed one, or for something that this machine lacks."""
    if not re.fullmatch(r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*", text):
        raise InvalidArgument(f"Invalid value {text} for cpuset {field}: invalid format: {text}")
    if max(int(number) for number in re.findall(r"[0-9]+", text)) >= count:
        available = f"0-{count - 1}" if count > 1 else "0"
        raise InvalidArgument(f"Requested {things} are not available - requested {text}, available: {available}")


def rlimits(wanted: Sequence[Ulimit], defaults: Sequence[str]) -> list[dict[str, Any]]:
    """Runtime-spec `process.rlimits`: the daemon's defaults ("name=soft[:hard]"), replaced by the container's."""
    found: dict[str, dict[str, Any]] = {}
    for text in defaults:
        name, _, values = text.partition("=")
        soft, _, hard = values.partition(":")
        found[name] = _rlimit(name, int(soft), int(hard or soft))
    for ulimit in wanted:
        found[ulimit.name] = _rlimit(ulimit.name, ulimit.soft, ulimit.hard)
    return list(found.values())


def _rlimit(name: str, soft: int, hard: int) -> dict[str, Any]:
    if name not in _RLIMITS:
        raise InvalidArgument(f"invalid ulimit type: {name}")
    if hard >= 0 and (soft > hard or soft < 0):
        raise InvalidArgument(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
    # -1 is RLIM_INFINITY, which the spec's uint64 writes out.
    return {"type": f"RLIMIT_{name.upper()}", "soft": soft & _MAX_U64, "hard": hard & _MAX_U64}


def limits(wanted: HostConfig | UpdateRequest) -> dict[str, Any]:
    """`linux.resources` without devices and block io; only what is set."""
    cpu = _set(
        shares=wanted.cpu_shares,
        quota=wanted.nano_cpus * _PERIOD // 10**9 if wanted.nano_cpus else wanted.cpu_quota,
        period=_PERIOD if wanted.nano_cpus else wanted.cpu_period,
        realtimeRuntime=wanted.cpu_realtime_runtime,
        realtimePeriod=wanted.cpu_realtime_period,
        cpus=wanted.cpuset_cpus,
        mems=wanted.cpuset_mems,
    )
    memory = _set(
        limit=wanted.memory,
        reservation=wanted.memory_reservation,
        swap=wanted.memory_swap,
        disableOOMKiller=bool(wanted.oom_kill_disable),
    )
    if isinstance(wanted, HostConfig) and wanted.memory_swappiness is not None and wanted.memory_swappiness >= 0:
        memory["swappiness"] = wanted.memory_swappiness
    found = _set(cpu=cpu, memory=memory)
    if wanted.pids_limit is not None:
        # Docker's 0 and -1 both mean unlimited, which the spec writes as -1.
        found["pids"] = {"limit": wanted.pids_limit if wanted.pids_limit > 0 else -1}
    if wanted.blkio_weight:
        found["blockIO"] = {"weight": wanted.blkio_weight}
    return found


def resources(host_config: HostConfig, devices: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """All of `linux.resources`; `devices` are the cgroup rules of --device. OSError is never raised: a device path
    that is none is InvalidArgument."""
    found = limits(host_config)
    if host_config.privileged:
        found["devices"] = [{"allow": True, "access": "rwm"}]
    else:
        found["devices"] = [*_DEFAULT_DEVICES, *devices, *(_rule(text) for text in host_config.device_cgroup_rules)]
    block = dict(found.get("blockIO", {}))
    weights = [{**_major_minor(entry.path), "weight": entry.weight} for entry in host_config.blkio_weight_device]
    block |= _set(
        weightDevice=weights,
        throttleReadBpsDevice=_throttles(host_config.blkio_device_read_bps),
        throttleWriteBpsDevice=_throttles(host_config.blkio_device_write_bps),
        throttleReadIOPSDevice=_throttles(host_config.blkio_device_read_iops),
        throttleWriteIOPSDevice=_throttles(host_config.blkio_device_write_iops),
    )
    if block:
        found["blockIO"] = block
    return found


def _throttles(entries: Sequence[ThrottleDevice]) -> list[dict[str, Any]]:
    return [{**_major_minor(entry.path), "rate": entry.rate} for entry in entries]


def _major_minor(path: str) -> dict[str, int]:
    device = device_at(path, follow=True)
    if device is None:
        raise InvalidArgument(f"stat {path}: no such file or directory")
    return {"major": device[2], "minor": device[3]}


def _rule(text: str) -> dict[str, Any]:
    found = _RULE.fullmatch(text)
    if not found:
        raise InvalidArgument(f"invalid device cgroup rule format: '{text}'")
    rule: dict[str, Any] = {"allow": True, "type": found[1], "access": found[4]}
    if found[2] != "*":
        rule["major"] = int(found[2])
    if found[3] != "*":
        rule["minor"] = int(found[3])
    return rule


def check_rules(host_config: HostConfig) -> None:
    """InvalidArgument for a malformed device cgroup rule or ulimit: at create, as Docker does."""
    for text in host_config.device_cgroup_rules:
        _rule(text)
    rlimits(host_config.ulimits, ())


def merge(host_config: HostConfig, update: UpdateRequest) -> Mapping[str, Any]:
    """The fields of `host_config` that `update` changes."""
    names = [
        "cpu_shares",
        "memory",
        "nano_cpus",
        "blkio_weight",
        "cpu_period",
        "cpu_quota",
        "cpuset_cpus",
        "cpuset_mems",
        "memory_reservation",
        "memory_swap",
        "cpu_realtime_period",
        "cpu_realtime_runtime",
    ]
    changed = {name: getattr(update, name) for name in names if getattr(update, name)}
    for name in ("pids_limit", "oom_kill_disable"):
        if getattr(update, name) is not None:
            changed[name] = getattr(update, name)
    if update.restart_policy.name:
        changed["restart_policy"] = update.restart_policy
    return changed


def _set(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}
