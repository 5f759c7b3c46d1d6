"""`services.Commits`: images made here, on every snapshotter."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.fakes import FakeTasks

from sampan import errors
from sampan.containerd.core import ContainerCore, open_core
from sampan.oci import digest, image

pytestmark = pytest.mark.root


def tar(**files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 700):
        yield data[at : at + 700]


def config(*below: str):  # type: ignore[no-untyped-def]
    def describe(diff_id: str) -> bytes:
        rootfs = {"type": "layers", "diff_ids": [*below, diff_id]}
        return json.dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).encode()

    return describe


def layers_of(core: ContainerCore, manifest_digest: str) -> tuple[image.Manifest, list[str]]:
    manifest = image.parse(core.content.read(manifest_digest))
    assert isinstance(manifest, image.Manifest)
    return manifest, image.diff_ids(image.config_document(core.content.read(manifest.config.digest)))


def members(core: ContainerCore, layer: str) -> list[str]:
    with core.content.open(layer) as file, tarfile.open(fileobj=file, mode="r:*") as archive:
        return sorted(member.name for member in archive.getmembers())


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native", "erofs"])
def test_what_a_snapshot_changed_becomes_one_more_layer(tmp_path: Path, snapshotter: str) -> None:
    async def work() -> None:
        core = await open_core(str(tmp_path), tasks=FakeTasks(), snapshotter=snapshotter)
        try:
            base = await core.commits.import_layer(
                pieces(tar(kept="1", gone="2")), "docker.io/library/base:1", config()
            )
            manifest, diff_ids = layers_of(core, base.target.digest)
            core.snapshots.prepare("box", digest.chain_ids(diff_ids)[-1])
            upper = core.snapshots.upper("box")
            Path(upper, "added").write_text("3")
            if snapshotter == "native":
                os.unlink(f"{upper}/gone")
            else:
                os.mknod(f"{upper}/gone", 0o20000, 0)
            made = await core.commits.commit("box", base.target, "docker.io/library/made:1", config(*diff_ids))
            again, chain = layers_of(core, made.target.digest)
            assert again.layers[:-1] == manifest.layers and chain[:-1] == list(diff_ids)
            assert members(core, again.layers[-1].digest) == [".wh.gone", "added"]
            assert core.images.get("docker.io/library/made:1").target == made.target
            assert core.snapshots.stat(digest.chain_ids(chain)[-1]).kind == "committed"
            assert [info.name for info in core.snapshots.walk() if info.kind != "committed"] == ["box"]
            # Nothing changed since: the same tree is the same layer.
            same = await core.commits.commit("box", base.target, "", config(*diff_ids))
            assert layers_of(core, same.target.digest)[0].layers[-1] == again.layers[-1]
        finally:
            await core.close()

    asyncio.run(work())


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_an_imported_tar_is_the_whole_image(tmp_path: Path, compress: type[bytes]) -> None:
    async def work() -> None:
        core = await open_core(str(tmp_path), tasks=FakeTasks())
        try:
            plain = tar(one="1")
            made = await core.commits.import_layer(pieces(compress(plain)), "", config())
            manifest, diff_ids = layers_of(core, made.target.digest)
            assert diff_ids == [digest.of(plain)]
            assert manifest.layers[0].digest == digest.of(compress(plain))
            assert made.name.endswith(f"imported@{made.target.digest}")
        finally:
            await core.close()

    asyncio.run(work())


def test_a_failure_leaves_no_name_and_nothing_that_is_kept(tmp_path: Path) -> None:
    async def work() -> None:
        core = await open_core(str(tmp_path), tasks=FakeTasks())
        try:
            before = {info.digest for info in core.content.walk()}
            names = [one.name for one in core.images.list()]
            with pytest.raises(errors.Error):
                await core.commits.import_layer(pieces(b"no archive at all" * 100), "docker.io/library/x:1", config())
            with pytest.raises(errors.NotFound):
                await core.commits.import_layer(pieces(tar(one="1")), "docker.io/library/x:1", config())
                await core.commits.commit("nosuch", core.images.get("docker.io/library/x:1").target, "", config())
            core.images.delete("docker.io/library/x:1")
            core.images.collect()
            assert {info.digest for info in core.content.walk()} == before
            assert [one.name for one in core.images.list()] == names
            assert [info.name for info in core.snapshots.walk() if info.kind != "committed"] == []
        finally:
            await core.close()

    asyncio.run(work())
