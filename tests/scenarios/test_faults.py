"""kill -9 of the engine and its core at random moments, under real clients: nothing is lost, halved or left over.

One sampand serves docker and ctr. In each round a client does one thing, the daemon is killed somewhere in the middle
and started again. What the client was told is true afterwards, what it was not told is done or undone and never half,
every file has an owner (`sampan-containerd fsck`), and the containers that ran before still run.

SAMPAN_FAULT_ROUNDS asks for more rounds than `make test` has time for; SAMPAN_FAULT_SEED repeats a run;
SAMPAN_FAULT_DRIVER is docker's storage driver, ctr uses each in turn.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from tests.peers.machine import Machine
from tests.peers.shelf import Shelf
from tests.peers.waiting import eventually
from tests.scenarios.test_two_apis import SampandWithBoth

pytestmark = [pytest.mark.sampan_only("a fault test of our own daemon"), pytest.mark.needs("ctr")]

ROUNDS = int(os.environ.get("SAMPAN_FAULT_ROUNDS", "16"))
DRIVER = os.environ.get("SAMPAN_FAULT_DRIVER", "")
SEED = int(os.environ.get("SAMPAN_FAULT_SEED", str(random.SystemRandom().randrange(1 << 32))))


@dataclass(frozen=True)
class Deed:
    """What a client does: lines of shell. `before` brings its beginning about; after `command` succeeded `done` does as
    well, whatever happened to the daemon, and `whole` succeeds in any case; `after` clears up."""

    name: str
    before: str
    command: str
    done: str = "true"
    whole: str = "true"
    after: str = "true"


UNPACKED = 'for i in $(ctr images ls -q "name==$IMAGE"); do ctr run --rm --snapshotter {sn} $i t$ROUND true; done'
DEEDS = (
    Deed("docker pull", "docker rmi -f $IMAGE", "docker pull -q $IMAGE", "docker image inspect $IMAGE",
         "test -z $(docker images -q $IMAGE) || docker run --rm $IMAGE true"),
    Deed("docker load", "docker rmi -f $IMAGE", "docker load -i $TAR", "docker image inspect $IMAGE",
         "test -z $(docker images -q $IMAGE) || docker run --rm $IMAGE true"),
    Deed("docker rmi", "docker pull -q $IMAGE", "docker rmi $IMAGE", "! docker image inspect $IMAGE"),
    Deed("docker run", "true", "docker run -d --name d$ROUND $KEPT sleep 1000",
         "test $(docker inspect -f '{{.State.Status}}' d$ROUND) = running",
         "! docker inspect d$ROUND || docker start d$ROUND", "docker rm -f d$ROUND"),
    Deed("docker run --rm", "true", "docker run --rm --name d$ROUND $KEPT true",
         "for _ in $(seq 99); do docker inspect d$ROUND || exit 0; sleep 0.1; done; exit 1",
         "true", "docker rm -f d$ROUND"),
    Deed("docker rm", "docker run -d --name d$ROUND $KEPT sleep 1000", "docker rm -f d$ROUND",
         "! docker inspect d$ROUND", "true", "docker rm -f d$ROUND"),
    *(Deed(f"ctr pull {sn}", "ctr images rm --sync $IMAGE", f"ctr images pull --snapshotter {sn} --plain-http $IMAGE",
           f"ctr snapshots --snapshotter {sn} ls | grep -q Committed && " + UNPACKED.format(sn=sn))
      for sn in ("overlayfs", "erofs", "native")),
    Deed("ctr import", "ctr images rm --sync $IMAGE", "ctr images import $TAR",
         "ctr images check | grep $IMAGE.*complete && " + UNPACKED.format(sn="overlayfs")),
    Deed("ctr images rm", "ctr images import $TAR", "ctr images rm --sync $IMAGE",
         "! ctr images ls -q | grep $IMAGE"),
    Deed("ctr run", "true", "ctr run -d --null-io $KEPT c$ROUND sleep 1000", "ctr tasks ls | grep 'c'$ROUND'.*RUNNING'",
         "true", "ctr tasks rm -f c$ROUND; ctr containers rm c$ROUND"),
    Deed("ctr rm", "ctr run -d --null-io $KEPT c$ROUND sleep 1000",
         "ctr tasks kill -s KILL c$ROUND; ctr tasks rm -f c$ROUND && ctr containers rm c$ROUND",
         "! ctr tasks ls | grep c$ROUND", "true", "ctr tasks rm -f c$ROUND; ctr containers rm c$ROUND"),
)  # fmt: skip


class Faulty(SampandWithBoth):
    """A sampand to be killed, and the shell in which docker and ctr talk to it."""

    def argv(self) -> list[str]:
        driver = ["--storage-driver", DRIVER] if DRIVER else []
        return [*super().argv(), "--bridge", "sampan2", "--bip", "172.30.97.1/24", *driver]

    def end(self) -> None:
        self.stop()
        for pid in self.keepers():
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                continue  # one that had nothing to keep ends by itself
        eventually(lambda: not set(self.keepers()) & set(self.machine.processes()), what="its keepers end")

    def begin(self, script: str, **variables: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "DOCKER_HOST": self.uri, "HOME": self._scratch, "CONTAINERD_NAMESPACE": "theirs",
                       "CONTAINERD_ADDRESS": self.address, **variables}  # fmt: skip
        return subprocess.Popen(
            self.machine.entering(["sh", "-c", script]),
            env=environment,
            cwd=self._scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def shell(self, script: str, **variables: str) -> tuple[int, str]:
        process = self.begin(script, **variables)
        said, _ = process.communicate(timeout=60)
        return process.returncode, said

    def fsck(self, *options: str) -> str:
        """What `sampan-containerd fsck` finds wrong."""
        argv = [sys.executable, "-m", "sampan.containerd", "fsck", "--quiet", "--root", self.root, *options]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    def things(self) -> set[str]:
        """What lies in the directories of images and containers, and no number that would differ another time."""
        kinds = ("blobs/sha256", "ingest")
        found = {name for kind in kinds for name in os.listdir(f"{self.root}/content/{kind}")}
        for snapshotter in os.scandir(f"{self.root}/snapshots"):
            found |= {f"{snapshotter.name} {name}" for name in os.listdir(snapshotter.path) if name != "trash"}
        if os.path.isdir(f"{self.root}/containers"):
            found |= set(os.listdir(f"{self.root}/containers"))
        return found


@pytest.fixture
def victim(machine: Machine, scratch: str, shelf: Shelf) -> Iterator[Faulty]:
    top = f"{scratch}/faulty"
    os.makedirs(top, exist_ok=True)
    engine = Faulty(machine, top, {})
    engine.start()
    yield engine
    if not engine.up:
        engine.start()
    engine.shell("docker rm -f $(docker ps -aq); for i in $(ctr tasks ls -q); do ctr tasks rm -f $i; done")
    engine.end()
    shutil.rmtree(top, ignore_errors=True)


def test_no_moment_of_death_loses_or_halves_anything(victim: Faulty, shelf: Shelf) -> None:
    engine = victim
    print(f"SAMPAN_FAULT_SEED={SEED} SAMPAN_FAULT_ROUNDS={ROUNDS}")
    chance, fresh = random.Random(SEED), engine.things()
    names = {"KEPT": f"{shelf.reference('busybox')}:latest", "IMAGE": f"{shelf.reference('layered')}:latest",
             "TAR": f"{os.path.dirname(engine.root)}/image.tar"}  # fmt: skip
    prepared = """docker pull -q $KEPT && ctr images pull --plain-http $KEPT && ctr images pull --snapshotter erofs \
        --plain-http $IMAGE && ctr images export $TAR $IMAGE && ctr images rm --sync $IMAGE &&
        docker run -d --name steady $KEPT sleep 10000 && ctr run -d --null-io $KEPT steady sleep 10000"""
    status, said = engine.shell(prepared, **names)
    assert status == 0, said
    steady = running(engine)
    assert len(steady) == 2
    typical: dict[str, float] = {}
    for number in range(ROUNDS):
        deed = DEEDS[number % len(DEEDS)] if number < len(DEEDS) else chance.choice(DEEDS)
        variables = {**names, "ROUND": str(number)}
        engine.shell(deed.before, **variables)
        client = engine.begin(deed.command, **variables)
        began = time.monotonic()
        try:
            client.wait(timeout=chance.uniform(0, 1.3 * typical.get(deed.name, 0.5)))
            typical[deed.name] = time.monotonic() - began
        except subprocess.TimeoutExpired:
            pass
        ended = client.poll()
        engine.kill()
        engine.start()
        said = ending(client)
        told = f"round {number} of seed {SEED}: {deed.name}, {'killed' if ended is None else ended}: {said}"
        assert running(engine, steady) == steady, told
        for check in ("docker image inspect $KEPT", "ctr images ls -q | grep -q $KEPT", deed.whole,
                      *([deed.done] if client.returncode == 0 else [])):  # fmt: skip
            status, said = engine.shell(check, **variables)
            assert status == 0, f"{told}\n$ {check}\n{said}\n{engine.tail()}"
        engine.shell(deed.after, **variables)
        eventually(lambda: engine.fsck() == "", what=f"fsck is clean; {told}\n{engine.fsck()}")
    everything_goes(engine, names, fresh)


def ending(client: subprocess.Popen[str]) -> str:
    """What the client said in all. Some wait for the daemon to come back and go on, for ever if need be."""
    try:
        said, _ = client.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        os.killpg(client.pid, signal.SIGKILL)
        said, _ = client.communicate()
    return said


def everything_goes(engine: Faulty, names: dict[str, str], fresh: set[str]) -> None:
    """When all is removed, what is left is what a new root has, and no process of any container."""
    status, said = engine.shell(
        "docker rm -f $(docker ps -aq); docker rmi -f $(docker images -q);"
        "for i in $(ctr tasks ls -q); do ctr tasks rm -f $i; done; ctr containers rm $(ctr containers ls -q);"
        "for l in $(ctr leases ls -q); do ctr leases rm --sync $l; done;"
        "for i in $(ctr images ls -q) none; do ctr images rm --sync $i; done;"
        'test -z "$(docker ps -aq)$(ctr containers ls -q)$(ctr images ls -q)$(ctr content ls -q)"',
        **names,
    )
    assert status == 0, said
    assert [line for line in engine.machine.processes().values() if "sleep" in line] == []
    # A pull that was cut off may be gone on with for a day: its bytes are no garbage, until somebody says so.
    engine.stop()
    for ingest in os.scandir(f"{engine.root}/content/ingest"):
        os.utime(ingest.path, ns=(0, time.time_ns() - 25 * 3600 * 10**9))
    engine.start()
    engine.shell("docker image prune -af; ctr leases create --id all; ctr leases rm --sync all", **names)
    eventually(lambda: engine.things() == fresh, what=f"{sorted(engine.things() - fresh)} go")
    assert engine.fsck() == ""


def running(engine: Faulty, wanted: set[str] | None = None) -> set[str]:
    """The containers called steady, each as "API pid"."""

    def look() -> set[str]:
        said = engine.shell(
            "echo docker $(docker inspect -f '{{.State.Pid}}' steady);"
            "echo ctr $(ctr tasks ls | awk '/steady/ {print $2}')"
        )
        return set(said[1].splitlines())

    if wanted is None:
        return look()
    return eventually(lambda: (found := look()) == wanted and found, what=f"{wanted} run on; {look()}") or set()
