"""/proc/PID/cgroup, and the statistics of a cgroup on v1 and v2 as `events` reads them."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from random import Random

from fuzz.mutation import of_bytes
from sampan import errors
from sampan.linux import cgroupfs
from sampan.runtime import events

_FILES = {
    "memory.stat": "cache 12\nrss 34\ntotal_rss 56\nanon 7\nfile 8\n", "memory.usage_in_bytes": "4096\n",
    "memory.limit_in_bytes": "9223372036854771712\n", "memory.current": "4096\n", "memory.max": "max\n",
    "cpuacct.usage": "123456\n", "cpuacct.usage_percpu": "123 456 \n", "cpuacct.stat": "user 1\nsystem 2\n",
    "cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 1\nnr_throttled 0\nthrottled_usec 0\n",
    "pids.current": "3\n", "pids.max": "max\n", "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
    "blkio.throttle.io_service_bytes": "8:0 Read 1\n8:0 Write 2\nTotal 3\n", "memory.events": "oom 0\noom_kill 1\n",
    "cpu.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=1.00 avg60=0.00 avg300=0.00 total=9\n",
}  # fmt: skip
_PATHS = b"3:cpu,cpuacct:/a\n2:name=systemd:/user.slice\n0::/x\n"
SEEDS = [_PATHS, json.dumps(_FILES).encode()]
ERRORS = (ValueError, OSError, errors.Error)


def mutate(data: bytes, random: Random) -> bytes:
    """The bytes of one file."""
    if data == _PATHS:
        return of_bytes(data, random)
    files = json.loads(data)
    name = random.choice(list(files))
    files[name] = of_bytes(files[name].encode(), random).decode("utf-8", "surrogateescape")
    return json.dumps(files).encode()


def feed(data: bytes, random: Random) -> None:
    """As the kernel's files in one directory, which is every controller's."""
    if not data.startswith(b'{"memory'):
        cgroupfs.parse_paths(data.decode("utf-8", "surrogateescape"))
        return
    folder = tempfile.mkdtemp(prefix="sampan-fuzz-")
    try:
        for name, text in json.loads(data).items():
            with open(f"{folder}/{name}", "wb") as file:
                file.write(text.encode("utf-8", "surrogateescape"))
        for keys in (("memory", "cpu", "cpuacct", "pids", "blkio"), ("",)):
            events.stats({"cgroup_paths": dict.fromkeys(keys, folder), "spec": {}, "init_process_pid": os.getpid()})
    finally:
        shutil.rmtree(folder)
