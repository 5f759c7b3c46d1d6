"""Which snapshotter a root is used with, and that all of them are served beside it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.contract import layers
from tests.contract.registry_bench import FakeRegistry, Puller
from tests.peers import images as made

from sampan import errors
from sampan.containerd.metadata import Metadata
from sampan.containerd.snapshots import erofs
from sampan.containerd.snapshots.kinds import SnapshotterKinds
from sampan.linux import abi, mount

pytestmark = pytest.mark.root
DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture
def metadata(tmp_path):
    metadata = Metadata(f"{tmp_path}/core.db")
    yield metadata
    metadata.close()


@pytest.fixture
def kinds(tmp_path, metadata):
    kinds = SnapshotterKinds(metadata, f"{tmp_path}/snapshots")
    yield kinds
    kinds.close()


def test_a_fresh_root_gets_erofs_where_the_kernel_mounts_one(kinds, tmp_path):
    assert kinds.choose("", "ns") == ("overlayfs" if erofs.probe(str(tmp_path)) else "erofs")
    assert set(kinds.names) == {"overlayfs", "native", "erofs"} - set(kinds.missing)


@pytest.mark.parametrize("used", ["overlayfs", "native", "erofs"])
def test_a_root_with_layers_keeps_the_snapshotter_that_they_are_in(kinds, used):
    kinds.open(used, "ns").prepare("layer", "")
    kinds.open(used, "ns").commit("layer-1", "layer")
    assert kinds.choose("", "ns") == used


def test_a_choice_is_remembered_when_layers_of_two_are_there(kinds, metadata, tmp_path):
    for name in ("overlayfs", "native"):
        kinds.open(name, "ns").prepare("layer", "")
    assert kinds.choose("native", "ns") == "native"
    again = SnapshotterKinds(metadata, f"{tmp_path}/snapshots")
    assert again.choose("", "ns") == "native"
    again.close()


def test_the_layers_of_other_namespaces_choose_nothing(kinds):
    kinds.open("native", "a client's").prepare("layer", "")
    assert kinds.choose("", "ns") == kinds.names[0]


def test_an_unknown_snapshotter_is_refused(kinds):
    with pytest.raises(errors.InvalidArgument, match='unknown snapshotter "aufs"'):
        kinds.choose("aufs", "ns")


def test_what_does_not_work_here_is_refused_by_name_with_the_reason(metadata, tmp_path):
    """A root that is itself on overlay, as inside a container, has no other overlay's upper directory."""
    place = tmp_path / "merged"
    for name in ("merged", "lower", "upper", "work"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    mount.mount("overlay", str(place), "overlay", 0, options)
    try:
        kinds = SnapshotterKinds(metadata, str(place / "snapshots"))
        assert set(kinds.missing) == {"overlayfs", "erofs"}
        for name in kinds.missing:
            with pytest.raises(errors.Unavailable, match=f"snapshotter {name}: "):
                kinds.choose(name, "ns")
        assert kinds.choose("", "ns") == "native"
        kinds.close()
    finally:
        mount.umount2(str(place), abi.MNT_DETACH)


def test_an_extraction_that_nobody_finished_goes_at_start_and_a_clients_stays(kinds):
    snapshots = kinds.open("overlayfs", "ns")
    snapshots.prepare(f"extract-0123abcd {DIGEST}", "")
    snapshots.prepare(f"extract-847564856-Yx_z {DIGEST}", "")  # as containerd's clients name theirs
    kinds.recover()
    assert [info.name for info in snapshots.walk()] == [f"extract-847564856-Yx_z {DIGEST}"]


def test_an_image_is_pulled_with_one_and_again_with_another(tmp_path):
    """The blob is there already: only the layers are made anew, and each kind has its own."""
    image = made.image([made.layer(made.tar([made.Entry("f", content=b"x")]))])

    async def body():
        registry = FakeRegistry()
        async with registry.serving():
            registry.add("x", image)
            puller = Puller(tmp_path)
            for snapshotter in ("overlayfs", "erofs", "native"):
                async with puller.open(snapshotter):
                    await puller.pull(f"{registry.host}/x")
                    assert (puller.top() / "f").read_bytes() == b"x"
            async with puller.open():
                assert puller.core.snapshots.name == "native"
            assert len(registry.asked("/blobs/")) == 2  # the config and the layer, once each

    asyncio.run(asyncio.wait_for(body(), 60))


def test_a_layer_that_erofs_has_no_room_for_is_unpacked_and_the_log_says_why(metadata, tmp_path, caplog):
    """More extended attributes on one file than an erofs inode counts; tmpfs takes them."""
    place = tmp_path / "tmpfs"
    place.mkdir()
    mount.mount("tmpfs", str(place), "tmpfs")
    try:
        many = {f"trusted__x{i}": bytes([65 + i]) * 60_000 for i in range(5)}
        tar = layers.layer(layers.xattrs(layers.file("f", b"content"), **many), layers.file("g", b"2"))
        (place / "tar").write_bytes(tar)
        kinds = SnapshotterKinds(metadata, str(place / "snapshots"))
        snapshots = kinds.open("erofs", "ns")
        snapshots.prepare("x", "")
        with open(place / "tar", "rb") as source:
            unpacked = snapshots.unpack(source, snapshots.upper("x"))
        snapshots.place(snapshots.upper("x"), [], unpacked)
        snapshots.commit("layer", "x")
        [top] = snapshots.layers("layer")
        assert Path(top, "f").read_bytes() == b"content"
        assert os.getxattr(f"{top}/f", "trusted.x4") == b"E" * 60_000
        assert unpacked.size == len(tar)
        assert "too many extended attributes" in caplog.text
        assert os.listdir(Path(top).parent) == ["fs"]
        kinds.close()
    finally:
        mount.umount2(str(place), abi.MNT_DETACH)
