"""Unpacking layers on the real kernel: what overlayfs then shows, and every trick to get out of the directory.

Everything is shown twice: of a directory that the layer was unpacked into, and of an erofs index behind its tar."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import zstandard
from tests.contract.layers import MTIME, Member, directory, file, hardlink, layer, member, symlink, xattrs

from sampan import errors
from sampan.containerd.diff.erofs_layer import FILE, ErofsLayer, index_layer
from sampan.containerd.diff.settle import settle
from sampan.containerd.diff.settle_index import settle_index
from sampan.containerd.diff.unpack import Unpacked, unpack
from sampan.containerd.snapshots.layer_mounts import mount_file
from sampan.linux import abi, mount
from sampan.oci import digest
from sampan.wire import layer_tar, tar_member

pytestmark = pytest.mark.root


class Upper:
    """One layer of a stack: `directory` is where it is unpacked, `upper / name` a file that it shows."""

    def __init__(self, bottom: Bottom, directory: Path) -> None:
        self.bottom, self.directory = bottom, directory
        directory.mkdir(parents=True)

    def __truediv__(self, name: str) -> Path:
        return self.bottom.shown(self.directory) / name

    def __str__(self) -> str:
        return str(self.bottom.shown(self.directory))


class Bottom:
    """A place to unpack one layer into, with a canary outside that must stay as it is.

    `erofs`: the directory stays empty, and what the layer shows is a mount of the file beside it. `alone`: as in a
    process that only unpacks."""

    def __init__(self, path: Path, erofs: bool = False, alone: bool = False) -> None:
        self.path, self.erofs, self.alone = path, erofs, alone
        self.mounts: dict[Path, int] = {}
        self.directory = path / "n" / "fs"
        self.directory.mkdir(parents=True)
        (path / "outside").mkdir()
        (path / "outside" / "canary").write_text("alive")
        (path / "canary").write_text("alive")

    @property
    def root(self) -> Path:
        return self.shown(self.directory)

    def shown(self, directory: Path) -> Path:
        if not self.erofs:
            return directory
        if directory not in self.mounts:
            self.mounts[directory] = mount_file(f"{directory.parent}/{FILE}")
        return Path(f"/proc/{os.getpid()}/fd/{self.mounts[directory]}")

    def forget(self, directory: Path) -> None:
        if directory in self.mounts:
            os.close(self.mounts.pop(directory))

    def close(self) -> None:
        for where in list(self.mounts):
            self.forget(where)

    def unpack(self, *members: Member, stacks: bool = True, root: Upper | None = None) -> Unpacked:
        return self.unpack_bytes(layer(*members), stacks=stacks, root=root)

    def unpack_bytes(self, data: bytes, *, stacks: bool = True, root: Upper | None = None) -> Unpacked:
        where = root.directory if root else self.directory
        if not self.erofs:
            return unpack(io.BytesIO(data), str(where), str(where.parent), stacks=stacks, alone=self.alone)
        if not stacks:
            pytest.skip("a layer with an index is never unpacked over another")
        self.forget(where)
        return index_layer(io.BytesIO(data), str(where.parent))

    def settle(self, upper: Upper | None, lowers: Sequence[object], unpacked: Unpacked) -> None:
        paths = [f"{lower}/." for lower in lowers]
        where = upper.directory if upper else self.directory
        self.forget(where)
        if isinstance(unpacked.applied, ErofsLayer):
            settle_index(unpacked.applied, paths)
        else:
            settle(str(where), paths, unpacked.applied)

    def another(self, name: str) -> Upper:
        return Upper(self, self.path / name / "fs")

    def assert_untouched(self) -> None:
        assert sorted(p.name for p in self.path.iterdir()) == ["canary", "n", "outside"]
        assert {p.name for p in (self.path / "n").iterdir()} - {FILE} == {"fs"}
        assert not self.erofs or list(self.directory.iterdir()) == []
        assert (self.path / "canary").read_text() == "alive"
        assert [p.name for p in (self.path / "outside").iterdir()] == ["canary"]
        assert (self.path / "outside" / "canary").read_text() == "alive"


@pytest.fixture(params=["directory", "alone", "erofs"])
def bottom(request, tmp_path):
    umask = os.umask(0o22)
    bottom = Bottom(tmp_path, erofs=request.param == "erofs", alone=request.param == "alone")
    yield bottom
    bottom.close()
    os.umask(umask)


def opaque(path: Path) -> bool:
    return "trusted.overlay.opaque" in os.listxattr(path) and os.getxattr(path, "trusted.overlay.opaque") == b"y"


def is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def test_every_kind_of_entry_has_the_attributes_of_its_header(bottom):
    bottom.unpack(
        directory("./", mode=0o711, uid=5, gid=6),
        directory("d", mode=0o2775, uid=1, gid=50),
        file("d/f", b"content", mode=0o4755, uid=1000, gid=100),
        symlink("d/s", "../d/f", uid=7, gid=8),
        hardlink("d/h", "d/f"),
        member("d/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
        member("d/disk", tarfile.BLKTYPE, devmajor=8, devminor=1, mode=0o660, gid=6),
        member("d/p", tarfile.FIFOTYPE, mode=0o622),
    )
    root = bottom.root
    status = root.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o711, 5, 6)
    status = (root / "d").lstat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime) == (0o2775, 1, 50, MTIME)
    status = (root / "d/f").lstat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o4755, 1000, 100)
    assert (status.st_nlink, status.st_mtime, (root / "d/f").read_bytes()) == (2, MTIME, b"content")
    status = (root / "d/s").lstat()
    assert (os.readlink(root / "d/s"), status.st_uid, status.st_gid, status.st_mtime) == ("../d/f", 7, 8, MTIME)
    assert (root / "d/h").samefile(root / "d/f")
    status = (root / "d/null").lstat()
    assert (stat.S_ISCHR(status.st_mode), status.st_rdev, stat.S_IMODE(status.st_mode)) == (
        True,
        os.makedev(1, 3),
        0o666,
    )
    status = (root / "d/disk").lstat()
    assert (stat.S_ISBLK(status.st_mode), status.st_rdev, status.st_gid) == (True, os.makedev(8, 1), 6)
    status = (root / "d/p").lstat()
    assert (stat.S_ISFIFO(status.st_mode), stat.S_IMODE(status.st_mode)) == (True, 0o622)


def test_xattrs_are_set_after_the_owner_so_that_capabilities_stay(bottom):
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    bottom.unpack(
        xattrs(file("ping", b"elf", mode=0o755, uid=1000), security__capability=capability, user__note=b"n\xff"),
        xattrs(directory("d"), user__dir=b"1"),
    )
    assert os.getxattr(bottom.root / "ping", "security.capability") == capability
    assert os.getxattr(bottom.root / "ping", "user.note") == b"n\xff"
    assert os.getxattr(bottom.root / "d", "user.dir") == b"1"


def test_a_layer_cannot_bring_overlays_own_xattrs(bottom):
    bottom.unpack(xattrs(directory("d"), trusted__overlay__redirect=b"/etc", user__overlay__opaque=b"y"))
    assert os.listxattr(bottom.root / "d") == []


def test_whiteouts_become_what_overlayfs_knows(bottom):
    bottom.unpack(
        directory("a"),
        file("a/.wh.gone"),
        directory("b"),
        file("b/.wh..wh..opq"),
        file("b/new", b"new"),
        file(".wh..wh.plnk/ignored"),
    )
    assert is_whiteout(bottom.root / "a/gone")
    assert opaque(bottom.root / "b")
    assert sorted(p.name for p in bottom.root.iterdir() if not p.name.startswith(".wh..wh.")) == ["a", "b"]
    assert not (bottom.root / "a/.wh.gone").exists()


def test_a_name_that_the_layer_removes_and_brings_does_not_show_the_one_below(bottom):
    """Order must not matter: whiteouts are for lower layers only (image-spec, layer.md)."""
    bottom.unpack(
        file(".wh.first"), directory("first"), file("first/x"),
        directory("second"), file("second/x"), file(".wh.second"),
        file("file", b"kept"), file(".wh.file"),
        file(".wh.other"), file("other", b"kept"),
    )  # fmt: skip
    assert opaque(bottom.root / "first")
    assert opaque(bottom.root / "second")
    assert (bottom.root / "second/x").exists()
    assert (bottom.root / "file").read_bytes() == (bottom.root / "other").read_bytes() == b"kept"


def test_without_overlay_names_are_really_removed(bottom):
    bottom.unpack(directory("a"), file("a/gone"), directory("b"), file("b/old"), directory("b/c"), file("b/c/old"),
                  directory("tree"), file("tree/leaf"), stacks=False)  # fmt: skip
    bottom.unpack(file("a/.wh.gone"), file("a/.wh.never"), file("b/new"), directory("b/c"), file("b/c/new"),
                  file("b/.wh..wh..opq"), file(".wh.tree"), stacks=False)  # fmt: skip
    found = sorted(str(p.relative_to(bottom.root)) for p in bottom.root.rglob("*"))
    assert found == ["a", "b", "b/c", "b/c/new", "b/new"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress,
                                      lambda d: gzip.compress(d[:700]) + gzip.compress(d[700:])],
                         ids=["plain", "gzip", "zstd", "estargz"])  # fmt: skip
def test_the_diff_id_is_that_of_the_uncompressed_tar(bottom, compress):
    data = layer(file("f", os.urandom(5000)))
    assert bottom.unpack_bytes(compress(data)).diff_id == digest.of(data)
    assert (bottom.root / "f").stat().st_size == 5000


ESCAPES = {
    "absolute name": ([file("/x", b"1")], {"x": b"1"}),
    "dotdot": ([file("../../x", b"1")], {"x": b"1"}),
    "dotdot inside": ([directory("a"), file("a/../../../x", b"1")], {"x": b"1"}),
    "symlink to dotdot, then through it": ([symlink("l", "../../outside"), file("l/x", b"1")], {"outside/x": b"1"}),
    "absolute symlink, then a file through it": ([symlink("l", "/tmp"), file("l/x", b"1")], {"tmp/x": b"1"}),
    "symlink replaced by file": ([symlink("l", "/etc/passwd"), file("l", b"mine")], {"l": b"mine"}),
    "dangling symlink, then the file": ([symlink("l", "../canary"), file("l", b"mine")], {"l": b"mine"}),
    "hard link to a symlink, then the file": (
        [symlink("s", "../../canary"), hardlink("h", "s"), file("h", b"mine")], {"h": b"mine"}),
    "directory replaced by symlink": (
        [directory("d"), file("d/x", b"1"), symlink("d", "../../outside"), file("d/y", b"2")], {"outside/y": b"2"}),
    "magic link": ([symlink("l", "/proc/self/root/tmp"), file("l/x", b"1")], {"proc/self/root/tmp/x": b"1"}),
    "symlink chain": (
        [symlink("a", "b"), symlink("b", "../../../outside"), file("a/x", b"1")], {"outside/x": b"1"}),
}  # fmt: skip


@pytest.mark.parametrize("members, expected", ESCAPES.values(), ids=ESCAPES)
@pytest.mark.parametrize("stacks", [True, False])
def test_no_name_leads_outside(bottom, members, expected, stacks):
    bottom.unpack(*members, stacks=stacks)
    found = {str(p.relative_to(bottom.root)): p.read_bytes() for p in bottom.root.rglob("*")
             if p.is_file() and not p.is_symlink()}  # fmt: skip
    assert expected.items() <= found.items()
    bottom.assert_untouched()


def test_an_opaque_mark_or_whiteout_through_a_symlink_stays_inside(bottom):
    bottom.unpack(symlink("l", "../../outside"), file("l/.wh..wh..opq"), file("l/.wh.canary"))
    assert opaque(bottom.root / "outside")
    assert "trusted.overlay.opaque" not in os.listxattr(bottom.path / "outside")
    bottom.assert_untouched()


REFUSED = {
    "whiteout of dotdot": [file(".wh...")],
    "whiteout of nothing": [file(".wh.")],
    "whiteout of dot": [directory("d"), file("d/.wh..")],
    "hard link to a directory": [directory("d"), hardlink("h", "d")],
    "hard link to the root": [hardlink("h", "../..")],
    "a root that is a symlink": [symlink(".", "elsewhere")],
    "a file as directory": [file("f"), file("f/x")],
    "symlink loop": [symlink("a", "b"), symlink("b", "a"), file("a/x")],
}


@pytest.mark.parametrize("members", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_a_layer_is_refused(bottom, members):
    with pytest.raises(errors.InvalidArgument):
        bottom.unpack(*members)
    bottom.assert_untouched()


def test_a_hard_link_to_something_outside_is_not_made(bottom):
    unpacked = bottom.unpack(file("x"), hardlink("h", "../../canary"))
    assert unpacked.applied.links == [(b"h", b"canary")]
    with pytest.raises(errors.InvalidArgument, match='hard link to "canary"'):
        bottom.settle(None, [], unpacked)
    assert not (bottom.root / "h").exists()
    bottom.assert_untouched()


def test_a_later_entry_of_the_same_name_wins(bottom):
    bottom.unpack(
        file("f", b"first" * 100), file("f", b"second"),
        directory("d"), file("d/deep"), file("d", b"now a file"),
        file("g", b"file"), directory("g", mode=0o700), file("g/x"),
        directory("again", mode=0o700), file("again/kept"), directory("again", mode=0o750),
    )  # fmt: skip
    assert (bottom.root / "f").read_bytes() == b"second"
    assert (bottom.root / "d").read_bytes() == b"now a file"
    assert [p.name for p in (bottom.root / "g").iterdir()] == ["x"]
    assert [p.name for p in (bottom.root / "again").iterdir()] == ["kept"]
    assert stat.S_IMODE((bottom.root / "again").stat().st_mode) == 0o750


def test_replacing_one_name_of_a_hard_linked_file_leaves_the_other(bottom):
    bottom.unpack(file("a", b"one"), hardlink("b", "a"), file("b", b"two"))
    assert ((bottom.root / "a").read_bytes(), (bottom.root / "b").read_bytes()) == (b"one", b"two")


def test_a_hard_link_may_stand_before_its_target(bottom):
    unpacked = bottom.unpack(hardlink("h", "f"), file("f", b"x"))
    assert unpacked.applied.links == []
    assert (bottom.root / "h").samefile(bottom.root / "f")


def test_directories_keep_their_times_whatever_is_made_inside_them(bottom):
    bottom.unpack(directory("d"), directory("d/e"), file("d/e/f", b"x"), hardlink("d/g", "d/e/f"), file("d/.wh.h"))
    assert [(bottom.root / name).stat().st_mtime for name in ("d", "d/e", "d/e/f")] == [MTIME] * 3


@pytest.mark.parametrize("time", [-1, 1 << 34, 1 << 62], ids=["before 1970", "beyond 2262", "beyond all"])
def test_a_time_that_nobody_can_set_is_1970(bottom, time):
    """As docker and containerd have it; the kernel, or Python, would refuse the layer for it."""
    info = file("f", b"x")
    info.pax_headers["mtime"] = str(time)
    other = directory("d")
    other.pax_headers["mtime"] = str(time)
    bottom.unpack(info, other)
    assert [(bottom.root / name).stat().st_mtime for name in ("f", "d")] == [0, 0]


@pytest.mark.parametrize("mode", [0o0, 0o444, 0o600, 0o664, 0o777, 0o4755, 0o2755, 0o6711, 0o1777, 0o100644])
@pytest.mark.parametrize(("uid", "gid"), [(0, 0), (0, 8), (8, 0)])
def test_a_file_has_its_mode_and_owner_whatever_they_are(bottom, mode, uid, gid):
    bottom.unpack(
        file("empty", mode=mode, uid=uid, gid=gid),
        file("full", b"content", mode=mode, uid=uid, gid=gid),
        symlink("link", "full", uid=uid, gid=gid, mode=0o777),
    )
    for name in ("empty", "full"):
        status = (bottom.root / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (mode & 0o7777, uid, gid)
    status = (bottom.root / "link").lstat()
    assert (status.st_uid, status.st_gid) == (uid, gid)


def test_a_default_acl_does_not_change_what_is_brought_below_it(bottom):
    # Version 2; user:: rwx, group:: ---, other:: ---: what setfacl -d -m g::-,o::- writes. acl(5), xattr(7)
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", tag, perm, -1) for tag, perm in ((1, 7), (4, 0), (32, 0)))
    bottom.unpack(
        xattrs(directory("d", mode=0o755), system__posix_acl_default=acl),
        file("d/f", b"content", mode=0o664),
    )
    assert stat.S_IMODE((bottom.root / "d/f").stat().st_mode) == 0o664


@pytest.mark.parametrize("bottom", ["alone"], indirect=True)
def test_what_the_directory_gives_to_new_files_does_not_come_through(bottom):
    os.chown(bottom.directory, 0, 8)
    bottom.directory.chmod(0o2755)
    bottom.unpack(file("f", b"content", mode=0o664), symlink("s", "f"))
    assert [(bottom.root / name).lstat().st_gid for name in ("f", "s")] == [0, 0]


def test_a_setgid_parent_does_not_give_its_group_away(bottom):
    bottom.unpack(directory("mail", mode=0o2775, gid=8), file("mail/root", b""))
    assert (bottom.root / "mail/root").stat().st_gid == 0


def test_as_many_levels_as_a_path_can_have_are_unpacked_and_deleted(bottom):
    from sampan.linux.trees import remove_tree

    deep = "d/" * 2047
    bottom.unpack(file(deep + "f", b"deep"), symlink(deep + "s", "f"), hardlink(deep + "h", deep + "f"))
    levels, fd = 0, os.open(bottom.root, os.O_RDONLY)
    while "d" in os.listdir(fd):
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd, levels = below, levels + 1
    assert (levels, sorted(os.listdir(fd))) == (2047, ["f", "h", "s"])
    os.close(fd)
    trash = bottom.path / "trash"
    trash.mkdir()
    os.rename(bottom.directory, trash / "1")
    remove_tree(str(trash), "1")
    assert list(trash.iterdir()) == []


def test_sparse_files_stay_sparse(bottom, tmp_path):
    source = tmp_path / "holes"
    with open(source, "wb") as out:
        out.seek(64 << 20)
        out.write(b"end")
    made = subprocess.run(["tar", "-S", "-C", str(tmp_path), "-cf", "-", "holes"], capture_output=True, check=True)
    bottom.unpack_bytes(made.stdout)
    status = (bottom.root / "holes").stat()
    assert status.st_size == (64 << 20) + 3
    # erofs says blocks for the holes as well, and has none for them in its file
    stored = (bottom.directory.parent / FILE).stat() if bottom.erofs else status
    assert stored.st_blocks * 512 < 1 << 20
    with open(bottom.root / "holes", "rb") as file_:
        file_.seek(64 << 20)
        assert file_.read() == b"end"


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_gzip_is_refused(bottom, damage):
    data = bytearray(gzip.compress(layer(file("f", os.urandom(100_000)))))
    if damage == "cut":
        del data[-5000:]
    else:
        data[-6] ^= 1  # the checksum
    with pytest.raises(errors.InvalidArgument):
        bottom.unpack_bytes(bytes(data))


def test_it_makes_of_a_real_tar_what_gnu_tar_makes_of_it(bottom, tmp_path):
    """A tree with everything that tar knows, written by GNU tar, compared entry by entry."""
    tree, other = tmp_path / "tree", tmp_path / "other"
    for i in range(30):
        (tree / f"d{i % 5}" / ("n" * (i * 5 + 1))).mkdir(parents=True)
        (tree / f"d{i % 5}" / ("n" * (i * 5 + 1)) / "f").write_bytes(os.urandom(i * 300))
    os.link(tree / "d0/n/f", tree / "hard")
    os.symlink("d0/n/f", tree / "soft")
    os.mkfifo(tree / "fifo")
    os.setxattr(tree / "hard", "user.x", b"y")
    other.mkdir()
    archive = str(tmp_path / "a.tar")
    subprocess.run(["tar", "--xattrs", "--format=pax", "-C", str(tree), "-cf", archive, "."], check=True)
    subprocess.run(["tar", "--xattrs", "-C", str(other), "-xpf", archive], check=True)
    bottom.unpack_bytes(Path(archive).read_bytes())
    assert described(bottom.root) == described(other)


def described(root: Path) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for path in sorted([root, *root.rglob("*")]):
        status = path.stat() if path == root else path.lstat()
        found.append((str(path.relative_to(root)), status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns,
                      status.st_nlink, path.read_bytes() if path.is_file() and not path.is_symlink() else b"",
                      os.listxattr(path, follow_symlinks=False)))  # fmt: skip
    return found


class TestSettling:
    """Layers unpacked apart and stacked afterwards."""

    def test_a_directory_without_an_entry_looks_like_the_one_below(self, bottom):
        bottom.unpack(
            directory("var", mode=0o750, uid=3), xattrs(directory("var/mail", mode=0o1777, gid=8), user__a=b"b")
        )
        upper = bottom.another("upper")
        unpacked = bottom.unpack(file("var/mail/new"), file("fresh/x"), root=upper)
        # With an index, the tree itself knows.
        assert unpacked.applied.implied == ([] if bottom.erofs else [b"fresh", b"var", b"var/mail"])
        bottom.settle(upper, [bottom.root], unpacked)
        status = (upper / "var/mail").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_gid, status.st_mtime) == (0o1777, 8, MTIME)
        assert os.getxattr(upper / "var/mail", "user.a") == b"b"
        assert (stat.S_IMODE((upper / "var").stat().st_mode), (upper / "var").stat().st_uid) == (0o750, 3)
        assert stat.S_IMODE((upper / "fresh").stat().st_mode) == 0o755

    def test_a_hard_link_to_a_lower_layer_copies_the_file_up(self, bottom):
        bottom.unpack(directory("bin", mode=0o711), xattrs(file("bin/tool", b"elf", mode=0o4755, uid=9), user__k=b"v"))
        middle = bottom.another("middle")
        bottom.unpack(directory("bin", mode=0o711), file("bin/other"), root=middle)
        upper = bottom.another("upper")
        unpacked = bottom.unpack(hardlink("sbin/tool", "bin/tool"), hardlink("tool", "bin/tool"), root=upper)
        bottom.settle(upper, [middle, bottom.root], unpacked)
        assert (upper / "sbin/tool").samefile(upper / "bin/tool")
        status = (upper / "tool").stat()
        assert (status.st_nlink, stat.S_IMODE(status.st_mode), status.st_uid, status.st_mtime) == (3, 0o4755, 9, MTIME)
        assert os.getxattr(upper / "tool", "user.k") == b"v"
        assert stat.S_IMODE((upper / "bin").stat().st_mode) == 0o711

    @pytest.mark.parametrize("middle", [
        [file(".wh.data")], [directory("data"), file("data/.wh..wh..opq")], [file("data", b"a file now")],
        [directory("data"), file("data/.wh.f")],
    ], ids=["whiteout", "opaque", "file", "whiteout of the file"])  # fmt: skip
    def test_what_a_middle_layer_removed_is_no_target(self, bottom, middle):
        bottom.unpack(directory("data"), file("data/f"))
        above = bottom.another("middle")
        bottom.unpack(*middle, root=above)
        upper = bottom.another("upper")
        unpacked = bottom.unpack(hardlink("h", "data/f"), root=upper)
        with pytest.raises(errors.InvalidArgument, match="no such file or directory"):
            bottom.settle(upper, [above, bottom.root], unpacked)

    def test_a_symlink_below_is_not_followed_out(self, bottom):
        bottom.unpack(symlink("l", str(bottom.path / "outside")))
        upper = bottom.another("upper")
        unpacked = bottom.unpack(hardlink("h", "l/canary"), root=upper)
        with pytest.raises(errors.InvalidArgument):
            bottom.settle(upper, [bottom.root], unpacked)

    def test_a_directory_passed_through_does_not_hide_what_an_opaque_one_below_it_brought(self, bottom):
        bottom.unpack(directory("d"), file("d/hidden"))
        middle, upper = bottom.another("middle"), bottom.another("upper")
        bottom.unpack(directory("d", mode=0o700), file("d/.wh..wh..opq"), file("d/shown"), root=middle)
        unpacked = bottom.unpack(file("d/new"), root=upper)
        bottom.settle(upper, [middle, bottom.root], unpacked)
        assert stat.S_IMODE((upper / "d").stat().st_mode) == 0o700
        assert not opaque(upper / "d")

    def test_overlayfs_shows_the_stack_as_the_image_means_it(self, bottom):
        bottom.unpack(directory("d"), file("d/gone"), file("d/kept", b"1"), directory("o"), file("o/hidden"))
        upper = bottom.another("upper")
        unpacked = bottom.unpack(file("d/.wh.gone"), file("o/.wh..wh..opq"), file("o/shown"), hardlink("h", "d/kept"),
                                 root=upper)  # fmt: skip
        bottom.settle(upper, [bottom.root], unpacked)
        fd = mount.new_mount(
            "overlay", [("lowerdir+", str(upper)), ("lowerdir+", str(bottom.root))], abi.MOUNT_ATTR_RDONLY
        )
        try:
            shown = Path(f"/proc/self/fd/{fd}")
            assert sorted(os.listdir(shown)) == ["d", "h", "o"]
            assert sorted(os.listdir(shown / "d")) == ["kept"]
            assert sorted(os.listdir(shown / "o")) == ["shown"]
            assert (shown / "h").read_bytes() == b"1"
        finally:
            os.close(fd)


class TestArchiversFormats:
    """What GNU tar writes in each of its formats; both unpackers give back what was packed."""

    @pytest.mark.parametrize("version", ["0.0", "0.1", "1.0", "gnu"])
    def test_holes_in_every_sparse_format(self, bottom, tmp_path, version):
        source = tmp_path / "holes"
        pieces = [(0, b"begin"), (1 << 20, os.urandom(5000)), (5 << 20, b"x"), ((9 << 20) + 7, b"end")]
        with open(source, "wb") as out:
            for offset, data in pieces:
                out.seek(offset)
                out.write(data)
            out.truncate(12 << 20)
        form = ["--format=gnu"] if version == "gnu" else ["--format=pax", f"--sparse-version={version}"]
        made = subprocess.run(["tar", "-S", *form, "-C", str(tmp_path), "-cf", "-", "holes"], capture_output=True,
                              check=True)  # fmt: skip
        bottom.unpack_bytes(made.stdout)
        assert (bottom.root / "holes").read_bytes() == source.read_bytes()

    @pytest.mark.parametrize("form", ["gnu", "pax"])
    def test_a_file_of_more_than_8_gib(self, bottom, tmp_path, form):
        """Its size has no room in the header: base-256 in GNU's format, a PAX record otherwise."""
        source = tmp_path / "huge"
        with open(source, "wb") as out:
            out.seek(9 << 30)
            out.write(b"end")
        made = subprocess.run(["tar", "-S", f"--format={form}", "-C", str(tmp_path), "-cf", "-", "huge"],
                              capture_output=True, check=True)  # fmt: skip
        bottom.unpack_bytes(made.stdout)
        assert (bottom.root / "huge").stat().st_size == (9 << 30) + 3
        with open(bottom.root / "huge", "rb") as file_:
            file_.seek((9 << 30) - 2)
            assert file_.read() == b"\0\0end"

    @pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
    def test_a_size_of_more_than_8_gib_without_the_bytes_is_refused(self, bottom, form):
        info = file("huge")
        info.size = 9 << 30
        with pytest.raises(errors.InvalidArgument, match="unexpected EOF"):
            bottom.unpack_bytes(info.tobuf(form) + b"only this")
        bottom.assert_untouched()

    @pytest.mark.parametrize("form", ["gnu", "pax", "v7", "ustar"])
    def test_long_names_and_long_links(self, bottom, tmp_path, form):
        short = form in ("v7", "ustar")
        name = "/".join(["n" * 40] * 2) if short else "/".join(["ü" * 60, "n" * 200, "m" * 90])
        target = "t" * (99 if short else 300)
        tree = tmp_path / "tree"
        (tree / name).mkdir(parents=True)
        (tree / name / "f").write_text("deep")
        os.symlink(target, tree / "s")
        os.link(tree / name / "f", tree / "zz-hard")
        made = subprocess.run(["tar", f"--format={form}", "--sort=name", "-C", str(tree), "-cf", "-", "."],
                              capture_output=True, check=True)  # fmt: skip
        bottom.unpack_bytes(made.stdout)
        assert (bottom.root / name / "f").read_text() == "deep"
        assert os.readlink(bottom.root / "s") == target
        assert (bottom.root / "zz-hard").samefile(bottom.root / name / "f")

    def test_a_global_header_is_read_over(self, bottom):
        """git archive writes one; Go's reader, and so docker and containerd, applies none of it to the members."""
        out = io.BytesIO()
        with tarfile.open(
            fileobj=out, mode="w", pax_headers={"comment": "git", "uid": "77", "path": "elsewhere"}
        ) as tar:
            tar.addfile(tarfile.TarInfo("f"))
        bottom.unpack_bytes(out.getvalue())
        assert [p.name for p in bottom.root.iterdir()] == ["f"]
        assert (bottom.root / "f").stat().st_uid == 0

    @pytest.mark.parametrize(
        "name, shown",
        [(b"caf\xe9", b"caf\xe9"), (b"a\nb", b"a\nb"), (b"a\\b", b"a\\b"), (b" ", b" "), (b"...", b"..."),
         (b"a//b", b"a"), (b"./a/./b", b"a"), (b"a/", b"a")],
    )  # fmt: skip
    def test_any_bytes_are_a_name(self, bottom, name, shown):
        """Names are the kernel's bytes: no encoding, no wildcard, no escape."""
        kind = layer_tar.DIRECTORY if name.endswith(b"/") else layer_tar.FILE
        bottom.unpack_bytes(tar_member.member(name, kind, mode=0o644) + tar_member.END)
        assert os.listdir(os.fsencode(str(bottom.root))) == [shown]


@pytest.mark.parametrize("major, minor", [(-1, 0), (0, -1), (1 << 12, 1), (1, 1 << 20), (1 << 40, 1)])
def test_a_device_number_that_the_kernel_would_cut_is_refused(bottom, major, minor):
    """4096:1 cut to twelve bits of major is 0:1, another device."""

    def base_256(value: int) -> bytes:
        return (b"\xff" if value < 0 else b"\x80") + (value & (1 << 56) - 1).to_bytes(7, "big")

    block = bytearray(tar_member.member(b"dev", layer_tar.CHAR, mode=0o600))
    block[329:337], block[337:345] = base_256(major), base_256(minor)
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block[:512])
    with pytest.raises(errors.InvalidArgument, match="invalid tar header: device"):
        bottom.unpack_bytes(bytes(block) + tar_member.END)
    bottom.assert_untouched()


def test_a_directory_behind_a_symlink_that_moved_is_not_made_again(bottom):
    bottom.unpack(symlink("a", "/"), directory("a/d"), file("a/d/f"), symlink("a", "elsewhere"))
    assert sorted(p.name for p in bottom.root.iterdir()) == ["a", "d"]


def test_links_that_wait_below_what_another_link_replaces_are_forgotten(bottom):
    unpacked = bottom.unpack(hardlink("d", "late"), file("d/y"), hardlink("d/x", "nowhere"), file("late", b"1"))
    assert unpacked.applied.links == []
    assert (bottom.root / "d").read_bytes() == b"1"


@pytest.mark.parametrize("target", ["d/x", "s/x"], ids=["by its name", "by a symlink"])
def test_a_hard_link_in_place_of_its_targets_directory_has_no_target(bottom, target):
    unpacked = bottom.unpack(symlink("s", "d"), file("d/x"), hardlink("d", target))
    assert unpacked.applied.links == [(b"d", target.encode())]
    assert [p.name for p in bottom.root.iterdir()] == ["s"]
    with pytest.raises(errors.InvalidArgument, match="no such file"):
        bottom.settle(None, [], unpacked)


@pytest.mark.parametrize("members", [
    [symlink("a", "/"), file("a/a", b"1")],
    [file("x", b"1"), symlink("a", "/"), hardlink("a/a", "x")],
], ids=["file", "hard link"])  # fmt: skip
def test_a_member_may_replace_the_symlink_that_leads_to_it(bottom, members):
    bottom.unpack(*members)
    assert (bottom.root / "a").read_bytes() == b"1"
    assert not (bottom.root / "a").is_symlink()
    bottom.assert_untouched()


class TestReplacing:
    """What one member made, a later one takes the place of, whatever the two are."""

    MAKERS = {
        "file": lambda: [file("x", b"file")],
        "directory": lambda: [directory("x"), file("x/in")],
        "symlink": lambda: [symlink("x", "../../outside")],
        "hard link": lambda: [file("other", b"other"), hardlink("x", "other")],
        "device": lambda: [member("x", tarfile.CHRTYPE, devmajor=1, devminor=3)],
        "fifo": lambda: [member("x", tarfile.FIFOTYPE)],
        "whiteout": lambda: [file(".wh.x")],
    }  # fmt: skip

    @pytest.mark.parametrize("last", MAKERS)
    @pytest.mark.parametrize("first", MAKERS)
    def test_each_by_each_and_back(self, bottom, first, last):
        for order in ((first, last), (first, last, first)):
            if bottom.erofs:
                bottom.forget(bottom.directory)
            elif bottom.directory.exists():
                subprocess.run(["find", str(bottom.directory), "-mindepth", "1", "-delete"], check=True)
            members = [one for name in order for one in self.MAKERS[name]()]
            bottom.unpack(*members)
            found = (bottom.root / "x").lstat()
            winner = order[-1] if order[-1] != "whiteout" else next(
                (name for name in reversed(order) if name != "whiteout"), "whiteout")  # fmt: skip
            kinds = {"file": stat.S_IFREG, "hard link": stat.S_IFREG, "directory": stat.S_IFDIR,
                     "symlink": stat.S_IFLNK, "device": stat.S_IFCHR, "fifo": stat.S_IFIFO,
                     "whiteout": stat.S_IFCHR}  # fmt: skip
            assert stat.S_IFMT(found.st_mode) == kinds[winner]
            assert is_whiteout(bottom.root / "x") == (winner == "whiteout")
            bottom.assert_untouched()
