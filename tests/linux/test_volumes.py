"""Volumes on the real kernel: option mounts, and copy-up of what only root can make."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.engine.volumes.test_local import Containers, Heard

from sampan.engine.volumes.copyup import copy_if_empty
from sampan.engine.volumes.local import LocalVolumes
from sampan.errors import Error

pytestmark = pytest.mark.root


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[LocalVolumes]:
    connection = sqlite3.connect(tmp_path / "db")
    made = LocalVolumes(connection, str(tmp_path), events=Heard(), usage=Containers())
    yield made
    for volume in made.list():
        made.unmount(volume.name)
    connection.close()


def mounted(path: str) -> list[str]:
    """(type, options) of what is mounted exactly there, as "type options"."""
    with open("/proc/self/mountinfo") as table:
        fields = [line.split() for line in table]
    return [f"{one[one.index('-') + 1]} {one[5]} {one[-1]}" for one in fields if one[4] == path]


def test_a_tmpfs_volume_is_mounted_once_with_its_options_and_goes_with_removal(volumes: LocalVolumes) -> None:
    made = volumes.create("ram", options={"type": "tmpfs", "device": "tmpfs", "o": "size=1m,nosuid,mode=0700"})
    assert mounted(made.mountpoint) == []
    for _ in range(2):
        assert volumes.mount("ram") == made.mountpoint
    (found,) = mounted(made.mountpoint)
    assert found.startswith("tmpfs rw,nosuid")
    assert "size=1024k" in found
    assert stat.S_IMODE(os.stat(made.mountpoint).st_mode) == 0o700
    volumes.unmount("ram")
    assert mounted(made.mountpoint) == []
    volumes.mount("ram")
    volumes.remove("ram")
    assert mounted(made.mountpoint) == []
    assert not os.path.exists(os.path.dirname(made.mountpoint))


def test_a_bound_directory_is_shown_and_survives_the_volume(volumes: LocalVolumes, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_text("x")
    options = {"type": "none", "device": str(tmp_path / "elsewhere"), "o": "bind,ro"}
    made = volumes.create("bound", options=options)
    volumes.mount("bound")
    volumes.mount("bound")
    assert os.listdir(made.mountpoint) == ["kept"]
    assert len(mounted(made.mountpoint)) == 1
    with pytest.raises(OSError, match="Read-only"):
        Path(made.mountpoint, "new").write_text("x")
    volumes.remove("bound")
    assert (tmp_path / "elsewhere" / "kept").read_text() == "x"


def test_a_mount_that_the_kernel_refuses_is_told_in_dockers_words(volumes: LocalVolumes) -> None:
    made = volumes.create("bad", options={"type": "none", "device": "/no/such/place", "o": "bind"})
    with pytest.raises(Error) as caught:
        volumes.mount("bad")
    assert str(caught.value) == (
        f"error while mounting volume '{made.mountpoint}': failed to mount local volume: "
        f"mount /no/such/place:{made.mountpoint}, flags: 0x1000: no such file or directory"
    )


def test_copy_up_keeps_owners_devices_and_capabilities(tmp_path: Path) -> None:
    image, volume = tmp_path / "image", tmp_path / "volume"
    image.mkdir()
    volume.mkdir()
    os.mknod(image / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.chmod(image / "null", 0o666)
    (image / "tool").write_text("x")
    os.chown(image / "tool", 1000, 1001)
    os.chmod(image / "tool", 0o6755)
    # cap_net_raw+ep, VFS_CAP_REVISION_2 (capability.h)
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(image / "tool", "security.capability", capability)
    os.symlink("tool", image / "link")
    os.chown(image / "link", 5, 6, follow_symlinks=False)
    os.chown(image, 33, 34)
    fd = os.open(image, os.O_PATH)
    copy_if_empty(fd, str(volume))
    os.close(fd)
    null, tool = os.stat(volume / "null"), os.stat(volume / "tool")
    assert stat.S_ISCHR(null.st_mode)
    assert (null.st_rdev, stat.S_IMODE(null.st_mode)) == (os.makedev(1, 3), 0o666)
    assert (tool.st_uid, tool.st_gid, stat.S_IMODE(tool.st_mode)) == (1000, 1001, 0o6755)
    assert os.getxattr(volume / "tool", "security.capability") == capability
    link = os.lstat(volume / "link")
    assert (link.st_uid, link.st_gid) == (5, 6)
    assert (os.stat(volume).st_uid, os.stat(volume).st_gid) == (33, 34)
