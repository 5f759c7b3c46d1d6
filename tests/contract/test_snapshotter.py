"""`services.Snapshotter`: one suite for every snapshotter, on real mounts."""

from __future__ import annotations

import io
import os
import stat
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.contract import layers
from tests.peers.waiting import eventually

from sampan import errors
from sampan.containerd.metadata import Metadata
from sampan.containerd.services import Mount
from sampan.containerd.snapshots.erofs import ErofsSnapshotter
from sampan.containerd.snapshots.native import NativeSnapshotter
from sampan.containerd.snapshots.overlayfs import VOLATILE_LABEL, OverlaySnapshotter, briefly_attached, overlay_view
from sampan.linux import abi, mount

pytestmark = pytest.mark.root

KINDS = {"overlayfs": OverlaySnapshotter, "native": NativeSnapshotter, "erofs": ErofsSnapshotter}


class Place:
    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind
        self.metadata = Metadata(f"{path}/core.db")
        self.open()

    def open(self) -> None:
        self.snapshots = KINDS[self.kind](self.metadata, f"{self.path}/snapshots", "test")

    def directories(self) -> list[str]:
        return sorted(name for name in os.listdir(self.path / "snapshots") if name != "trash")

    def trash(self) -> list[str]:
        return os.listdir(self.path / "snapshots" / "trash")


@pytest.fixture(params=KINDS)
def place(request, tmp_path):
    place = Place(tmp_path, request.param)
    yield place
    place.snapshots.close()
    place.metadata.close()


@pytest.fixture
def snapshots(place):
    return place.snapshots


@pytest.fixture
def overlay(tmp_path):
    place = Place(tmp_path, "overlayfs")
    yield place
    place.snapshots.close()
    place.metadata.close()


@pytest.fixture
def erofs(tmp_path):
    place = Place(tmp_path, "erofs")
    yield place
    place.snapshots.close()
    place.metadata.close()


@contextmanager
def mounted(mounts: Sequence[Mount]) -> Iterator[Path]:
    """The snapshot's tree, through a mount that is attached nowhere."""
    [one] = mounts
    attributes = abi.MOUNT_ATTR_RDONLY if "ro" in one.options else 0
    if one.type == "bind":
        recursive = abi.AT_RECURSIVE if "rbind" in one.options else 0
        fd = mount.open_tree(abi.AT_FDCWD, one.source, abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | recursive)
        if attributes:
            mount.mount_setattr(fd, "", abi.AT_EMPTY_PATH | recursive, attr_set=attributes)
    else:
        options: list[tuple[str, str | None]] = []
        for text in one.options:
            key, equals, value = text.partition("=")
            if key == "lowerdir":  # fsconfig takes at most 255 bytes
                options += [("lowerdir+", lower) for lower in value.split(":")]
            else:
                options.append((key, value if equals else None))
        fd = mount.new_mount(one.type, options, attributes)
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def layer(snapshots, name: str, parent: str = "", **files: str) -> None:
    with mounted(snapshots.prepare(f"{name}-active", parent)) as root:
        for path, text in files.items():
            (root / path).write_text(text)
    snapshots.commit(name, f"{name}-active")


def tall(snapshots, height: int) -> None:
    """A chain l0 ... of so many layers, with a file in each."""
    for i in range(height):
        snapshots.prepare("x", "")
        (Path(snapshots.upper("x")) / f"f{i}").write_text(str(i))
        snapshots.commit(f"l{i}", "x", parent=f"l{i - 1}" if i else "", synced=True)


def tree(root: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in root.iterdir()}


def test_what_was_committed_is_seen_above_and_never_changes(snapshots):
    layer(snapshots, "base", one="1", two="2")
    with mounted(snapshots.prepare("a", "base")) as root:
        assert tree(root) == {"one": "1", "two": "2"}
        (root / "one").write_text("changed")
        (root / "two").unlink()
        (root / "three").write_text("3")
        assert tree(root) == {"one": "changed", "three": "3"}
    with mounted(snapshots.prepare("b", "base")) as root:
        assert tree(root) == {"one": "1", "two": "2"}
    snapshots.commit("next", "a")
    with mounted(snapshots.view("v", "next")) as root:
        assert tree(root) == {"one": "changed", "three": "3"}


def test_a_view_is_read_only(snapshots):
    layer(snapshots, "base", one="1")
    layer(snapshots, "next", "base", two="2")
    views = (("v0", "", {}), ("v1", "base", {"one": "1"}), ("v2", "next", {"one": "1", "two": "2"}))
    for key, parent, expected in views:
        with mounted(snapshots.view(key, parent)) as root:
            assert tree(root) == expected
            with pytest.raises(OSError, match="Read-only file system"):
                (root / "x").write_text("")


def test_the_mounts_of_an_active_snapshot_can_be_asked_for_again(snapshots):
    layer(snapshots, "base", one="1")
    first = snapshots.prepare("a", "base")
    assert list(snapshots.mounts("a")) == list(first)
    with pytest.raises(errors.NotFound):
        snapshots.mounts("nobody")


def test_names_and_keys_share_one_space(snapshots):
    layer(snapshots, "base")
    snapshots.prepare("a", "base")
    for verb in (snapshots.prepare, snapshots.view):
        for taken in ("base", "a"):
            with pytest.raises(errors.AlreadyExists):
                verb(taken, "base")
    snapshots.prepare("b", "base")
    with pytest.raises(errors.AlreadyExists):
        snapshots.commit("base", "b")
    assert snapshots.stat("b").kind == "active"


def test_a_parent_must_exist_and_be_committed(snapshots):
    with pytest.raises(errors.NotFound):
        snapshots.prepare("a", "nobody")
    snapshots.prepare("active", "")
    with pytest.raises(errors.InvalidArgument):
        snapshots.prepare("b", "active")
    assert [info.name for info in snapshots.walk()] == ["active"]


def test_only_an_active_snapshot_is_committed(snapshots):
    layer(snapshots, "base")
    snapshots.view("v", "base")
    for key, kind in (("v", errors.Conflict), ("base", errors.Conflict), ("nobody", errors.NotFound)):
        with pytest.raises(kind):
            snapshots.commit("new", key)


def test_stat_and_walk_tell_kind_parent_and_labels(snapshots):
    layer(snapshots, "base")
    snapshots.prepare("a", "base", {"x": "y"})
    snapshots.view("v", "base")
    info = snapshots.stat("a")
    assert (info.kind, info.name, info.parent, dict(info.labels)) == ("active", "a", "base", {"x": "y"})
    assert [(one.name, one.kind) for one in snapshots.walk()] == [("base", "committed"), ("a", "active"), ("v", "view")]
    snapshots.commit("n", "a", {"z": "1"})
    info = snapshots.stat("n")
    assert (info.kind, info.parent, dict(info.labels)) == ("committed", "base", {"x": "y", "z": "1"})
    with pytest.raises(errors.NotFound):
        snapshots.stat("a")


def test_a_snapshot_with_children_is_not_removed(snapshots):
    layer(snapshots, "base")
    snapshots.prepare("a", "base")
    with pytest.raises(errors.Conflict):
        snapshots.remove("base")
    snapshots.remove("a")
    snapshots.remove("base")
    with pytest.raises(errors.NotFound):
        snapshots.remove("base")
    assert list(snapshots.walk()) == []


def test_removed_files_go_away_in_the_background(place):
    layer(place.snapshots, "base", one="1" * 100_000)
    assert len(place.directories()) == 1
    place.snapshots.remove("base")
    assert place.directories() == []
    eventually(lambda: place.trash() == [], what="the trash is emptied")


def test_directories_that_no_row_names_are_removed_after_a_crash(place):
    layer(place.snapshots, "base", one="1")
    kept = place.directories()
    os.makedirs(place.path / "snapshots" / "999" / "fs" / "deep")
    place.snapshots.recover()
    assert place.directories() == kept
    eventually(lambda: place.trash() == [], what="the trash is emptied")


def test_a_failed_prepare_leaves_nothing(place):
    with pytest.raises(errors.NotFound):
        place.snapshots.prepare("a", "nobody")
    assert place.directories() == []


def test_usage_is_that_of_the_snapshot_alone(place):
    layer(place.snapshots, "base", one="1" * 200_000)
    base = place.snapshots.usage("base")
    assert base.size >= 200_000
    assert base.inodes == 2
    place.snapshots.prepare("a", "base")
    own = place.snapshots.usage("a")
    if place.kind != "native":
        assert own.size < 100_000
    assert place.snapshots.usage("base") == base
    with pytest.raises(errors.NotFound):
        place.snapshots.usage("nobody")


def test_upper_is_the_directory_with_the_changes(snapshots):
    layer(snapshots, "base", one="1")
    with mounted(snapshots.prepare("a", "base")) as root:
        (root / "two").write_text("2")
    assert (Path(snapshots.upper("a")) / "two").read_text() == "2"
    with pytest.raises(errors.NotFound):
        snapshots.upper("nobody")


def test_the_root_directory_keeps_mode_and_owner_through_the_chain(snapshots):
    with mounted(snapshots.prepare("x", "")) as root:
        os.chmod(root, 0o711)
        os.chown(root, 3, 4)
    snapshots.commit("base", "x")
    layer(snapshots, "next", "base")
    with mounted(snapshots.prepare("a", "next")) as root:
        status = root.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o711, 3, 4)


def test_rows_survive_the_process(place):
    layer(place.snapshots, "base", one="1")
    place.snapshots.prepare("a", "base")
    place.snapshots.close()
    place.open()
    assert [info.name for info in place.snapshots.walk()] == ["base", "a"]
    with mounted(place.snapshots.mounts("a")) as root:
        assert tree(root) == {"one": "1"}


def test_attributes_and_links_survive_a_chain(snapshots):
    with mounted(snapshots.prepare("x", "")) as root:
        (root / "f").write_text("x")
        os.link(root / "f", root / "g")
        os.symlink("f", root / "s")
        os.mkfifo(root / "p")
        os.setxattr(root / "f", "user.a", b"b")
        os.chown(root / "f", 1, 2)
        os.chmod(root / "f", 0o4711)
    snapshots.commit("base", "x")
    with mounted(snapshots.prepare("a", "base")) as root:
        status = (root / "f").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_nlink) == (0o4711, 1, 2, 2)
        assert os.getxattr(root / "f", "user.a") == b"b"
        assert os.readlink(root / "s") == "f"
        assert stat.S_ISFIFO((root / "p").lstat().st_mode)


class TestOverlayfs:
    """What only the overlay snapshotter promises."""

    def test_a_hundred_and_thirty_layers_fit_the_page_that_mount_takes(self, overlay):
        """More than docker allows in an image (127); by mount(2), as every client does it, on every kernel."""
        tall(overlay.snapshots, 130)
        [one] = overlay.snapshots.prepare("a", "l129")
        assert not any(option.startswith("lowerdir+=") for option in one.options)
        target = overlay.path / "mnt"
        target.mkdir()
        mount.mount("overlay", str(target), "overlay", 0, ",".join(one.options))
        try:
            assert tree(target) == {f"f{i}": str(i) for i in range(130)}
            (target / "f7").write_text("mine")
        finally:
            mount.umount2(str(target))
        assert (Path(overlay.snapshots.upper("a")) / "f7").read_text() == "mine"

    def test_three_hundred_layers_are_mounted(self, overlay):
        tall(overlay.snapshots, 300)
        [one] = overlay.snapshots.prepare("a", "l299")
        assert len([o for o in one.options if o.startswith("lowerdir+=")]) == 300
        with mounted([one]) as root:
            assert tree(root) == {f"f{i}": str(i) for i in range(300)}

    def test_a_stack_is_seen_read_only_also_in_the_way_of_older_kernels(self, overlay):
        tall(overlay.snapshots, 130)
        for look in (overlay_view, lambda layers: briefly_attached(layers, False)):
            fd = look(overlay.snapshots.layers("l129"))
            try:
                assert tree(Path(f"/proc/self/fd/{fd}")) == {f"f{i}": str(i) for i in range(130)}
                with pytest.raises(OSError, match="Read-only file system"):
                    Path(f"/proc/self/fd/{fd}/x").write_text("")
            finally:
                os.close(fd)
        assert "sampan-overlay-" not in Path("/proc/self/mounts").read_text()

    def test_options_of_a_short_chain_fit_the_page_that_mount_takes(self, overlay):
        parent = ""
        for i in range(30):
            overlay.snapshots.prepare("x", parent)
            overlay.snapshots.commit(f"l{i}", "x", synced=True)
            parent = f"l{i}"
        [one] = overlay.snapshots.prepare("a", parent)
        assert len(",".join(one.options)) < 4096
        target = overlay.path / "mnt"
        target.mkdir()
        mount.mount("overlay", str(target), "overlay", 0, ",".join(one.options))
        mount.umount2(str(target))

    def test_a_volatile_snapshot_is_mounted_so_and_again_after_an_unclean_end(self, overlay):
        layer(overlay.snapshots, "base", one="1")
        [one] = overlay.snapshots.prepare("a", "base", {VOLATILE_LABEL: "true"})
        assert "volatile" in one.options
        with mounted([one]) as root:
            (root / "x").write_text("x")
        marker = Path(overlay.snapshots.upper("a")).parent / "work/work/incompat/volatile"
        assert marker.exists()
        with mounted(overlay.snapshots.mounts("a")) as root:
            assert tree(root) == {"one": "1", "x": "x"}

    def test_a_layer_gets_its_parent_when_it_is_committed(self, overlay):
        layer(overlay.snapshots, "base", one="1")
        with mounted(overlay.snapshots.prepare("x", "")) as root:
            (root / "two").write_text("2")
        with pytest.raises(errors.NotFound):
            overlay.snapshots.commit("next", "x", parent="nobody")
        overlay.snapshots.commit("next", "x", parent="base")
        with mounted(overlay.snapshots.view("v", "next")) as root:
            assert tree(root) == {"one": "1", "two": "2"}

    def test_the_hosts_root_is_a_lower_layer_without_its_mounts(self, overlay):
        overlay.snapshots.adopt_host("host")
        with mounted(overlay.snapshots.prepare("a", "host")) as root:
            assert (root / "etc/passwd").read_text() == Path("/etc/passwd").read_text()
            assert list((root / "proc").iterdir()) == []
            (root / "etc/sampan-test").write_text("inside")
        assert not Path("/etc/sampan-test").exists()
        with mounted(overlay.snapshots.view("v", "host")) as root:
            assert (root / "etc/passwd").exists()
            with pytest.raises(OSError, match="Read-only file system"):
                (root / "etc/sampan-test").write_text("inside")

    def test_removing_the_hosts_snapshot_removes_a_row_only(self, overlay):
        overlay.snapshots.adopt_host("host")
        overlay.snapshots.remove("host")
        assert list(overlay.snapshots.walk()) == []
        assert overlay.trash() == []
        assert Path("/etc/passwd").exists()


def pulled(snapshots: ErofsSnapshotter, name: str, parent: str, *members: layers.Member) -> None:
    """A layer as a pull brings it."""
    key = f"extract {name}"
    snapshots.prepare(key, "")
    unpacked = snapshots.unpack(io.BytesIO(layers.layer(*members)), snapshots.upper(key))
    snapshots.place(snapshots.upper(key), snapshots.layers(parent), unpacked)
    snapshots.sync(key)
    snapshots.commit(name, key, parent=parent, synced=True)


class TestErofs:
    """Layers that stay tars."""

    def test_a_stack_of_indexed_layers_and_directories_is_one_tree(self, erofs):
        pulled(erofs.snapshots, "l1", "", layers.file("one", b"1"), layers.file("gone", b"x"))
        pulled(erofs.snapshots, "l2", "l1", layers.file("two", b"2"), layers.file(".wh.gone"))
        with mounted(erofs.snapshots.prepare("a", "l2")) as root:
            assert tree(root) == {"one": "1", "two": "2"}
            (root / "one").write_text("changed")
        erofs.snapshots.commit("l3", "a")
        pulled(erofs.snapshots, "l4", "l3", layers.file("four", b"4"))
        for key in ("v1", "v2"):
            with mounted(erofs.snapshots.view(key, "l4")) as root:
                assert tree(root) == {"one": "changed", "two": "2", "four": "4"}
        with mounted(erofs.snapshots.view("v3", "l1")) as root:
            assert tree(root) == {"one": "1", "gone": "x"}
            with pytest.raises(OSError, match="Read-only file system"):
                (root / "x").write_text("")

    def test_the_layers_files_hold_the_tar_byte_for_byte(self, erofs):
        data = layers.layer(layers.file("f", os.urandom(3000)), layers.directory("d"))
        erofs.snapshots.prepare("x", "")
        erofs.snapshots.unpack(io.BytesIO(data), erofs.snapshots.upper("x"))
        [name] = erofs.directories()
        stored = (erofs.path / "snapshots" / name / "layer.erofs").read_bytes()
        assert stored[4096 : 4096 + len(data)] == data

    def test_another_process_mounts_what_it_is_given(self, erofs):
        """As a runtime does, in a mount namespace of its own, by mount(2)."""
        for name, parent in (("l1", ""), ("l2", "l1")):
            pulled(erofs.snapshots, name, parent, layers.file(name, b"x"))
        target = erofs.path / "mnt"
        target.mkdir()
        for mounts in (erofs.snapshots.prepare("a", "l2"), erofs.snapshots.view("v", "l2")):
            [one] = mounts
            command = f"mount -t {one.type} -o {','.join(one.options)} {one.source} {target} && ls {target}"
            shown = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, check=True)
            assert shown.stdout.split() == ["l1", "l2"]

    def test_nothing_is_left_in_the_mount_table(self, erofs):
        before = Path("/proc/self/mountinfo").read_text()
        pulled(erofs.snapshots, "l1", "", layers.file("f"))
        erofs.snapshots.prepare("a", "l1")
        assert Path("/proc/self/mountinfo").read_text() == before

    def test_a_removed_layer_gives_its_mount_and_its_file_back(self, erofs):
        descriptors = len(os.listdir("/proc/self/fd"))
        pulled(erofs.snapshots, "l1", "", layers.file("f"))
        erofs.snapshots.view("v", "l1")
        erofs.snapshots.remove("v")
        erofs.snapshots.remove("l1")
        assert erofs.directories() == []
        eventually(lambda: erofs.trash() == [], what="the trash is emptied")
        assert len(os.listdir("/proc/self/fd")) == descriptors

    def test_an_indexed_layer_is_there_after_a_restart(self, erofs):
        pulled(erofs.snapshots, "l1", "", layers.file("f", b"x"))
        erofs.snapshots.prepare("a", "l1")
        erofs.snapshots.close()
        erofs.open()
        erofs.snapshots.recover()
        with mounted(erofs.snapshots.mounts("a")) as root:
            assert tree(root) == {"f": "x"}

    def test_the_root_directory_of_a_layer_without_one_is_that_of_the_layer_below(self, erofs):
        pulled(erofs.snapshots, "l1", "", layers.directory("./", mode=0o711, uid=3))
        pulled(erofs.snapshots, "l2", "l1", layers.file("f"))
        with mounted(erofs.snapshots.prepare("a", "l2")) as root:
            assert (stat.S_IMODE(root.stat().st_mode), root.stat().st_uid) == (0o711, 3)

    def test_every_name_of_a_large_directory_is_found(self, erofs):
        names = [f"{'n' * (1 + i % 250)}{i}" for i in range(3000)]
        pulled(erofs.snapshots, "l1", "", *[layers.file(f"d/{name}", name.encode()) for name in names])
        with mounted(erofs.snapshots.view("v", "l1")) as root:
            assert sorted(os.listdir(root / "d")) == sorted(names)
            assert all((root / "d" / name).read_text() == name for name in names)
            assert not (root / "d" / "m").exists()
