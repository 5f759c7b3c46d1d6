"""Splitting mount options. The mounts themselves: tests/contract/test_tasks.py with runc."""

import pytest

from sampan.keeper.mounting import mount_rootfs, split_options
from sampan.linux import abi


@pytest.mark.parametrize(
    ("options", "flags", "data"),
    [
        ([], 0, ""),
        (["rbind", "ro"], abi.MS_BIND | abi.MS_REC | abi.MS_RDONLY, ""),
        (["lowerdir=/a:/b", "nosuid", "upperdir=/u"], abi.MS_NOSUID, "lowerdir=/a:/b,upperdir=/u"),
        (["rw", "volatile"], 0, "volatile"),
    ],
)
def test_flags_and_data_are_told_apart(options, flags, data):
    assert split_options(options) == (flags, data)


def test_without_mounts_nothing_is_made(tmp_path):
    mount_rootfs([], str(tmp_path / "rootfs"))
    assert not (tmp_path / "rootfs").exists()
