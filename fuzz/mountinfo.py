"""/proc/PID/mountinfo, whose paths anyone may choose who may mount."""

from __future__ import annotations

from random import Random

from sampan.linux import cgroupfs, mountinfo

SEEDS = [
    b"24 31 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
    b"31 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,errors=remount-ro\n",
    b"36 35 98:0 /mnt1 /mnt\\0402 rw master:1 propagate_from:2 unbindable - ext3 /dev/root rw\n",
    b"40 24 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    b"41 24 0:31 / /sys/fs/cgroup/unified rw - cgroup2 c rw\n",
]
ERRORS = (ValueError,)


def feed(data: bytes, random: Random) -> None:
    """And what is made of it: the tree below a directory, the cgroup hierarchies."""
    mounts = mountinfo.parse(data.decode("utf-8", "surrogateescape"))
    mountinfo.under(mounts, "/sys")
    cgroupfs.mode(cgroupfs.hierarchies(mounts))
