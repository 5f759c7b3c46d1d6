"""The root file system of a container whose runtime is not ours: mounted on the host. Source: mount(8), containerd's
mount shape (options as in fstab, flags and data mixed)."""

from __future__ import annotations

import errno
import os

from sampan.linux import abi, mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FLAGS: dict[str, int] = {
    "ro": abi.MS_RDONLY,
    "rw": 0,
    "nosuid": abi.MS_NOSUID,
    "nodev": abi.MS_NODEV,
    "noexec": abi.MS_NOEXEC,
    "noatime": abi.MS_NOATIME,
    "nodiratime": abi.MS_NODIRATIME,
    "relatime": abi.MS_RELATIME,
    "strictatime": abi.MS_STRICTATIME,
    "bind": abi.MS_BIND,
    "rbind": abi.MS_BIND | abi.MS_REC,
    "defaults": 0,
}
"""Options that are flags of mount(2); every other one is data for the file system."""


def split_options(options: list[str]) -> tuple[int, str]:
    """(flags, data)."""
    flags = 0
    data: list[str] = []
    for option in options:
        if option in FLAGS:
            flags |= FLAGS[option]
        else:
            data.append(option)
    return flags, ",".join(data)


def mount_rootfs(mounts: list[dict[str, Any]], rootfs: str) -> None:
    """Mount each at `rootfs` (made when missing), or at "target" below it. OSError; then nothing is mounted."""
    if not mounts:
        return
    os.makedirs(rootfs, exist_ok=True)
    try:
        for wanted in mounts:
            flags, data = split_options(wanted["options"])
            target = os.path.join(rootfs, (wanted.get("target") or "").lstrip("/"))
            mount.mount(wanted["source"], target, wanted["type"], flags, data or None)
            if flags & abi.MS_BIND and flags & abi.MS_RDONLY:
                # A bind mount takes its flags only when it is mounted again.
                mount.mount(None, target, None, flags & ~abi.MS_REC | abi.MS_REMOUNT)
    except BaseException:
        unmount_rootfs(mounts, rootfs)
        raise


def unmount_rootfs(mounts: list[dict[str, Any]], rootfs: str) -> None:
    """Undo `mount_rootfs`, in reverse; what is not mounted is no error. OSError."""
    for wanted in reversed(mounts):
        target = os.path.join(rootfs, (wanted.get("target") or "").lstrip("/"))
        try:
            mount.umount2(target, abi.MNT_DETACH | abi.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
