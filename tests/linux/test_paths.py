"""Opening inside a rootfs: nothing leads out, whatever links and races the rootfs holds."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sampan.linux import abi, mount, paths

pytestmark = pytest.mark.root

InChild = Callable[..., Any]


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    root = tmp_path / "rootfs"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/passwd").write_text("outside")
    return root


@pytest.fixture
def rootfd(rootfs: Path) -> Iterator[int]:
    fd = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def content(fd: int) -> str:
    with os.fdopen(fd) as file:
        return file.read()


def where(fd: int) -> str:
    try:
        return paths.fd_path(fd)
    finally:
        os.close(fd)


def everything(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_absolute_paths_links_and_dots_stay_inside_the_root(rootfs: Path, rootfd: int) -> None:
    (rootfs / "absolute").symlink_to("/etc")
    (rootfs / "climbing").symlink_to("../../../../../etc/passwd")
    for path in ("/etc/passwd", "etc/passwd", "absolute/passwd", "climbing", "../../etc/passwd", "/../etc/passwd"):
        assert content(paths.open_in_root(rootfd, path, os.O_RDONLY)) == "inside", path


def test_a_file_outside_of_the_root_is_not_found_through_a_link(tmp_path: Path, rootfs: Path, rootfd: int) -> None:
    (rootfs / "leak").symlink_to(tmp_path / "outside/passwd")
    (rootfs / "climb").symlink_to("../outside/passwd")
    for path in ("leak", "climb"):
        with pytest.raises(FileNotFoundError) as missing:
            paths.open_in_root(rootfd, path, os.O_RDONLY)
        assert missing.value.filename == path


def test_a_magic_link_is_refused(in_mntns: InChild, rootfs: Path) -> None:
    (rootfs / "proc").mkdir()

    def work() -> int | None:
        proc = mount.new_mount("proc", [])
        mount.move_mount(proc, "", abi.AT_FDCWD, str(rootfs / "proc"))
        root = os.open(rootfs, os.O_PATH)
        try:
            paths.open_in_root(root, "/proc/self/root/etc/hostname", os.O_RDONLY)
        except OSError as error:
            return error.errno
        return 0

    assert in_mntns(work) == errno.ELOOP


def test_openat2_refuses_what_it_is_told_to_refuse(rootfs: Path, rootfd: int) -> None:
    (rootfs / "link").symlink_to("etc")
    for path, resolve, code in (
        ("../outside", abi.RESOLVE_BENEATH, errno.EXDEV),
        ("/etc", abi.RESOLVE_BENEATH, errno.EXDEV),
        ("link/passwd", abi.RESOLVE_NO_SYMLINKS, errno.ELOOP),
    ):
        with pytest.raises(OSError) as refused:
            paths.openat2(rootfd, path, os.O_RDONLY, 0, resolve)
        assert refused.value.errno == code, path
        assert "openat2" in str(refused.value)


def test_openat2_makes_a_file_with_its_mode_and_close_on_exec(rootfs: Path, rootfd: int) -> None:
    fd = paths.open_in_root(rootfd, "/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    assert not os.get_inheritable(fd)
    os.close(fd)
    assert (rootfs / "new").stat().st_mode & 0o777 == 0o640


def test_directories_are_made_with_their_parents(rootfs: Path, rootfd: int) -> None:
    assert where(paths.mkdirs_in_root(rootfd, "/var/lib/./data//x", 0o711)) == f"{rootfs}/var/lib/data/x"
    assert (rootfs / "var/lib/data/x").stat().st_mode & 0o777 == 0o711
    assert where(paths.mkdirs_in_root(rootfd, "var/lib")) == f"{rootfs}/var/lib"
    assert where(paths.mkdirs_in_root(rootfd, "/")) == str(rootfs)


def test_making_directories_follows_links_inside_the_root_only(tmp_path: Path, rootfs: Path, rootfd: int) -> None:
    (rootfs / "run").mkdir()
    (rootfs / "var").mkdir()
    (rootfs / "var/run").symlink_to("/run")
    (rootfs / "dangling").symlink_to("/not/yet/../there")
    (rootfs / "climb").symlink_to("../../outside")
    assert where(paths.mkdirs_in_root(rootfd, "/var/run/lock")) == f"{rootfs}/run/lock"
    assert where(paths.mkdirs_in_root(rootfd, "/dangling/deep")) == f"{rootfs}/not/there/deep"
    assert where(paths.mkdirs_in_root(rootfd, "/climb/deep")) == f"{rootfs}/outside/deep"
    assert where(paths.mkdirs_in_root(rootfd, "/../../../up")) == f"{rootfs}/up"
    assert everything(tmp_path / "outside") == ["passwd"]


def test_something_else_in_the_way_is_not_a_directory(rootfs: Path, rootfd: int) -> None:
    with pytest.raises(NotADirectoryError):
        paths.mkdirs_in_root(rootfd, "/etc/passwd/deeper")
    with pytest.raises(NotADirectoryError):
        paths.mkdirs_in_root(rootfd, "/etc/passwd")
    (rootfs / "one").symlink_to("two")
    (rootfs / "two").symlink_to("one")
    with pytest.raises(OSError) as loop:
        paths.mkdirs_in_root(rootfd, "/one/deep")
    assert loop.value.errno == errno.ELOOP


def test_a_file_is_made_where_nothing_stands_and_left_where_something_does(rootfs: Path, rootfd: int) -> None:
    fd = paths.create_file_in_root(rootfd, "/etc/conf.d/new.conf")
    assert stat.S_ISREG(os.fstat(fd).st_mode)
    assert where(fd) == f"{rootfs}/etc/conf.d/new.conf"
    held = paths.create_file_in_root(rootfd, "/etc/passwd")
    assert content(paths.reopen(held, os.O_RDONLY)) == "inside"
    os.close(held)
    assert where(paths.create_file_in_root(rootfd, "/etc")) == f"{rootfs}/etc"


def test_a_dangling_link_to_a_file_makes_its_target_inside(tmp_path: Path, rootfs: Path, rootfd: int) -> None:
    (rootfs / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub.conf")
    (rootfs / "etc/evil").symlink_to(tmp_path / "outside/made")
    assert where(paths.create_file_in_root(rootfd, "/etc/resolv.conf")) == f"{rootfs}/run/systemd/resolve/stub.conf"
    assert where(paths.create_file_in_root(rootfd, "/etc/evil")) == f"{rootfs}{tmp_path}/outside/made"
    assert everything(tmp_path / "outside") == ["passwd"]


def test_a_walk_that_a_rename_races_never_leaves_the_root(tmp_path: Path, rootfs: Path, rootfd: int) -> None:
    """A directory is swapped for a link to the outside and back, again and again, while paths below it are made."""
    (rootfs / "swap/in").mkdir(parents=True)
    (rootfs / "evil").symlink_to(tmp_path / "outside")
    stop_r, stop_w = os.pipe()
    os.set_blocking(stop_r, False)
    pid = os.fork()
    if pid == 0:
        root = os.open(rootfs, os.O_PATH)
        os.close(stop_w)
        while True:
            paths.renameat2(root, "swap", root, "evil", abi.RENAME_EXCHANGE)
            try:
                if os.read(stop_r, 1) == b"":
                    os._exit(0)
            except BlockingIOError:
                pass
    for number in range(300):
        try:
            os.close(paths.mkdirs_in_root(rootfd, f"/swap/in/{number}/x"))
        except OSError as error:
            assert error.errno in (errno.ENOENT, errno.EAGAIN, errno.ENOTDIR)
    os.close(stop_w)
    os.close(stop_r)
    os.waitpid(pid, 0)
    assert everything(tmp_path / "outside") == ["passwd"]


def test_the_parent_and_the_last_name_are_given_for_nodes_and_links(rootfs: Path, rootfd: int) -> None:
    parent, name = paths.parent_in_root(rootfd, "/dev/net/tun")
    os.mknod(name, 0o600 | stat.S_IFCHR, os.makedev(10, 200), dir_fd=parent)
    os.close(parent)
    assert (rootfs / "dev/net/tun").stat().st_rdev == os.makedev(10, 200)
    parent, name = paths.parent_in_root(rootfd, "top")
    assert (where(parent), name) == (str(rootfs), "top")
    for path in ("/", "", "/etc/..", "."):
        with pytest.raises(OSError) as refused:
            paths.parent_in_root(rootfd, path)
        assert refused.value.errno == errno.EINVAL


def test_a_link_behind_a_descriptor_is_read(rootfs: Path, rootfd: int) -> None:
    (rootfs / "link").symlink_to("some/where")
    fd = os.open("link", os.O_PATH | os.O_NOFOLLOW, dir_fd=rootfd)
    assert paths.readlink_fd(fd) == "some/where"
    os.close(fd)


def test_the_type_of_a_file_system_is_the_kernels_magic() -> None:
    for path, magic in (
        ("/proc", abi.PROC_SUPER_MAGIC),
        ("/sys", abi.SYSFS_MAGIC),
        ("/dev/pts", abi.DEVPTS_SUPER_MAGIC),
    ):
        fd = os.open(path, os.O_PATH)
        assert paths.fstatfs_type(fd) == magic
        os.close(fd)


def test_renameat2_refuses_to_replace_when_told(rootfs: Path, rootfd: int) -> None:
    (rootfs / "a").write_text("a")
    (rootfs / "b").write_text("b")
    with pytest.raises(FileExistsError):
        paths.renameat2(rootfd, "a", rootfd, "b", abi.RENAME_NOREPLACE)
    paths.renameat2(rootfd, "a", rootfd, "b", abi.RENAME_EXCHANGE)
    assert (rootfs / "a").read_text() == "b"
