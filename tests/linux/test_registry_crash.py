"""kill -9 in the middle of a pull: the next process finds no half state and goes on."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.contract.registry_bench import FakeRegistry, Puller
from tests.peers import images as made
from tests.peers.waiting import eventually

pytestmark = pytest.mark.root

ROUNDS = 12

PROGRAM = """
import asyncio, sys
from sampan.containerd.core import open_core
from sampan.containerd.services import Credentials

async def main(root, reference, snapshotter):
    core = await open_core(root, tasks=None, snapshotter=snapshotter)
    print("open", flush=True)
    await core.transfer.pull(reference, platform=None, credentials=Credentials(),
                             progress=lambda step: print(step.status, flush=True))
    core.images.delete(reference + ":latest")
    core.images.collect()
    print("collected", flush=True)
    await core.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("snapshotter", ["overlayfs", "erofs"])
def test_no_moment_of_death_leaves_half_a_state(tmp_path, snapshotter):
    """The process dies at a random line of its progress; then every row has its file and every file its row."""
    chance = random.Random(7)
    layers = [made.layer(made.tar([made.Entry(f"f{i}-{j}", content=os.urandom(2000)) for j in range(40)]))
              for i in range(4)]  # fmt: skip
    one = made.image(layers)
    root = tmp_path / "root"

    async def body():
        registry = FakeRegistry()
        async with registry.serving():
            registry.add("x", one)
            for _ in range(ROUNDS):
                await asyncio.to_thread(pull_and_die, root, f"{registry.host}/x", snapshotter, chance.randrange(26))
            puller = Puller(tmp_path)
            async with puller.open(snapshotter):
                assert_whole(root, puller)
                await puller.pull(f"{registry.host}/x")
                assert_whole(root, puller)
                found = {p.name for p in puller.top().iterdir()}
                assert found == {f"f3-{j}" for j in range(40)}

    asyncio.run(asyncio.wait_for(body(), 120))


def pull_and_die(root: Path, reference: str, snapshotter: str, lines: int) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", PROGRAM, str(root), reference, snapshotter]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, env=environment)  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    silence = threading.Timer(20, process.kill)
    silence.start()
    try:
        for _ in range(lines):
            if not process.stdout.readline():
                break
        process.send_signal(signal.SIGKILL)
        process.stdout.read()
        complaint = process.stderr.read()
        assert process.wait() in (-signal.SIGKILL, 0), complaint.decode()
    finally:
        silence.cancel()
        process.stdout.close()
        process.stderr.close()


def assert_whole(root: Path, puller: Puller) -> None:
    database = sqlite3.connect(f"{root}/core.db")
    try:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        blobs = {row[0][7:] for row in database.execute("select digest from content")}
        numbers = {str(row[0]) for row in database.execute("select id from snapshots where storage='directory'")}
        ingests = {str(row[0]) for row in database.execute("select id from ingests")}
        active = database.execute("select count(*) from snapshots where kind='active'").fetchone()
        leases = database.execute("select count(*) from leases").fetchone()
    finally:
        database.close()
    assert set(os.listdir(root / "content/blobs/sha256")) == blobs
    assert set(os.listdir(root / "content/ingest")) <= ingests
    snapshots = root / "snapshots" / puller.core.snapshots.name
    eventually(lambda: os.listdir(snapshots / "trash") == [])
    assert set(os.listdir(snapshots)) - {"trash"} == numbers
    assert (active, leases) == ((0,), (0,))
    for info in puller.core.content.walk():
        assert len(puller.core.content.read(info.digest)) == info.size
