"""What is on the disk when the power goes: a root on a file system of its own, whose device is copied at that moment.

The device is a file (loop), so what the file system has not written yet is not in the copy; mounting the copy replays
its journal as a start after a power cut would. A file that nobody synced shows each time that the copy knows the
difference."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.contract.registry_bench import FakeRegistry, Puller
from tests.peers import images as made

from sampan.containerd.fsck import fsck

pytestmark = pytest.mark.root

# The snapshot of sampan/host, which is always here where there is overlay.
HOST = made.digest_of(b'{"root":"/"}\n')
FILES = {f"f{i}": os.urandom(3000) for i in range(50)}
IMAGE = made.image(
    [made.layer(made.tar([made.Entry(f"l{n}/{name}", content=data) for name, data in FILES.items()])) for n in range(3)]
)


@contextmanager
def mounted(device: Path, at: Path) -> Iterator[Path]:
    at.mkdir()
    # The journal's own clock shall not sync what the core did not.
    subprocess.run(["mount", "-o", "loop,commit=900", str(device), str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", str(at)], check=True)
        at.rmdir()


@contextmanager
def after_power_loss(disk: Path, tmp_path: Path) -> Iterator[Path]:
    """What the disk has at this moment, mounted."""
    (disk / "unsynced").write_bytes(b"x" * 5000)
    copy = tmp_path / "copy.img"
    subprocess.run(["cp", "--sparse=always", str(tmp_path / "disk.img"), str(copy)], check=True)
    (disk / "unsynced").unlink()
    with mounted(copy, tmp_path / "after") as after:
        lost = after / "unsynced"
        assert not lost.exists() or lost.stat().st_size == 0, "the copy shows what was never synced"
        yield after
    copy.unlink()


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    with open(tmp_path / "disk.img", "wb") as file:
        file.truncate(96 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(tmp_path / "disk.img")], check=True)
    with mounted(tmp_path / "disk.img", tmp_path / "disk") as disk:
        yield disk


@pytest.mark.parametrize("kind", ["overlayfs", "native", "erofs"])
def test_what_was_named_is_whole_after_the_power_went(disk, tmp_path, kind):
    async def body() -> None:
        registry = FakeRegistry()
        async with registry.serving():
            registry.add("x", IMAGE)
            reference = f"{registry.host}/x"
            async with Puller(disk).open(kind) as puller:
                await puller.pull(reference)
                with after_power_loss(disk, tmp_path) as after:
                    assert await layers(after, kind) == 3
                commit_a_container(puller)
                with after_power_loss(disk, tmp_path) as after:
                    assert await layers(after, kind) == 4
                # What a deletion leaves is whole or gone, and never a name alone.
                puller.core.snapshots.remove("committed")
                puller.core.images.delete(f"{reference}:latest")
                puller.core.images.collect()
                with after_power_loss(disk, tmp_path) as after:
                    assert await layers(after, kind) == 0

    asyncio.run(asyncio.wait_for(body(), 60))


def commit_a_container(puller: Puller) -> None:
    snapshots = puller.core.snapshots
    snapshots.prepare("container", puller.tip())
    Path(snapshots.upper("container"), "made").write_bytes(b"by the container")
    snapshots.commit("committed", "container")


async def layers(after: Path, kind: str) -> int:
    """How many layers a core finds there, every file of which is what it was; nothing is wrong with the rest."""
    lines, faults = fsck(f"{after}/root", verify=True)
    assert [str(line) for line in lines if line.fault and "nobody owns it" not in line.fault] == [], faults
    async with Puller(after).open() as puller:
        committed = [info.name for info in puller.core.snapshots.walk() if info.kind == "committed"]
        names = [name for name in committed if name != HOST]
        assert puller.core.snapshots.name == kind or not names
        if not names:
            return 0
        stack = puller.core.snapshots.layers(puller.tip())
        for number in range(3):
            for name, data in FILES.items():
                [path] = [f"{one}/l{number}/{name}" for one in stack if os.path.exists(f"{one}/l{number}/{name}")]
                assert Path(path).read_bytes() == data
        if "committed" in names:
            assert Path(stack[0], "made").read_bytes() == b"by the container"
        return len(names)
