"""Limits in cgroup v2. Source: Documentation/admin-guide/cgroup-v2.rst, runc fs2/*.go."""

from __future__ import annotations

import errno
import os
import select
import time

from sampan.errors import Error, InvalidArgument
from sampan.linux import bpf
from sampan.runtime.cgroup import devices
from sampan.runtime.cgroup.v1 import read, write
from sampan.runtime.host import in_user_namespace
from sampan.runtime.steps.situation import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.oci.spec import Resources

_FREEZE_PATIENCE = 10.0


def enable_controllers(directory: str) -> None:
    """Hand all controllers down to the container's cgroup, from the top of the tree on."""
    parents: list[str] = []
    here = os.path.dirname(directory)
    while os.path.exists(f"{here}/cgroup.subtree_control"):
        parents.append(here)
        here = os.path.dirname(here)
    for parent in reversed(parents):
        try:
            available = read(parent, "cgroup.controllers").split()
            enabled = read(parent, "cgroup.subtree_control").split()
        except OSError:
            continue
        missing = [name for name in available if name not in enabled]
        for name in missing:
            # One at a time, because the kernel takes all or nothing and some may be in use elsewhere.
            try:
                write(parent, "cgroup.subtree_control", f"+{name}")
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.EINVAL, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP):
                    raise


def cpu_weight(shares: int) -> int:
    """cpu.weight (1..10000) for v1's shares (2..262144), through 1024 shares = weight 100 on a logarithmic curve."""
    if shares <= 0:
        return 0
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    # log2 without `math`: the exponent and the fraction of the float are enough for this curve's rounding.
    exponent = _log2(shares)
    power = (exponent * exponent + 125 * exponent) / 612.0 - 7.0 / 34.0
    weight: float = 10.0**power
    return min(10000, int(weight) + (weight > int(weight)))


def _log2(value: int) -> float:
    whole = value.bit_length() - 1
    rest = value / (1 << whole)
    total, step = float(whole), 0.5
    for _ in range(40):
        rest *= rest
        if rest >= 2.0:
            rest /= 2.0
            total += step
        step /= 2.0
    return total


def io_weight(weight: int) -> int:
    """io.weight (1..10000) for v1's blkio weight (10..1000)."""
    return 1 + (weight - 10) * 9999 // 990 if weight else 0


def writes(resources: Resources) -> list[tuple[str, str, str]]:
    """(file, value, the spec's field) for everything but devices, in order. Pure. Errors: InvalidArgument."""
    found: list[tuple[str, str, str]] = []
    limit = resources.get("pids", {}).get("limit")
    if limit is not None and limit != 0:
        found.append(("pids.max", str(limit) if limit > 0 else "max", "linux.resources.pids.limit"))
    found += _memory(resources.get("memory", {}))
    found += _cpu(resources.get("cpu", {}))
    found += _io(resources.get("blockIO", {}))
    for index, page in enumerate(resources.get("hugepageLimits", [])):
        name = f"hugetlb.{page['pageSize']}.max"
        found.append((name, str(page["limit"]), f"linux.resources.hugepageLimits[{index}]"))
    for device, limits in resources.get("rdma", {}).items():
        words_ = [f"{key}={limits[name]}" for key, name in _RDMA if name in limits]
        found.append(("rdma.max", " ".join([device, *words_]), f'linux.resources.rdma["{device}"]'))
    for name, value in resources.get("unified", {}).items():
        if "/" in name or not value:
            raise InvalidArgument(f'linux.resources.unified["{name}"]: must be a file name and a value')
        found += [(name, line, f'linux.resources.unified["{name}"]') for line in value.split("\n") if line]
    return found


_RDMA = (("hca_handle", "hcaHandles"), ("hca_object", "hcaObjects"))


def _number(value: int) -> str:
    return "max" if value == -1 else str(value)


def _memory(memory: dict[str, Any]) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    base = "linux.resources.memory"
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    if swap == -1 or (limit == -1 and swap == 0):
        found.append(("memory.swap.max", "max", f"{base}.swap"))
    elif swap:
        # v1 counts memory and swap together, v2 swap alone.
        if limit <= 0:
            raise InvalidArgument(f"{base}.swap: unable to set swap limit without memory limit")
        if swap < limit:
            raise InvalidArgument(f"{base}.swap: memory+swap limit should be >= memory limit")
        found.append(("memory.swap.max", str(swap - limit), f"{base}.swap"))
    if limit:
        found.append(("memory.max", _number(limit), f"{base}.limit"))
    if memory.get("reservation"):
        found.append(("memory.low", _number(memory["reservation"]), f"{base}.reservation"))
    return found


def _cpu(cpu: dict[str, Any]) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    base = "linux.resources.cpu"
    if "idle" in cpu:
        found.append(("cpu.idle", str(cpu["idle"]), f"{base}.idle"))
    if cpu.get("shares") and not cpu.get("idle"):
        found.append(("cpu.weight", str(cpu_weight(cpu["shares"])), f"{base}.shares"))
    if cpu.get("quota") or cpu.get("period"):
        quota = cpu.get("quota", 0)
        text = f"{quota if quota > 0 else 'max'} {cpu.get('period') or 100000}"
        found.append(("cpu.max", text, f"{base}.quota"))
    if cpu.get("burst"):
        found.append(("cpu.max.burst", str(cpu["burst"]), f"{base}.burst"))
    found += [(f"cpuset.{name}", cpu[name], f"{base}.{name}") for name in ("cpus", "mems") if cpu.get(name)]
    return found


_THROTTLES = (
    ("throttleReadBpsDevice", "rbps"), ("throttleWriteBpsDevice", "wbps"), ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)  # fmt: skip


def _io(block: dict[str, Any]) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    base = "linux.resources.blockIO"
    if block.get("weight"):
        found.append(("io.weight", str(io_weight(block["weight"])), f"{base}.weight"))
    for index, device in enumerate(block.get("weightDevice", [])):
        if device.get("weight"):
            text = f"{device.get('major', 0)}:{device.get('minor', 0)} {io_weight(device['weight'])}"
            found.append(("io.weight", text, f"{base}.weightDevice[{index}]"))
    for field, key in _THROTTLES:
        for index, device in enumerate(block.get(field, [])):
            text = f"{device.get('major', 0)}:{device.get('minor', 0)} {key}={device.get('rate', 0)}"
            found.append(("io.max", text, f"{base}.{field}[{index}]"))
    return found


def apply(directory: str, resources: Resources, update: bool, rootless: bool = False) -> None:
    """Set what `resources` says. Errors: Error with runc's texts, naming the field.

    Who is `rootless`, or in a user namespace, may load no device program, and needs none: no node of the host opens for
    him that did not before.
    """
    for name, value, field in writes(resources):
        try:
            write(directory, name, value)
        except FileNotFoundError:
            controller = name.partition(".")[0]
            if name == "memory.swap.max" and value in ("0", "max"):
                continue  # a kernel without swap accounting has nothing to limit
            raise InvalidArgument(
                f'{field}: cannot set "{name}": controller "{controller}" is not available in {directory}'
            ) from None
        except OSError as error:
            raise Error(f'failed to write "{value}": write {directory}/{name}: {words(error)} [{field}]') from None
    if "devices" in resources and not update:
        try:
            set_devices(directory, resources)
        except Error:
            if not rootless and not in_user_namespace():
                raise


def check_usage(directory: str, resources: Resources) -> None:
    """Errors: Error when a limit that is to be checked is not above what is used now, as v1 refuses it by itself."""
    memory = resources.get("memory", {})
    limits = (("memory+swap", memory.get("swap", 0)), ("memory", memory.get("limit", 0)))
    if not memory.get("checkBeforeUpdate") or max(limit for _, limit in limits) <= 0:
        return
    usage = int(read(directory, "memory.current"))
    for what, limit in limits:
        if 0 < limit <= usage:
            raise Error(f"rejecting {what} limit {limit} <= usage {usage} [linux.resources.memory]")


def set_devices(directory: str, resources: Resources) -> None:
    """Attach the device program in the place of ours from before, or as the first. Errors: Error."""
    program = devices.bpf_program(resources.get("devices", []))
    cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        loaded = bpf.load_device_program(program)
        before = bpf.query_device(cgroup)
        if len(before) == 1:
            old = bpf.program_fd(before[0])
            bpf.attach_device(cgroup, loaded, replace=old)
            os.close(old)
        else:
            bpf.attach_device(cgroup, loaded)
        os.close(loaded)
    except OSError as error:
        raise Error(f"failed to set device rules: {error.strerror} [linux.resources.devices]") from None
    finally:
        os.close(cgroup)


def freeze(directory: str, frozen: bool) -> None:
    """Write cgroup.freeze and wait for the kernel's notice in cgroup.events."""
    events = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        write(directory, "cgroup.freeze", "1" if frozen else "0")
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        deadline = time.monotonic() + _FREEZE_PATIENCE
        while f"frozen {int(frozen)}" not in os.pread(events, 4096, 0).decode():
            if time.monotonic() > deadline:
                raise Error("unable to freeze" if frozen else "unable to thaw")
            poller.poll(100)
    finally:
        os.close(events)


def is_frozen(directory: str) -> bool:
    try:
        return read(directory, "cgroup.freeze") == "1"
    except OSError:
        return False
