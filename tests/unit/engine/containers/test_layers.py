"""Overlay lookup by hand: what the kernel's overlayfs would show."""

from __future__ import annotations

import os

import pytest

from sampan.containerd.services import Mount
from sampan.engine.containers import layers


def tree(root, files):
    for path, content in files.items():
        os.makedirs(os.path.dirname(f"{root}/{path}"), exist_ok=True)
        if content.startswith("->"):
            os.symlink(content[2:], f"{root}/{path}")
        else:
            with open(f"{root}/{path}", "w", encoding="utf-8") as file:
                file.write(content)
    os.makedirs(root, exist_ok=True)
    return str(root)


@pytest.fixture
def stack(tmp_path):
    upper = tree(tmp_path / "upper", {"etc/new": "upper", "link/etc": "->/etc"})
    middle = tree(tmp_path / "middle", {"etc/passwd": "middle"})
    lower = tree(tmp_path / "lower", {"etc/passwd": "lower", "etc/group": "lower", "etc/mtab": "->../proc/mounts"})
    return [upper, middle, lower]


def test_the_topmost_layer_that_has_a_name_wins(stack):
    assert layers.read_file(stack, "/etc/passwd", 100) == b"middle"
    assert layers.read_file(stack, "/etc/group", 100) == b"lower"
    assert layers.read_file(stack, "etc/new", 100) == b"upper"
    assert layers.read_file(stack, "/etc/none", 100) == b""


def test_reading_stops_at_the_limit(stack):
    assert layers.read_file(stack, "/etc/passwd", 3) == b"mid"


def test_symlinks_are_followed_inside_the_stack_only(stack, tmp_path):
    tree(tmp_path / "upper", {"abs": "->/etc/group", "rel": "->etc/passwd", "out": "->../../../../etc/group"})
    assert layers.read_file(stack, "/abs", 100) == b"lower"
    assert layers.read_file(stack, "/rel", 100) == b"middle"
    assert layers.read_file(stack, "/out", 100) == b"lower"
    assert layers.read_file(stack, "/link/etc/passwd", 100) == b"middle"


def test_a_name_that_no_file_system_takes_is_missing(stack):
    assert layers.kind(stack, "/etc\0/x") == "missing"


def test_a_loop_of_symlinks_is_missing(stack, tmp_path):
    tree(tmp_path / "upper", {"a": "->b", "b": "->a"})
    assert layers.kind(stack, "/a") == "missing"


def test_a_whiteout_hides_what_is_below(stack, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("needs root: a whiteout is a device node")
    os.mknod(tmp_path / "upper/etc/group", 0o020000, os.makedev(0, 0))
    assert layers.read_file(stack, "/etc/group", 100) == b""


def test_an_opaque_directory_hides_everything_below(stack, tmp_path):
    try:
        os.setxattr(tmp_path / "upper/etc", "trusted.overlay.opaque", b"y")
    except OSError:
        pytest.skip("needs root and a file system with trusted attributes")
    assert layers.kind(stack, "/etc/passwd") == "missing"
    assert layers.kind(stack, "/etc/new") == "file"


def test_kinds(stack, tmp_path):
    os.makedirs(tmp_path / "lower/void")
    assert [layers.kind(stack, path) for path in ("/etc", "/void", "/etc/passwd", "/x", "/etc/passwd/x")] == [
        "directory",
        "empty",
        "file",
        "missing",
        "missing",
    ]


def test_no_fd_is_left_open(stack):
    before = len(os.listdir("/proc/self/fd"))
    for path in ("/etc/passwd", "/etc", "/none", "/link/etc/passwd"):
        layers.read_file(stack, path, 10)
        layers.kind(stack, path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_directories_of_a_snapshots_mounts():
    overlay = Mount("overlay", "overlay", ["lowerdir=/b:/a", "upperdir=/u", "workdir=/w"])
    assert layers.directories([overlay]) == ["/u", "/b", "/a"]
    assert layers.directories([Mount("bind", "/x", ["rw"])]) == ["/x"]
    assert layers.directories([Mount("erofs", "/x", [])]) is None
