"""What a new container's writable layer holds before it starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

import pytest
from tests.fakes import FakeSnapshots
from tests.unit.engine.containers.rooms import Bench, run

from sampan.containerd.services import Mount


class CopyingSnapshots(FakeSnapshots):
    """As the native snapshotter: the directory is a copy of the layers, mounted by itself."""

    name = "native"

    def prepare(self, key: str, parent: str, labels: Mapping[str, str] | None = None) -> Sequence[Mount]:
        super().prepare(key, parent, labels)
        shutil.copytree(self.upper(parent), self.upper(key), dirs_exist_ok=True)
        return self.mounts(key)

    def mounts(self, key: str) -> Sequence[Mount]:
        return [Mount("bind", self.upper(key), ["rbind", "rw"])]


@pytest.fixture(params=[FakeSnapshots, CopyingSnapshots])
def use(request):
    """Has a bench's containers on layers of an overlay, or on a copy; the image has `files` then."""

    def swap(bench: Bench, files: Mapping[str, str]) -> str:
        snapshots = request.param(f"{bench.root}/other")
        bench.core.snapshots = bench.room.core.snapshots = snapshots
        return snapshots.layer("chain", files)

    return swap


def test_a_new_container_has_the_mount_table_that_mount_and_df_read(use, tmp_path):
    """Where the image has none, and with the image's own mode of /etc."""

    async def work(bench: Bench) -> None:
        layer = use(bench, {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"})
        os.chmod(f"{layer}/etc", 0o751)
        upper = bench.core.snapshots.upper(await bench.make("web"))
        assert os.readlink(f"{upper}/etc/mtab") == "/proc/mounts"
        assert os.stat(f"{upper}/etc").st_mode & 0o7777 == 0o751
        assert os.path.getsize(f"{upper}/.dockerenv") == 0

    run(work, tmp_path)


def test_the_mount_table_of_the_image_is_left_alone(use, tmp_path):
    async def work(bench: Bench) -> None:
        use(bench, {"etc/mtab": "the image's"})
        upper = bench.core.snapshots.upper(await bench.make("web"))
        assert not os.path.islink(f"{upper}/etc/mtab")

    run(work, tmp_path)


def test_an_image_without_etc_has_the_mount_table_as_well(use, tmp_path):
    async def work(bench: Bench) -> None:
        use(bench, {"bin/sh": "#"})
        upper = bench.core.snapshots.upper(await bench.make("web"))
        assert os.readlink(f"{upper}/etc/mtab") == "/proc/mounts"

    run(work, tmp_path)
