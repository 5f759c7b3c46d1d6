"""What a snapshot changed, as a layer: the same tree is the same bytes, whatever holds it and whenever it is asked."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contract import layers
from tests.contract.test_snapshotter import mounted

from sampan.containerd.content import ContentStore
from sampan.containerd.diff import layer_blob
from sampan.containerd.diff.unpack import unpack
from sampan.containerd.metadata import Metadata
from sampan.containerd.snapshots.erofs import ErofsSnapshotter
from sampan.containerd.snapshots.kinds import SnapshotterKinds
from sampan.oci.image import Descriptor

pytestmark = pytest.mark.root

KINDS = ("overlayfs", "native", "erofs")
TAR, GZIP, ZSTD = (f"application/vnd.oci.image.layer.v1.tar{kind}" for kind in ("", "+gzip", "+zstd"))
BASE = layers.layer(
    layers.directory("etc"), layers.file("etc/kept", b"kept"), layers.file("etc/gone", b"gone"),
    layers.directory("old"), layers.file("old/inside", b"x"), layers.file("changed", b"before"),
)  # fmt: skip
LONG = "n" * 200


class Place:
    def __init__(self, path: Path) -> None:
        self.metadata = Metadata(f"{path}/core.db")
        self.kinds = SnapshotterKinds(self.metadata, f"{path}/snapshots")
        self.content = ContentStore(self.metadata, f"{path}/content", "ns")

    def changed(self, kind: str, key: str = "container") -> None:
        """A container over BASE that changed things, in an order of its own."""
        snapshots = self.kinds.open(kind, "ns")
        if key == "container":
            snapshots.prepare("x", "")
            directory = snapshots.upper("x")
            if isinstance(snapshots, ErofsSnapshotter):
                unpacked = snapshots.unpack(io.BytesIO(BASE), directory)
                snapshots.place(directory, [], unpacked)
            else:
                unpack(io.BytesIO(BASE), directory, os.path.dirname(directory), stacks=snapshots.stacks)
            snapshots.commit("base", "x")
        with mounted(snapshots.prepare(key, "base")) as root:
            names = [f"new/{i}" for i in range(300)]
            (root / "new").mkdir()
            for name in names if key == "container" else reversed(names):
                (root / name).write_text(name)
            (root / "etc/gone").unlink()
            (root / "changed").write_text("after")
            shutil.rmtree(root / "old")
            (root / "old").mkdir()
            (root / "old/fresh").write_text("x")
            (root / "new" / LONG).mkdir()
            (root / "new" / LONG / LONG).write_text("long")
            os.link(root / "changed", root / "another name")
            os.symlink("../" * 60 + "target", root / "symlink")
            os.mkfifo(root / "fifo")
            os.mknod(root / "device", 0o020600, os.makedev(300, 70000))
            os.setxattr(root / "changed", "user.note", b"\x00\xff value\n")
            os.chown(root / "fifo", 3_000_000, 4_000_000)
            for directory, names, files in os.walk(root, topdown=False):
                for name in {*names, *files} - {"kept"}:
                    os.utime(f"{directory}/{name}", ns=(0, 1_500_000_000_250_000_000), follow_symlinks=False)

    def diff(self, kind: str, key: str = "container", media_type: str = TAR) -> Descriptor:
        snapshots = self.kinds.open(kind, "ns")
        below = snapshots.view("below", "base")
        try:
            return layer_blob.write(self.content, below, snapshots.mounts(key), media_type, "ref", {})
        finally:
            snapshots.remove("below")


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.kinds.close()
    place.metadata.close()


@pytest.mark.parametrize("media_type", [TAR, GZIP, ZSTD])
def test_the_same_tree_is_the_same_layer(place, media_type):
    """In each snapshotter, asked twice, made in another order."""
    found = set()
    for kind in KINDS:
        place.changed(kind)
        place.changed(kind, "other order")
        for key in ("container", "container", "other order"):
            found.add(place.diff(kind, key, media_type).digest)
    assert len(found) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_has_what_changed_and_nothing_else(place, kind):
    place.changed(kind)
    with place.content.open(place.diff(kind).digest) as blob, tarfile.open(fileobj=blob) as tar:
        members = {member.name: member for member in tar.getmembers()}
    names = list(members)
    assert len(names) > 300 and [name for name in names if ".wh." not in name] == sorted(
        (name for name in names if ".wh." not in name), key=lambda name: name.encode().split(b"/")
    )
    assert {name for name in names if not name.startswith("new/")} == {
        "another name", "changed", "device", "etc", "etc/.wh.gone", "fifo", "new", "old", "old/.wh.inside", "old/fresh",
        "symlink",
    }  # fmt: skip
    assert f"new/{LONG}/{LONG}" in names
    assert members["changed"].linkname == "another name" and members["changed"].islnk()
    assert members["another name"].pax_headers["SCHILY.xattr.user.note"].encode(errors="surrogateescape") == (
        b"\x00\xff value\n"
    )
    assert (members["fifo"].uid, members["fifo"].gid) == (3_000_000, 4_000_000)
    assert (members["device"].devmajor, members["device"].devminor) == (300, 70000)
    # Whole seconds, as docker and containerd write them: a fraction would cost every member a header of 1 KiB.
    assert {member.mtime for name, member in members.items() if ".wh." not in name} == {1_500_000_000}


@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_unpacked_again_is_the_tree(place, kind, tmp_path):
    place.changed(kind)
    snapshots = place.kinds.open("overlayfs", "ns")
    if kind != "overlayfs":
        snapshots.prepare("x", "")
        unpack(io.BytesIO(BASE), snapshots.upper("x"), os.path.dirname(snapshots.upper("x")), stacks=True)
        snapshots.commit("base", "x")
    layer = place.diff(kind)
    snapshots.prepare("again", "base")
    directory = snapshots.upper("again")
    with place.content.open(layer.digest) as blob:
        unpack(blob, directory, os.path.dirname(directory), stacks=True)
    assert place.diff("overlayfs", "again").digest == layer.digest
