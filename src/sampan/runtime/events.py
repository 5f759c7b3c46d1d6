"""The verb `events`: what a container uses, in runc's JSON. Source: runc types/events.go."""

from __future__ import annotations

import os
import select
import time

from sampan.errors import Conflict
from sampan.runtime import state
from sampan.runtime.cgroup.v1 import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NANOSECONDS_PER_TICK = 10_000_000  # USER_HZ is 100 on every architecture
_UNLIMITED = (1 << 64) - 1


def stats_event(root: str, found: dict[str, Any]) -> dict[str, Any]:
    """One "stats" event. Errors: Conflict when the container is not running."""
    if state.status(root, found) == "stopped":
        raise Conflict(f"container with id {found['id']} is not running")
    return {"type": "stats", "id": found["id"], "data": stats(found)}


def stats(found: dict[str, Any]) -> dict[str, Any]:
    """The "data" of a stats event; a part whose controller the host lacks is left at zero."""
    paths = found["cgroup_paths"]
    if list(paths) == [""]:
        return _v2(paths[""])
    return {
        "cpu": _v1_cpu(paths),
        "cpuset": _v1_cpuset(paths.get("cpuset", "")),
        "memory": _v1_memory(paths.get("memory", "")),
        "pids": _pids(paths.get("pids", "")),
        "blkio": _v1_block(paths.get("blkio", "")),
        "hugetlb": _v1_hugetlb(paths.get("hugetlb", "")),
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _text(directory: str, name: str) -> str:
    try:
        return read(directory, name) if directory else ""
    except OSError:
        return ""


def _number(directory: str, name: str) -> int:
    text = _text(directory, name).strip()
    return _UNLIMITED if text == "max" else int(text) if text.lstrip("-").isdigit() else 0


def _table(text: str) -> dict[str, int]:
    """The "key value" lines of a control file."""
    found: dict[str, int] = {}
    for line in text.split("\n"):
        key, _, value = line.partition(" ")
        if value.strip().isdigit():
            found[key] = int(value)
    return found


def _v1_cpu(paths: dict[str, str]) -> dict[str, Any]:
    account = paths.get("cpuacct", "")
    ticks = _table(_text(account, "cpuacct.stat"))
    throttled = _table(_text(paths.get("cpu", ""), "cpu.stat"))
    percpu = [int(word) for word in _text(account, "cpuacct.usage_percpu").split()]
    split = [line.split() for line in _text(account, "cpuacct.usage_all").split("\n")[1:]]  # "cpu user system"
    return {
        "usage": {
            "total": _number(account, "cpuacct.usage"),
            "percpu": percpu,
            "percpu_kernel": [_decimal(line[2]) for line in split if len(line) == 3],
            "percpu_user": [_decimal(line[1]) for line in split if len(line) == 3],
            "kernel": ticks.get("system", 0) * _NANOSECONDS_PER_TICK,
            "user": ticks.get("user", 0) * _NANOSECONDS_PER_TICK,
        },
        "throttling": {
            "periods": throttled.get("nr_periods", 0),
            "throttledPeriods": throttled.get("nr_throttled", 0),
            "throttledTime": throttled.get("throttled_time", 0),
        },
    }


def _decimal(word: str) -> int:
    """0 for what is no number."""
    return int(word) if word.isdecimal() else 0


# The cpuset's numbers: the files are called as the event has them. Source: runc types/events.go.
_CPUSET = (
    "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab",
    "memory_pressure", "sched_load_balance", "sched_relax_domain_level",
)  # fmt: skip


def _v1_cpuset(directory: str) -> dict[str, Any]:
    if not directory:
        return {}
    found: dict[str, Any] = {name: _listed(_text(directory, f"cpuset.{name}")) for name in ("cpus", "mems")}
    return found | {name: _number(directory, f"cpuset.{name}") for name in _CPUSET}


def _listed(text: str) -> list[int]:
    """The numbers of a list like "0-3,7"."""
    found: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdecimal():
            found += range(int(first), int(last or first) + 1)
    return found


def _v1_hugetlb(directory: str) -> dict[str, Any]:
    return {
        size: {
            "usage": _number(directory, f"hugetlb.{size}.{rsvd}usage_in_bytes"),
            "max": _number(directory, f"hugetlb.{size}.{rsvd}max_usage_in_bytes"),
            "failcnt": _number(directory, f"hugetlb.{size}.{rsvd}failcnt"),
        }
        for size, rsvd in _page_sizes(directory, "usage_in_bytes")
    }


def _page_sizes(directory: str, counter: str) -> list[tuple[str, str]]:
    """The sizes of huge pages that the cgroup counts, "2MB", each with "rsvd." where it counts reservations too."""
    try:
        names = set(os.listdir(directory)) if directory else set()
    except OSError:
        return []
    sizes = {name.split(".")[1] for name in names if name.startswith("hugetlb.")}
    return [(size, "rsvd." if f"hugetlb.{size}.rsvd.{counter}" in names else "") for size in sorted(sizes)]


def _v1_memory(directory: str) -> dict[str, Any]:
    def usage(kind: str) -> dict[str, int]:
        return {
            "limit": _number(directory, f"memory.{kind}limit_in_bytes"),
            "usage": _number(directory, f"memory.{kind}usage_in_bytes"),
            "max": _number(directory, f"memory.{kind}max_usage_in_bytes"),
            "failcnt": _number(directory, f"memory.{kind}failcnt"),
        }

    raw = _table(_text(directory, "memory.stat"))
    return {
        "cache": raw.get("cache", 0),
        "usage": usage(""),
        "swap": usage("memsw."),
        "kernel": usage("kmem."),
        "kernelTCP": usage("kmem.tcp."),
        "raw": raw,
    }


def _pids(directory: str) -> dict[str, int]:
    limit = _number(directory, "pids.max")
    return {"current": _number(directory, "pids.current"), "limit": 0 if limit == _UNLIMITED else limit}


_BLOCK_FILES = (
    ("ioServiceBytesRecursive", ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes")),
    ("ioServicedRecursive", ("blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced")),
    ("ioQueueRecursive", ("blkio.io_queued_recursive",)),
    ("ioServiceTimeRecursive", ("blkio.io_service_time_recursive",)),
    ("ioWaitTimeRecursive", ("blkio.io_wait_time_recursive",)),
    ("ioMergedRecursive", ("blkio.io_merged_recursive",)),
    ("ioTimeRecursive", ("blkio.time_recursive",)),
    ("sectorsRecursive", ("blkio.sectors_recursive",)),
)


def _v1_block(directory: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, names in _BLOCK_FILES:
        text = next((text for text in (_text(directory, name) for name in names) if text), "")
        entries = []
        for line in text.split("\n"):
            words = line.split()
            if len(words) == 3 and ":" in words[0]:
                major, _, minor = words[0].partition(":")
                entries.append({"major": int(major), "minor": int(minor), "op": words[1], "value": int(words[2])})
        if entries:
            found[key] = entries
    return found


def _v2(directory: str) -> dict[str, Any]:
    cpu = _table(_text(directory, "cpu.stat"))
    memory = _table(_text(directory, "memory.stat"))
    usage = {
        "limit": _number(directory, "memory.max"),
        "usage": _number(directory, "memory.current"),
        "max": _number(directory, "memory.peak"),
        "failcnt": _table(_text(directory, "memory.events")).get("max", 0),
    }
    # As on v1, where swap is counted together with memory.
    limit = _number(directory, "memory.swap.max")
    swap = {
        "limit": limit if _UNLIMITED in (limit, usage["limit"]) else limit + usage["limit"],
        "usage": _number(directory, "memory.swap.current") + usage["usage"], "max": 0, "failcnt": 0,
    }  # fmt: skip
    return {
        "cpu": {
            "usage": {
                "total": cpu.get("usage_usec", 0) * 1000,
                "kernel": cpu.get("system_usec", 0) * 1000,
                "user": cpu.get("user_usec", 0) * 1000,
            },
            "throttling": {
                "periods": cpu.get("nr_periods", 0),
                "throttledPeriods": cpu.get("nr_throttled", 0),
                "throttledTime": cpu.get("throttled_usec", 0) * 1000,
            },
            **_pressure(directory, "cpu"),
        },
        "cpuset": {},
        "memory": {
            "cache": memory.get("file", 0),
            "usage": usage,
            "swap": swap,
            "raw": memory,
            **_pressure(directory, "memory"),
        },
        "pids": _pids(directory),
        "blkio": {
            "ioServiceBytesRecursive": _v2_io(directory, _V2_BYTES),
            "ioServicedRecursive": _v2_io(directory, _V2_IOS),
            **_pressure(directory, "io"),
        },
        "hugetlb": _v2_hugetlb(directory),
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _v2_hugetlb(directory: str) -> dict[str, Any]:
    return {
        size: {
            "usage": _number(directory, f"hugetlb.{size}.{rsvd}current"),
            "failcnt": _table(_text(directory, f"hugetlb.{size}.events")).get("max", 0),
        }
        for size, rsvd in _page_sizes(directory, "current")
    }


def _pressure(directory: str, controller: str) -> dict[str, Any]:
    """{"psi": {"some": {"avg10", "avg60", "avg300", "total"}, "full": ...}}, or {} on a kernel without it.

    Source: Documentation/accounting/psi.rst.
    """
    found: dict[str, dict[str, float]] = {}
    for line in _text(directory, f"{controller}.pressure").split("\n"):
        kind, _, rest = line.partition(" ")
        pairs = [word.partition("=") for word in rest.split()]
        if pairs:
            found[kind] = {key: int(value) if key == "total" else float(value) for key, _, value in pairs}
    return {"psi": found} if found else {}


_V2_BYTES = {"rbytes": "Read", "wbytes": "Write", "dbytes": "Discard"}
_V2_IOS = {"rios": "Read", "wios": "Write", "dios": "Discard"}


def _v2_io(directory: str, names: dict[str, str]) -> list[dict[str, Any]]:
    entries = []
    for line in _text(directory, "io.stat").split("\n"):
        device, _, rest = line.partition(" ")
        major, colon, minor = device.partition(":")
        for word in rest.split() if colon else ():
            key, _, value = word.partition("=")
            if key in names:
                entries.append({"major": int(major), "minor": int(minor), "op": names[key], "value": int(value)})
    return entries


class _OomNotice:
    """Tells when the kernel has killed in a memory cgroup. `fd` (-1 without one) becomes ready for `events` then.

    v1: an eventfd registered for memory.oom_control (cgroup-v1/memory.rst). v2: memory.events (cgroup-v2.rst).
    """

    def __init__(self, paths: dict[str, str]) -> None:
        self.fd = -1
        self.events = select.POLLIN
        self._before = 0
        self._directory = directory = paths.get("memory") or paths.get("", "")
        try:
            if "memory" not in paths:
                self.fd = os.open(f"{directory}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
                self.events = select.POLLPRI
                self._before = self._kills()
                return
            watched = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
            control = os.open(f"{directory}/cgroup.event_control", os.O_WRONLY | os.O_CLOEXEC)
            self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            os.write(control, b"%d %d" % (self.fd, watched))
            os.close(control)
            os.close(watched)
        except OSError:
            pass  # a host without the controller has nothing to tell

    def _kills(self) -> int:
        for line in os.pread(self.fd, 4096, 0).decode().split("\n"):
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
        return 0

    def happened(self) -> bool:
        """Whether there was a kill since the last look."""
        if self.events == select.POLLIN:
            os.eventfd_read(self.fd)
            return os.path.exists(self._directory)  # its removal makes the eventfd ready too
        before, self._before = self._before, self._kills()
        return self._before > before


def watch(root: str, found: dict[str, Any], interval: float) -> Any:
    """Yield a stats event every `interval` seconds, and an oom event for each kill, until the container's end."""
    from sampan.linux import process

    try:
        pidfd = process.pidfd_open(found["init_process_pid"])
    except OSError:
        raise Conflict(f"container with id {found['id']} is not running") from None
    oom = _OomNotice(found["cgroup_paths"])
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    if oom.fd >= 0:
        poller.register(oom.fd, oom.events)
    try:
        while state.status(root, found) != "stopped":
            yield stats_event(root, found)
            due = time.monotonic() + interval
            while (left := due - time.monotonic()) > 0:
                ready = [fd for fd, _ in poller.poll(left * 1000)]
                if oom.fd in ready and oom.happened():
                    yield {"type": "oom", "id": found["id"]}
                if pidfd in ready:
                    return
    finally:
        os.close(pidfd)
        if oom.fd >= 0:
            os.close(oom.fd)
