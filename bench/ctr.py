"""`ctr run --rm` and the memory of idle containers: sampan-containerd beside Debian's containerd, same ctr.

    python -m bench.ctr [--rounds N]               as root, about half a minute

Each core runs in a machine of its own (tests/peers/machine.py); runs are interleaved. Prints the medians and their
ratios, the memory of each core without a container (daemon, and ours has a keeper), and what it grows by for each
container that sleeps, the container's own process left out. CPU is that of the machine: core, shims, container, ctr.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile

from tests.peers import images
from tests.peers.containers import Containerd, Core, SampanContainerd
from tests.peers.machine import CGROUPS, Machine

from bench.rounds import CLOCK

IMAGE = "example.org/busybox:latest"
IDLE = 10
"""Containers started to weigh one."""
_PRESENT, _FRAME = 1 << 63, (1 << 55) - 1


def main() -> None:
    parser = argparse.ArgumentParser(description="compare sampan-containerd with containerd")
    parser.add_argument("--rounds", type=int, default=20, help="runs of each (default 20)")
    rounds = parser.parse_args().rounds
    if os.geteuid() != 0:
        sys.exit("bench needs root: it starts containers")
    scratch = tempfile.mkdtemp(prefix="sampan-bench-")
    os.chmod(scratch, 0o755)
    machines: list[Machine] = []
    cores: dict[str, Core] = {}
    try:
        archive = _archive(scratch)
        for kind in (Containerd, SampanContainerd):
            machine = Machine(scratch, kind.kind)
            machines.append(machine)
            core: Core = kind(machine, f"{scratch}/{kind.kind}")
            cores[kind.kind] = core
            core.start()
            done = core.shell("bench", f"ctr images import {archive}")
            assert done.status == 0, done.err
        _compare(cores, rounds)
    finally:
        for core in cores.values():
            core.stop()
        for machine in machines:
            machine.close()
        shutil.rmtree(scratch, ignore_errors=True)


def _archive(scratch: str) -> str:
    layout, archive = f"{scratch}/layout", f"{scratch}/busybox.tar"
    blob = images.layer(images.tar(images.busybox_entries()))
    images.write_layout(layout, [images.image([blob], {"Cmd": ["sh"], "Env": ["PATH=/bin:/usr/bin"]})])
    subprocess.run(["skopeo", "copy", "-q", f"oci:{layout}:latest", f"docker-archive:{archive}:{IMAGE}"], check=True)
    return archive


def _compare(cores: dict[str, Core], rounds: int) -> None:
    for core in cores.values():
        assert core.shell("bench", f"ctr run --rm {IMAGE} first true").status == 0
    alone = {name: _memory(core) for name, core in cores.items()}
    order = {
        "rounds": rounds,
        "commands": {name: _run(core) for name, core in cores.items()},
        "counters": {name: f"{CGROUPS}/cpuacct/{core.machine.cgroup}/cpuacct.usage" for name, core in cores.items()},
    }
    clocked = subprocess.run(
        [sys.executable, CLOCK], input=json.dumps(order), capture_output=True, text=True, check=True
    )
    runs = json.loads(clocked.stdout)
    assert all(one["status"] == 0 for found in runs.values() for one in found), runs
    wall = {name: [one["wall"] * 1e3 for one in found] for name, found in runs.items()}
    cpu = {name: [one["counter"] * 1e3 for one in found] for name, found in runs.items()}
    print("ctr run --rm, ms              median     min  CPU of all")
    for name, found in wall.items():
        print(f"  {name:26}{statistics.median(found):8.1f}{min(found):8.1f}{statistics.median(cpu[name]):12.1f}")
    ratios = _ratio(wall, statistics.median), _ratio(wall, min), _ratio(cpu, statistics.median)
    print(f"  ratio                     {ratios[0]:8.2f}{ratios[1]:8.2f}{ratios[2]:12.2f}")
    print("memory, kB                     alone  each idle container")
    for name, core in cores.items():
        for number in range(IDLE):
            done = core.shell("bench", f"ctr run -d --null-io {IMAGE} idle{number} sleep 1000")
            assert done.status == 0, done.err
        grown = _memory(core) - alone[name]
        print(f"  {name:26}{alone[name]:8}{grown / IDLE:8.0f}")
        for number in range(IDLE):
            core.shell("bench", f"ctr tasks rm -f idle{number}; ctr containers rm idle{number}")


def _ratio(of: dict[str, list[float]], pick: object) -> float:
    assert callable(pick)
    return float(pick(of["sampan"]) / pick(of["containerd"]))


def _run(core: Core) -> list[str]:
    told = ["env", f"CONTAINERD_ADDRESS={core.address}", "CONTAINERD_NAMESPACE=bench"]
    return core.machine.entering([*told, "ctr", "run", "--rm", IMAGE, "r{n}", "true"])


def _memory(core: Core) -> int:
    """kB of memory of everything in the machine but its holder and the containers' own processes, each page once.

    What another process on the host has mapped as well, the same interpreter or another containerd, counts in full:
    PSS would be less of it the more of them run."""

    pages: set[int] = set()
    for pid in core.machine.processes():
        words = _command(pid)
        if any(word in words for word in ("containerd", "keeper", "sampan")):
            pages |= _pages(pid)
    return len(pages) * os.sysconf("SC_PAGESIZE") // 1024


def _command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""


def _pages(pid: int) -> set[int]:
    """Numbers of the page frames that the process has mapped: proc_pid_pagemap(5)."""
    size, found = os.sysconf("SC_PAGESIZE"), set()
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
            for line in maps:
                first, last = (int(address, 16) for address in line.split()[0].split("-"))
                if first >> 63:
                    continue  # [vsyscall] is the kernel's
                entries = os.pread(pagemap.fileno(), (last - first) // size * 8, first // size * 8)
                found |= {entry & _FRAME for (entry,) in struct.iter_unpack("<Q", entries) if entry & _PRESENT}
    except OSError:
        return set()  # it has ended meanwhile
    return found - {0}


if __name__ == "__main__":
    main()
