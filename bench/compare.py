"""`make bench`: sampan beside its peers on this machine, interleaved in one run.

    docker run --rm IMAGE true      sampand and Debian's dockerd, same client, network none and bridge
    RUNTIME run of a static true    sampan-runc, runc, crun with Docker's own default spec; exec; peak memory
    an idle container's memory      everything either engine keeps for it

Timings on a shared machine are noisy: the ratios of medians and minima are the result, the milliseconds are not.
CPU is what the engine's side uses (its cgroup: daemon, supervisors, container), the client's not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.peers.client import Docker
from tests.peers.engines import Dockerd, Engine, Sampand
from tests.peers.machine import CGROUPS, Machine
from tests.peers.registry import Registry
from tests.peers.shelf import Shelf
from tests.peers.waiting import eventually

from bench import oneshot
from bench.rounds import CLOCK, Runs, clock, report

IDLE = 10
"""Containers started to weigh one."""


def main() -> None:
    parser = argparse.ArgumentParser(description="compare sampan with its peers")
    parser.add_argument("--rounds", type=int, default=20, help="runs of each command (default 20)")
    parser.add_argument("--only", choices=("docker", "oneshot", "memory"), help="one part alone")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench needs root: it starts engines and containers")
    scratch = tempfile.mkdtemp(prefix="sampan-bench-")
    os.chmod(scratch, 0o755)
    try:
        compare(scratch, options.rounds, options.only)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def compare(scratch: str, rounds: int, only: str | None) -> None:
    with engine_on_a_machine(Dockerd, f"{scratch}/d") as (reference, reference_client):
        spec = docker_s_spec(reference, reference_client)
        with engine_on_a_machine(Sampand, f"{scratch}/s") as (sampand, client):
            if only in (None, "docker"):
                for network in ("none", "bridge"):
                    pair = {"dockerd": (reference, reference_client), "sampand": (sampand, client)}
                    report(f"docker run --rm --network {network} busybox true", docker_runs(pair, network, rounds))
            if only in (None, "memory"):
                print("\nan idle container, all processes of the engine's side (kB, proportional set size)")
                for name, weight in (
                    ("dockerd", idle_weight(reference, reference_client)),
                    ("sampand", idle_weight(sampand, client)),
                ):
                    print(f"  {name:12} {weight:8.0f}")
    if only in (None, "oneshot"):
        oneshot.compare(f"{scratch}/o", spec, rounds)


@contextmanager
def engine_on_a_machine(kind: type[Engine], scratch: str) -> Iterator[tuple[Engine, Docker]]:
    """An engine on a machine of its own, with the image `busybox`, and a client for it."""
    os.makedirs(f"{scratch}/engine")
    machine = Machine(scratch, kind.kind)
    try:
        registry = Registry(machine, scratch, f"{scratch}/registry")
        shelf = Shelf(registry, f"{scratch}/layouts")
        shelf.fill()
        engine = kind(machine, f"{scratch}/engine", {})
        try:
            engine.start()
            binary = shutil.which("docker")
            assert binary, "no docker client on PATH"
            client = Docker(binary, engine.uri, f"{scratch}/home")
            client.ok("pull", "-q", shelf.reference("busybox"))
            client.ok("tag", shelf.reference("busybox"), "busybox")
            registry.close()
            yield engine, client
            for identity in client.ok("ps", "-aq").split():
                client.ok("rm", "-f", identity)
        finally:
            engine.end()
    finally:
        machine.close()


def docker_runs(pair: dict[str, tuple[Engine, Docker]], network: str, rounds: int) -> Runs:
    """Interleaved `docker run --rm` on each engine, after one run each that does not count."""
    commands, counters = {}, {}
    for name, (engine, client) in pair.items():
        client.ok("run", "--rm", "--network", network, "busybox", "true")
        commands[name] = [client.binary, "-H", client.uri, "run", "--rm", "--network", network, "busybox", "true"]
        counters[name] = f"{CGROUPS}/cpuacct/{engine.machine.cgroup}/cpuacct.usage"
    return clock([sys.executable, "-I", "-S", CLOCK], rounds, commands, counters)


def idle_weight(engine: Engine, client: Docker) -> float:
    """kB of proportional set size that one further idle container adds, the container's own process included."""

    def weigh() -> int:
        total = 0
        for pid in engine.machine.processes():
            try:
                with open(f"/proc/{pid}/smaps_rollup") as rows:
                    total += next(int(row.split()[1]) for row in rows if row.startswith("Pss:"))
            except (OSError, StopIteration):
                continue  # ended while we looked
        return total

    client.ok("run", "-d", "busybox", "sleep", "1000")
    before = weigh()
    for _ in range(IDLE):
        client.ok("run", "-d", "busybox", "sleep", "1000")
    return (weigh() - before) / IDLE


def docker_s_spec(engine: Engine, client: Docker) -> dict[str, Any]:
    """The runtime-spec document dockerd hands to runc for a plain container, without what ties it to that container."""
    identity = client.ok("run", "-d", "busybox", "sleep", "1000")
    top = os.path.dirname(engine.root)

    def found() -> str:
        for path, _, names in os.walk(f"{top}/containerd-state"):
            if path.endswith(identity) and "config.json" in names:
                return f"{path}/config.json"
        return ""

    with open(eventually(found, what="the bundle of a container of dockerd")) as file:
        spec: dict[str, Any] = json.load(file)
    client.ok("rm", "-f", identity)
    spec["process"]["args"] = ["/bin/true"]
    spec["root"]["path"] = "rootfs"
    spec.pop("hooks", None)
    spec["mounts"] = [mount for mount in spec["mounts"] if not mount["destination"].startswith("/etc/")]
    for mount in spec["mounts"]:
        if mount["destination"] == "/dev/shm":
            mount.update(
                type="tmpfs", source="shm", options=["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]
            )
    for namespace in spec["linux"]["namespaces"]:
        namespace.pop("path", None)
    spec["linux"].pop("cgroupsPath", None)
    return spec


if __name__ == "__main__":
    main()
