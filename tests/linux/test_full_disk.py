"""A disk that fills up in the middle: the error says so, nothing is left behind, and with room again all goes well."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.contract.registry_bench import FakeRegistry, Puller
from tests.peers import images as made

from sampan import errors
from sampan.containerd.diff import layer_blob
from sampan.containerd.fsck import fsck

pytestmark = pytest.mark.root

# What does not compress: six layers of half a megabyte, that do not fit and are unpacked at the same time.
FILES = [[made.Entry(f"f{n}-{i}", content=os.urandom(100_000)) for i in range(5)] for n in range(6)]
IMAGE = made.image([made.layer(made.tar(entries)) for entries in FILES])


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    with open(tmp_path / "disk.img", "wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(tmp_path / "disk.img")], check=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-o", "loop", str(tmp_path / "disk.img"), str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path, leave: int) -> None:
    """All but `leave` bytes."""
    os.sync()  # what is still to be written has its place then
    with open(disk / "ballast", "wb", buffering=0) as ballast:
        found = os.statvfs(disk)
        os.posix_fallocate(ballast.fileno(), 0, found.f_bavail * found.f_frsize - max(leave, 1 << 18))
        ballast.seek(0, os.SEEK_END)
        with suppress(OSError):
            while leave == 0:
                ballast.write(bytes(4096))


def empty(disk: Path) -> None:
    os.unlink(disk / "ballast")


@pytest.mark.parametrize("kind", ["overlayfs", "native", "erofs"])
def test_a_pull_that_does_not_fit_says_so_and_leaves_nothing(disk, kind):
    async def body() -> None:
        registry = FakeRegistry()
        async with registry.serving():
            registry.add("x", IMAGE)
            async with Puller(disk).open(kind) as puller:
                core = puller.core
                snapshots = [info.name for info in core.snapshots.walk()]
                fill(disk, leave=2 << 20)
                with pytest.raises(errors.Error, match="no space left on device"):
                    await puller.pull(f"{registry.host}/x")
                assert [info.name for info in core.snapshots.walk()] == snapshots
                assert [image.name for image in core.images.list() if "/x:" in image.name] == []
                # What came already is kept for the next try for a day, or until there is no room for it.
                core.images.collect()
                lines, faults = fsck(f"{disk}/root")
                assert faults == 0, lines
                empty(disk)
                await puller.pull(f"{registry.host}/x")
                assert (puller.top() / "f5-4").read_bytes() == FILES[5][4].content
            assert fsck(f"{disk}/root", verify=True)[1] == 0

    asyncio.run(asyncio.wait_for(body(), 60))


@pytest.mark.parametrize("kind", ["overlayfs", "native", "erofs"])
def test_a_layer_that_does_not_fit_the_content_store_leaves_nothing(disk, kind):
    """What committing a container writes."""

    async def body() -> None:
        async with Puller(disk).open(kind) as puller:
            snapshots = puller.core.snapshots
            snapshots.prepare("container", "")
            Path(snapshots.upper("container"), "large").write_bytes(os.urandom(3 << 20))
            fill(disk, leave=1 << 20)
            type_ = "application/vnd.oci.image.layer.v1.tar+gzip"
            with pytest.raises(OSError, match="No space left on device"):
                layer_blob.write(puller.core.stores.content, [], snapshots.mounts("container"), type_, "ref", {})
            assert list(puller.core.stores.content.ingests()) == []
            empty(disk)
            layer_blob.write(puller.core.stores.content, [], snapshots.mounts("container"), type_, "ref", {})
            assert fsck(f"{disk}/root", verify=True)[1] == 0

    asyncio.run(asyncio.wait_for(body(), 60))


@pytest.mark.parametrize("kind", ["overlayfs", "native", "erofs"])
def test_a_snapshot_for_which_there_is_no_room_is_not_there(disk, kind):
    """To the last byte: the database itself may have none."""

    async def body() -> None:
        async with Puller(disk).open(kind) as puller:
            snapshots = puller.core.snapshots
            snapshots.prepare("base", "")
            Path(snapshots.upper("base"), "f").write_bytes(b"x" * 100_000)
            snapshots.commit("committed", "base")
            fill(disk, leave=0)
            made = []
            with pytest.raises(OSError, match="No space left on device"):
                for number in range(2000):
                    snapshots.prepare(f"container {number}", "committed", {"label": "x" * 1000})
                    made.append(f"container {number}")
            empty(disk)
            kept = [info.name for info in snapshots.walk() if info.kind == "active"]
            assert kept == made
            for name in kept:
                snapshots.remove(name)
            snapshots.prepare("again", "committed")
            assert fsck(f"{disk}/root")[1] == 0

    asyncio.run(asyncio.wait_for(body(), 60))
