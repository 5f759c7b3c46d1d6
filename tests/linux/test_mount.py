"""The mount API in a private mount namespace; each mount is read back from mountinfo."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sampan.linux import abi, mount, mountinfo, process, procfs

pytestmark = pytest.mark.root

InChild = Callable[..., Any]


def at(path: str) -> mountinfo.Mount:
    """The topmost mount at `path`."""
    return [m for m in mountinfo.read() if m.mount_point == path][-1]


def test_mount_binds_remounts_read_only_and_unmounts(in_mntns: InChild, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "a target"
    source.mkdir()
    target.mkdir()
    (source / "file").write_text("content")

    def work() -> tuple[str, str, int | None, bool]:
        mount.mount(str(source), str(target), None, abi.MS_BIND)
        mount.mount(None, str(target), None, abi.MS_BIND | abi.MS_REMOUNT | abi.MS_RDONLY | abi.MS_NODEV)
        options, text = at(str(target)).options, (target / "file").read_text()
        code = None
        try:
            (target / "new").write_text("")
        except OSError as error:
            code = error.errno
        mount.umount2(str(target), abi.MNT_DETACH | abi.UMOUNT_NOFOLLOW)
        return options, text, code, os.path.exists(target / "file")

    options, text, code, still = in_mntns(work)
    assert {"ro", "nodev"} <= set(options.split(","))
    assert text == "content"
    assert code == errno.EROFS
    assert not still


def test_a_tmpfs_is_made_by_descriptors_and_appears_where_it_is_moved(in_mntns: InChild, tmp_path: Path) -> None:
    def work() -> tuple[str, str, str, str, int]:
        attributes = abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NODEV | abi.MOUNT_ATTR_NOEXEC
        options: list[tuple[str, str | None]] = [
            ("source", "shm"),
            ("size", "64k"),
            ("mode", "1700"),
            ("nr_inodes", "9"),
        ]
        detached = mount.new_mount("tmpfs", options, attributes)
        target = os.open(tmp_path, os.O_PATH)
        mount.move_mount(detached, "", target, "")
        found = at(str(tmp_path))
        return found.fstype, found.source, found.options, found.super_options, os.stat(tmp_path).st_mode & 0o7777

    fstype, source, options, super_options, mode = in_mntns(work)
    assert (fstype, source, mode) == ("tmpfs", "shm", 0o1700)
    assert {"nosuid", "nodev", "noexec"} <= set(options.split(","))
    assert "size=64k" in super_options
    assert not os.path.ismount(tmp_path)


def test_an_overlay_is_assembled_and_writes_go_to_its_upper_layer(in_mntns: InChild, tmp_path: Path) -> None:
    for name in ("lower1", "lower2", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower1/one").write_text("1")
    (tmp_path / "lower2/two").write_text("2")

    def work() -> list[str]:
        # The upper layer must not be an overlay itself, so it lies on a tmpfs.
        base = mount.new_mount("tmpfs", [])
        mount.move_mount(base, "", abi.AT_FDCWD, str(tmp_path / "work"))
        os.mkdir(tmp_path / "work/u")
        os.mkdir(tmp_path / "work/w")
        made = mount.new_mount(
            "overlay",
            [
                ("source", "overlay"),
                ("lowerdir", f"{tmp_path}/lower1:{tmp_path}/lower2"),
                ("upperdir", f"{tmp_path}/work/u"),
                ("workdir", f"{tmp_path}/work/w"),
                ("volatile", None),
            ],
        )
        mount.move_mount(made, "", abi.AT_FDCWD, str(tmp_path / "merged"))
        (tmp_path / "merged/three").write_text("3")
        assert at(str(tmp_path / "merged")).fstype == "overlay"
        return sorted(os.listdir(tmp_path / "merged")) + os.listdir(tmp_path / "work/u")

    assert in_mntns(work) == ["one", "three", "two", "three"]


def test_a_wrong_option_is_refused_in_the_kernels_own_words() -> None:
    with pytest.raises(OSError) as refused:
        mount.new_mount("tmpfs", [("size", "plenty")])
    assert refused.value.errno == errno.EINVAL
    assert "fsconfig SET_STRING size" in str(refused.value)
    assert "tmpfs: Bad value for 'size'" in str(refused.value)


def test_a_value_that_is_too_long_for_the_kernel_says_so() -> None:
    with pytest.raises(OSError) as refused:
        mount.new_mount("overlay", [("lowerdir", "/" + "x" * 255)])
    assert refused.value.errno == errno.EINVAL
    assert str(refused.value).endswith("fsconfig SET_STRING lowerdir: Invalid argument: value longer than 255 bytes")


def test_an_unknown_file_system_and_a_missing_target_are_named() -> None:
    with pytest.raises(OSError) as refused:
        mount.fsopen("no-such-fs")
    assert refused.value.errno == errno.ENODEV
    assert refused.value.filename == "no-such-fs"
    with pytest.raises(FileNotFoundError) as missing:
        mount.umount2("/no/such/mount")
    assert str(missing.value) == "[Errno 2] umount2: No such file or directory: '/no/such/mount'"


def test_a_path_with_an_embedded_nul_is_refused() -> None:
    with pytest.raises(OSError) as refused:
        mount.umount2("/proc\0/tail")
    assert refused.value.errno == errno.EINVAL


def test_open_tree_clones_a_tree_and_mount_setattr_makes_all_of_it_read_only(in_mntns: InChild, tmp_path: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "copy").mkdir()

    def work() -> tuple[list[int], list[str]]:
        mount.mount("tmpfs", str(tmp_path / "tree/sub"), "tmpfs")
        flags = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | abi.AT_RECURSIVE
        tree = mount.open_tree(abi.AT_FDCWD, str(tmp_path / "tree"), flags)
        mount.mount_setattr(tree, "", abi.AT_RECURSIVE, attr_set=abi.MOUNT_ATTR_RDONLY | abi.MOUNT_ATTR_NOSUID)
        mount.move_mount(tree, "", abi.AT_FDCWD, str(tmp_path / "copy"))
        codes = []
        for path in ("copy/new", "copy/sub/new", "tree/sub/new"):
            try:
                (tmp_path / path).write_text("")
                codes.append(0)
            except OSError as error:
                codes.append(error.errno or -1)
        return codes, [m.mount_point for m in mountinfo.under(mountinfo.read(), str(tmp_path / "copy"))]

    codes, mounts = in_mntns(work)
    assert codes == [errno.EROFS, errno.EROFS, 0]
    assert mounts == [str(tmp_path / "copy/sub"), str(tmp_path / "copy")]


def test_mount_setattr_changes_the_atime_mode_and_the_propagation(in_mntns: InChild, tmp_path: Path) -> None:
    def work() -> tuple[str, tuple[str, ...], tuple[str, ...]]:
        mount.mount("tmpfs", str(tmp_path), "tmpfs")
        mount.mount_setattr(
            abi.AT_FDCWD, str(tmp_path), 0, attr_set=abi.MOUNT_ATTR_NOATIME, attr_clr=abi.MOUNT_ATTR__ATIME
        )
        mount.mount_setattr(abi.AT_FDCWD, str(tmp_path), 0, propagation=abi.MS_SHARED)
        shared = at(str(tmp_path))
        mount.mount_setattr(abi.AT_FDCWD, str(tmp_path), 0, propagation=abi.MS_PRIVATE)
        return shared.options, shared.propagation, at(str(tmp_path)).propagation

    options, shared, private = in_mntns(work)
    assert "noatime" in options.split(",")
    assert shared[0].startswith("shared:")
    assert private == ()


def test_an_idmapped_mount_shows_other_owners(in_mntns: InChild, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "file").write_text("")
    hold, release = os.pipe()
    pid, pidfd = process.clone3(abi.CLONE_NEWUSER)
    if pid == 0:
        os.close(release)
        os.read(hold, 1)
        os._exit(0)
    os.close(hold)
    proc = procfs.open_proc()
    procfs.write_file(proc, f"{pid}/uid_map", "0 100000 1000")
    procfs.write_file(proc, f"{pid}/gid_map", "0 200000 1000")
    os.close(proc)
    userns = procfs.open_namespace(pid, "user")

    def work() -> tuple[int, int]:
        tree = mount.open_tree(abi.AT_FDCWD, str(source))
        mount.mount_setattr(tree, "", userns_fd=userns)
        mount.move_mount(tree, "", abi.AT_FDCWD, str(target))
        found = os.stat(target / "file")
        return found.st_uid, found.st_gid

    try:
        assert in_mntns(work) == (100000, 200000)
    finally:
        os.close(release)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)
        os.close(userns)


def test_pivot_root_with_dots_leaves_only_the_new_root(in_mntns: InChild, tmp_path: Path) -> None:
    def work() -> tuple[list[str], int]:
        root = mount.new_mount("tmpfs", [])
        mount.move_mount(root, "", abi.AT_FDCWD, str(tmp_path))
        os.mkdir(tmp_path / "inside")
        os.chdir(tmp_path)
        mount.pivot_root(".", ".")
        mount.umount2(".", abi.MNT_DETACH)
        os.chdir("/")
        proc = mount.new_mount("proc", [])
        return os.listdir("/"), len(mountinfo.parse(procfs.read_file("self/mountinfo", proc)))

    assert in_mntns(work) == (["inside"], 1)


def test_fspick_reconfigures_a_mounted_file_system(in_mntns: InChild, tmp_path: Path) -> None:
    def work() -> str:
        mount.mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=1m")
        context = mount.fspick(abi.AT_FDCWD, str(tmp_path))
        mount.fsconfig_set_string(context, "size", "2m")
        mount.fsconfig_reconfigure(context)
        return at(str(tmp_path)).super_options

    assert "size=2048k" in in_mntns(work)


def test_a_layer_is_given_to_overlay_by_descriptor(in_mntns: InChild, tmp_path: Path) -> None:
    for name in ("one", "two", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "one/a").write_text("")
    (tmp_path / "two/b").write_text("")

    def work() -> list[str] | str:
        context = mount.fsopen("overlay")
        for name in ("one", "two"):
            layer = os.open(tmp_path / name, os.O_PATH | os.O_DIRECTORY)
            try:
                mount.fsconfig_set_fd(context, "lowerdir+", layer)
            except OSError as error:
                return errno.errorcode[error.errno or 0]
        mount.fsconfig_create(context, exclusive=True)
        mount.move_mount(mount.fsmount(context, abi.MOUNT_ATTR_RDONLY), "", abi.AT_FDCWD, str(tmp_path / "merged"))
        return sorted(os.listdir(tmp_path / "merged"))

    # EINVAL before Linux 6.13.
    assert in_mntns(work) in (["a", "b"], "EINVAL", "ENOTSUP")
