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
        raise Conflict("container is not running")
    return {"type": "stats", "id": found["id"], "data": stats(found)}


def stats(found: dict[str, Any]) -> dict[str, Any]:
    """The "data" of a stats event; a part whose controller the host lacks is left at zero."""
    paths = found["cgroup_paths"]
    if list(paths) == [""]:
        return _v2(paths[""])
    return {
        "cpu": _v1_cpu(paths),
        "cpuset": {},
        "memory": _v1_memory(paths.get("memory", "")),
        "pids": _pids(paths.get("pids", "")),
        "blkio": _v1_block(paths.get("blkio", "")),
        "hugetlb": {},
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
    return {
        "usage": {
            "total": _number(account, "cpuacct.usage"),
            "percpu": percpu,
            "kernel": ticks.get("system", 0) * _NANOSECONDS_PER_TICK,
            "user": ticks.get("user", 0) * _NANOSECONDS_PER_TICK,
        },
        "throttling": {
            "periods": throttled.get("nr_periods", 0),
            "throttledPeriods": throttled.get("nr_throttled", 0),
            "throttledTime": throttled.get("throttled_time", 0),
        },
    }


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
    swap = {
        "limit": _number(directory, "memory.swap.max"), "usage": _number(directory, "memory.swap.current"),
        "max": 0, "failcnt": 0,
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
        },
        "cpuset": {},
        "memory": {"cache": memory.get("file", 0), "usage": usage, "swap": swap, "raw": memory},
        "pids": _pids(directory),
        "blkio": {
            "ioServiceBytesRecursive": _v2_io(directory, _V2_BYTES),
            "ioServicedRecursive": _v2_io(directory, _V2_IOS),
        },
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


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
        raise Conflict("container is not running") from None
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
