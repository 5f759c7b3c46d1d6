"""Limits in the controller trees of cgroup v1. Source: Documentation/admin-guide/cgroup-v1/*, runc fs/*.go."""

from __future__ import annotations

import errno
import os
import time

from sampan.errors import Error, InvalidArgument
from sampan.runtime.cgroup import devices
from sampan.runtime.host import in_user_namespace
from sampan.runtime.steps.situation import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.oci.spec import Resources

_FREEZE_PATIENCE = 10.0


def write(directory: str, name: str, value: str) -> None:
    """One write(2) to a control file. Errors: OSError."""
    fd = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def read(directory: str, name: str) -> str:
    fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        while part := os.read(fd, 65536):
            parts.append(part)
        return b"".join(parts).decode("ascii", "replace").rstrip("\n")
    finally:
        os.close(fd)


def inherit_cpuset(directory: str) -> None:
    """Give a new cpuset, and its new parents, what its parent has: an empty one takes no process in."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if read(directory, name).strip("\n\0"):
            continue
        parent = os.path.dirname(directory)
        if not os.path.exists(f"{parent}/{name}"):
            return
        if not read(parent, name):
            inherit_cpuset(parent)
        write(directory, name, read(parent, name))


def apply(found: dict[str, str], resources: Resources, update: bool) -> None:
    """Set what `resources` says. Errors: InvalidArgument for a missing controller, Error with runc's texts."""
    if "devices" in resources and not update:
        _set_devices(found, resources)
    _set_memory(found, resources.get("memory", {}))
    _set_cpu(found, resources.get("cpu", {}))
    limit = resources.get("pids", {}).get("limit")
    if limit:
        _set(found, "pids", "pids.max", str(limit) if limit > 0 else "max", "linux.resources.pids.limit")
    _set_block_io(found, resources.get("blockIO", {}))
    for index, page in enumerate(resources.get("hugepageLimits", [])):
        name = f"hugetlb.{page['pageSize']}.limit_in_bytes"
        _set(found, "hugetlb", name, str(page["limit"]), f"linux.resources.hugepageLimits[{index}]")
    network = resources.get("network", {})
    if network.get("classID"):
        _set(found, "net_cls", "net_cls.classid", str(network["classID"]), "linux.resources.network.classID")
    for index, entry in enumerate(network.get("priorities", [])):
        text = f"{entry['name']} {entry['priority']}"
        _set(found, "net_prio", "net_prio.ifpriomap", text, f"linux.resources.network.priorities[{index}]")
    for device, limits in resources.get("rdma", {}).items():
        text = " ".join([device, *(f"{key}={limits[name]}" for key, name in _RDMA if name in limits)])
        _set(found, "rdma", "rdma.max", text, f'linux.resources.rdma["{device}"]')
    if resources.get("unified"):
        raise InvalidArgument("linux.resources.unified: invalid configuration: cgroup v1 does not support unified")


_RDMA = (("hca_handle", "hcaHandles"), ("hca_object", "hcaObjects"))


def _set(found: dict[str, str], controller: str, name: str, value: str, field: str) -> None:
    directory = found.get(controller)
    if directory is None:
        raise InvalidArgument(
            f"{field}: cannot set {controller} limit: container could not join or create cgroup: controller "
            f'"{controller}" is not mounted on this host'
        )
    try:
        write(directory, name, value)
    except OSError as error:
        raise Error(f'failed to write "{value}": write {directory}/{name}: {words(error)} [{field}]') from None


def _set_devices(found: dict[str, str], resources: Resources) -> None:
    directory = found.get("devices")
    if directory is None:
        if not resources["devices"]:
            return
        raise InvalidArgument('linux.resources.devices: controller "devices" is not mounted on this host')
    for name, rule in devices.v1_writes(resources.get("devices", [])):
        try:
            write(directory, name, rule)
        except OSError as error:
            # A nested container may not get what its parent lacks; what it may have is enforced all the same. Nor may a
            # user namespace set rules: no node of the host opens for it that did not before.
            if error.errno == errno.EPERM and (name == "devices.allow" or in_user_namespace()):
                continue
            raise Error(f'failed to write "{rule}": write {directory}/{name}: {words(error)}') from None


def _set_memory(found: dict[str, str], memory: dict[str, Any]) -> None:
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    base = "linux.resources.memory"
    if limit == -1 and swap == 0:
        swap = -1
    if limit and swap:
        _set_memory_and_swap(found, limit, swap)
    elif limit:
        _set_memory_limit(found, limit)
    elif swap:
        _set(found, "memory", "memory.memsw.limit_in_bytes", str(swap), f"{base}.swap")
    if memory.get("reservation"):
        value = str(memory["reservation"])
        _set(found, "memory", "memory.soft_limit_in_bytes", value, f"{base}.reservation")
    if memory.get("disableOOMKiller"):
        _set(found, "memory", "memory.oom_control", "1", f"{base}.disableOOMKiller")
    swappiness = memory.get("swappiness")
    if swappiness is not None and swappiness != (1 << 64) - 1:
        if swappiness > 100:
            raise InvalidArgument(
                f"{base}.swappiness: invalid memory swappiness value: {swappiness} (valid range is 0-100)"
            )
        _set(found, "memory", "memory.swappiness", str(swappiness), f"{base}.swappiness")


def _set_memory_and_swap(found: dict[str, str], limit: int, swap: int) -> None:
    """The kernel keeps limit ≤ memory+swap at every moment, so the order depends on which way they move."""
    directory = found.get("memory", "")
    try:
        current = int(read(directory, "memory.limit_in_bytes"))
    except (OSError, ValueError):
        current = 0
    swap_first = swap == -1 or current < swap
    if not swap_first:
        _set_memory_limit(found, limit)
    _set(found, "memory", "memory.memsw.limit_in_bytes", str(swap), "linux.resources.memory.swap")
    if swap_first:
        _set_memory_limit(found, limit)


def _set_memory_limit(found: dict[str, str], limit: int) -> None:
    directory = found.get("memory")
    if directory is not None:
        try:
            write(directory, "memory.limit_in_bytes", str(limit))
            return
        except OSError as error:
            if error.errno == errno.EBUSY:
                usage, peak = read(directory, "memory.usage_in_bytes"), read(directory, "memory.max_usage_in_bytes")
                raise Error(
                    f"unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})"
                ) from None
    _set(found, "memory", "memory.limit_in_bytes", str(limit), "linux.resources.memory.limit")


def _set_cpu(found: dict[str, str], cpu: dict[str, Any]) -> None:
    base = "linux.resources.cpu"
    if cpu.get("shares"):
        _set(found, "cpu", "cpu.shares", str(cpu["shares"]), f"{base}.shares")
        actual = int(read(found["cpu"], "cpu.shares"))
        if cpu["shares"] > actual:
            raise Error(f"the maximum allowed cpu-shares is {actual}")
        if cpu["shares"] < actual:
            raise Error(f"the minimum allowed cpu-shares is {actual}")
    if "idle" in cpu:
        _set(found, "cpu", "cpu.idle", str(cpu["idle"]), f"{base}.idle")
    period, quota = cpu.get("period", 0), cpu.get("quota", 0)
    pending = [("cpu.cfs_period_us", period, "period"), ("cpu.cfs_quota_us", quota, "quota")]
    if cpu.get("burst"):
        pending.append(("cpu.cfs_burst_us", cpu["burst"], "burst"))
    pending = [entry for entry in pending if entry[1]]
    for attempt, (name, value, field) in enumerate(pending):
        try:
            _set(found, "cpu", name, str(value), f"{base}.{field}")
        except Error:
            # A period below the present quota is refused until the quota has come down too.
            if name != "cpu.cfs_period_us" or attempt or not quota:
                raise
            _set(found, "cpu", "cpu.cfs_quota_us", str(quota), f"{base}.quota")
            _set(found, "cpu", name, str(value), f"{base}.{field}")
    for name, field in (("cpu.rt_period_us", "realtimePeriod"), ("cpu.rt_runtime_us", "realtimeRuntime")):
        if cpu.get(field):
            _set(found, "cpu", name, str(cpu[field]), f"{base}.{field}")
    for name in ("cpus", "mems"):
        if cpu.get(name):
            _set(found, "cpuset", f"cpuset.{name}", cpu[name], f"{base}.{name}")


_THROTTLES = (
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"),
)


def _set_block_io(found: dict[str, str], block: dict[str, Any]) -> None:
    base = "linux.resources.blockIO"
    for field, names in (
        ("weight", ("blkio.bfq.weight", "blkio.weight")), ("leafWeight", ("blkio.leaf_weight",)),
    ):  # fmt: skip
        if block.get(field):
            _set(found, "blkio", _present(found, names), str(block[field]), f"{base}.{field}")
    for index, device in enumerate(block.get("weightDevice", [])):
        number = f"{device.get('major', 0)}:{device.get('minor', 0)}"
        for field, names in (
            ("weight", ("blkio.bfq.weight_device", "blkio.weight_device")),
            ("leafWeight", ("blkio.leaf_weight_device",)),
        ):
            if device.get(field):
                text = f"{number} {device[field]}"
                _set(found, "blkio", _present(found, names), text, f"{base}.weightDevice[{index}].{field}")
    for field, name in _THROTTLES:
        for index, device in enumerate(block.get(field, [])):
            text = f"{device.get('major', 0)}:{device.get('minor', 0)} {device.get('rate', 0)}"
            _set(found, "blkio", name, text, f"{base}.{field}[{index}]")


def _present(found: dict[str, str], names: tuple[str, ...]) -> str:
    """The first of the files that this kernel has; without one the first, whose error is then told."""
    return next((name for name in names if os.path.exists(f"{found.get('blkio', '')}/{name}")), names[0])


def freeze(directory: str, frozen: bool) -> None:
    """Write the wanted state until the kernel reports it: a process that forks meanwhile can undo a freeze."""
    wanted = "FROZEN" if frozen else "THAWED"
    deadline = time.monotonic() + _FREEZE_PATIENCE
    tries = 0
    while True:
        write(directory, "freezer.state", wanted)
        if read(directory, "freezer.state") == wanted:
            return
        tries += 1
        if time.monotonic() > deadline:
            if frozen:
                write(directory, "freezer.state", "THAWED")
            raise Error("unable to freeze" if frozen else "unable to thaw")
        if frozen and tries % 50 == 49:
            # Thawing for a moment lets a task that hangs in the middle of a fork come to the point where it stops.
            write(directory, "freezer.state", "THAWED")
        time.sleep(0.0005)


def is_frozen(directory: str) -> bool:
    try:
        return read(directory, "freezer.state") in ("FROZEN", "FREEZING")
    except OSError:
        return False
