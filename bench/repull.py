"""A pull of an image that is there: sampand and Debian's dockerd over the Engine API, and containerd by its ctr.

    python -m bench.repull [--rounds N]            as root, about twenty seconds

The forty layers of `layered` in a docker-registry, plain HTTP and with TLS. Each engine runs in a machine of its own
with a registry of its own; pulls are interleaved. Timed is POST /images/create from the request to the end of its
progress, without a command line; of ctr all of it, since its registry client is the command's own. Prints medians and
minima in milliseconds, their ratio to dockerd's, and the first pull after a restart of each engine.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from urllib.parse import quote

from tests.peers.containers import Containerd
from tests.peers.engines import Dockerd, Engine, Sampand
from tests.peers.machine import REGISTRY_ADDRESS, REGISTRY_NAME, Machine
from tests.peers.registry import TLS_PORT, Authority, Registry
from tests.peers.shelf import Shelf

IMAGE = "layered"


class _Socket(http.client.HTTPConnection):
    """HTTP over the unix socket of an engine."""

    def __init__(self, path: str) -> None:
        super().__init__("engine")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def pull(engine: Engine, reference: str) -> float:
    """Milliseconds of one pull; AssertionError when it fails."""
    began = time.perf_counter()
    connection = _Socket(engine.uri.removeprefix("unix://"))
    connection.request("POST", f"/images/create?fromImage={quote(reference)}&tag=latest")
    answer = connection.getresponse().read()
    took = time.perf_counter() - began
    connection.close()
    assert b"errorDetail" not in answer and b"Status: " in answer, answer.decode()
    return took * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description="compare pulls of present images")
    parser.add_argument("--rounds", type=int, default=30, help="pulls of each (default 30)")
    rounds = parser.parse_args().rounds
    if os.geteuid() != 0:
        sys.exit("bench needs root: it starts engines")
    scratch = tempfile.mkdtemp(prefix="sampan-bench-")
    os.chmod(scratch, 0o755)
    try:
        with ExitStack() as opened:
            compare(scratch, rounds, opened)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def compare(scratch: str, rounds: int, opened: ExitStack) -> None:
    authority = Authority(scratch)
    os.environ["SSL_CERT_FILE"] = authority.certificate
    engines: dict[str, Engine] = {}
    plain = tls = ""
    kinds: tuple[type[Engine], ...] = (Dockerd, Sampand)
    for kind in kinds:
        home = f"{scratch}/{kind.kind}"
        os.makedirs(f"{home}/engine")
        machine = Machine(home, kind.kind)
        opened.callback(machine.close)
        engine = engines[kind.kind] = kind(machine, f"{home}/engine", {"SSL_CERT_FILE": authority.certificate})
        opened.callback(engine.end)
        plain, tls = registries(machine, home, authority, opened)
        engine.start()
    core = ctr(scratch, authority, opened)
    for title, reference in (("plain HTTP", plain), ("TLS", tls)):
        runs: dict[str, list[float]] = {}
        after: dict[str, float] = {}
        for engine in engines.values():
            pull(engine, reference)
        core_pull(core, reference)
        for _ in range(rounds):
            for name, engine in engines.items():
                runs.setdefault(name, []).append(pull(engine, reference))
        for _ in range(max(rounds // 5, 3)):
            runs.setdefault("ctr", []).append(core_pull(core, reference))
        for name, engine in engines.items():
            engine.stop()
            engine.start()
            after[name] = pull(engine, reference)
        report(title, runs, after)


def registries(machine: Machine, home: str, authority: Authority, opened: ExitStack) -> tuple[str, str]:
    """The image's name on a plain registry and on one with TLS, over one storage."""
    registry = Registry(machine, home, f"{home}/registry")
    opened.callback(registry.close)
    shelf = Shelf(registry, f"{home}/layouts")
    shelf.fill()
    secure = Registry(
        machine, home, f"{home}/registry", address=REGISTRY_ADDRESS, port=TLS_PORT, authority=authority
    )  # fmt: skip
    opened.callback(secure.close)
    return shelf.reference(IMAGE), f"{REGISTRY_NAME}:{TLS_PORT}/{IMAGE}"


def ctr(scratch: str, authority: Authority, opened: ExitStack) -> Containerd:
    home = f"{scratch}/ctr"
    os.makedirs(home)
    machine = Machine(home, "ctr")
    opened.callback(machine.close)
    registries(machine, home, authority, opened)
    core = Containerd(machine, f"{home}/core")
    core.start()
    opened.callback(core.stop)
    return core


def core_pull(core: Containerd, reference: str) -> float:
    flag = "" if reference.startswith(REGISTRY_NAME) else "--plain-http"
    began = time.perf_counter()
    done = core.shell("bench", f"ctr images pull {flag} {reference}:latest >/dev/null")
    took = time.perf_counter() - began
    assert done.status == 0, done.err
    return took * 1000


def report(title: str, runs: dict[str, list[float]], after: dict[str, float]) -> None:
    print(f"\npull of a present image of forty layers, {title}: ms")
    reference = statistics.median(runs["dockerd"])
    for name, times in runs.items():
        median = statistics.median(times)
        first = f"  after a restart {after[name]:6.1f}" if name in after else ""
        print(f"  {name:8} median {median:6.1f}  min {min(times):6.1f}  ratio {median / reference:5.2f}{first}")


if __name__ == "__main__":
    main()
