"""Copy-up on real directories, as far as it needs no root."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from sampan.engine.volumes.copyup import copy_if_empty


def copied(source: Path, target: Path) -> None:
    fd = os.open(source, os.O_PATH | os.O_DIRECTORY)
    try:
        copy_if_empty(fd, str(target))
    finally:
        os.close(fd)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "image").mkdir()
    (tmp_path / "volume").mkdir()
    return tmp_path / "image", tmp_path / "volume"


def test_a_tree_arrives_with_types_modes_times_and_links(places: tuple[Path, Path]) -> None:
    image, volume = places
    (image / "dir").mkdir(mode=0o750)
    (image / "dir" / "file").write_text("hello")
    (image / "dir" / "file").chmod(0o4711)
    os.utime(image / "dir" / "file", ns=(10**9, 2 * 10**9))
    (image / "same").hardlink_to(image / "dir" / "file")
    (image / "link").symlink_to("/nowhere/../x")
    os.mkfifo(image / "pipe", 0o600)
    image.chmod(0o1777)
    os.utime(image / "dir", ns=(3 * 10**9, 4 * 10**9))
    copied(image, volume)
    status = (volume / "dir" / "file").stat()
    assert (volume / "dir" / "file").read_text() == "hello"
    assert stat.S_IMODE(status.st_mode) == 0o4711
    assert status.st_mtime_ns == 2 * 10**9
    assert (volume / "same").stat().st_ino == status.st_ino
    assert os.readlink(volume / "link") == "/nowhere/../x"
    assert stat.S_ISFIFO((volume / "pipe").lstat().st_mode)
    assert stat.S_IMODE((volume / "dir").stat().st_mode) == 0o750
    assert (volume / "dir").stat().st_mtime_ns == 4 * 10**9
    assert stat.S_IMODE(volume.stat().st_mode) == 0o1777


def test_a_volume_that_has_something_is_left_alone(places: tuple[Path, Path]) -> None:
    image, volume = places
    (image / "new").write_text("x")
    (volume / "old").write_text("y")
    mode = volume.stat().st_mode
    image.chmod(0o700)
    copied(image, volume)
    assert os.listdir(volume) == ["old"]
    assert volume.stat().st_mode == mode


def test_a_link_of_the_image_does_not_lead_out(places: tuple[Path, Path], tmp_path: Path) -> None:
    """A symlink is copied as a symlink; what it points at is neither read nor written."""
    image, volume = places
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("host")
    (image / "dir").symlink_to(secret)
    copied(image, volume)
    assert os.readlink(volume / "dir") == str(secret)
    assert os.listdir(secret) == ["file"]


def test_extended_attributes_come_along(places: tuple[Path, Path]) -> None:
    image, volume = places
    (image / "file").write_text("x")
    try:
        os.setxattr(image / "file", "user.note", b"1")
    except OSError:
        pytest.skip("the file system of the test directory has no extended attributes")
    copied(image, volume)
    assert os.getxattr(volume / "file", "user.note") == b"1"


def test_a_large_file_arrives_whole(places: tuple[Path, Path]) -> None:
    image, volume = places
    content = os.urandom(3 << 20) + b"end"
    (image / "big").write_bytes(content)
    copied(image, volume)
    assert (volume / "big").read_bytes() == content
