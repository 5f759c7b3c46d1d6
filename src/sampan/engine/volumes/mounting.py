"""Options of a local volume: `type`, `o`, `device` as mount(8) takes them, checked and turned into mount(2)."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from sampan.errors import Error, InvalidArgument
from sampan.linux import abi
from sampan.linux import mount as syscalls

# Option -> those that must come with it.
_NEEDS = {"type": ("device",), "device": ("type",), "o": ("device", "type")}

# fstab option -> (flag, whether it sets the flag).
_FLAGS = {
    "ro": (abi.MS_RDONLY, True),
    "rw": (abi.MS_RDONLY, False),
    "nosuid": (abi.MS_NOSUID, True),
    "suid": (abi.MS_NOSUID, False),
    "nodev": (abi.MS_NODEV, True),
    "dev": (abi.MS_NODEV, False),
    "noexec": (abi.MS_NOEXEC, True),
    "exec": (abi.MS_NOEXEC, False),
    "sync": (abi.MS_SYNCHRONOUS, True),
    "async": (abi.MS_SYNCHRONOUS, False),
    "dirsync": (abi.MS_DIRSYNC, True),
    "noatime": (abi.MS_NOATIME, True),
    "atime": (abi.MS_NOATIME, False),
    "nodiratime": (abi.MS_NODIRATIME, True),
    "diratime": (abi.MS_NODIRATIME, False),
    "relatime": (abi.MS_RELATIME, True),
    "norelatime": (abi.MS_RELATIME, False),
    "strictatime": (abi.MS_STRICTATIME, True),
    "nostrictatime": (abi.MS_STRICTATIME, False),
    "bind": (abi.MS_BIND, True),
    "rbind": (abi.MS_BIND | abi.MS_REC, True),
    "defaults": (0, True),
}


def check(name: str, options: Mapping[str, str]) -> None:
    """InvalidArgument `create NAME: ...` in Docker's words."""
    for option in options:
        if option == "size":
            raise InvalidArgument(f"create {name}: quota size requested but no quota support")
        if option not in _NEEDS:
            raise InvalidArgument(f'create {name}: invalid option: "{option}"')
    for option, needed in _NEEDS.items():
        for other in needed:
            if option in options and other not in options:
                raise InvalidArgument(f'create {name}: missing required option: "{other}"')


def parse(text: str) -> tuple[int, str]:
    """ "ro,bind,size=10m" as (MS_* flags, the file system's own options)."""
    flags, data = 0, []
    for word in text.split(","):
        if word in _FLAGS:
            flag, sets = _FLAGS[word]
            flags = flags | flag if sets else flags & ~flag
        elif word:
            data.append(word)
    return flags, ",".join(data)


def mount(target: str, options: Mapping[str, str]) -> None:
    """Mount over `target` what `options` describe, unless something is mounted there. Error in Docker's words."""
    if os.path.ismount(target) or _is_bound(target):
        return
    device, kind = options.get("device", ""), options.get("type", "")
    flags, data = parse(_with_address(options.get("o", ""), kind))
    if not kind and not device:
        return
    try:
        syscalls.mount(device, target, kind, flags, data)
        if flags & abi.MS_BIND and flags & abi.MS_RDONLY:
            # A bind mount takes its other flags only in a second call (mount(2), "Remounting").
            syscalls.mount(device, target, kind, flags | abi.MS_REMOUNT, data)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise Error(
            f"error while mounting volume '{target}': failed to mount local volume: mount {device}:{target}"
            + (f", flags: {flags:#x}" if flags else "")
            + (f", data: {data}" if data else "")
            + f": {reason}"
        ) from error


def unmount(target: str) -> None:
    """Undo `mount`; nothing when it was not mounted. OSError."""
    while os.path.ismount(target) or _is_bound(target):
        syscalls.umount2(target, abi.MNT_DETACH)


def _is_bound(target: str) -> bool:
    # os.path.ismount compares devices, so it misses a bind of a directory of the same file system.
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        escaped = target.replace("\\", r"\134").replace(" ", r"\040").replace("\t", r"\011").replace("\n", r"\012")
        return any(line.split(" ", 5)[4] == escaped for line in table)


def _with_address(text: str, kind: str) -> str:
    """NFS wants an address where people write a name: the kernel does not resolve."""
    words = text.split(",")
    for index, word in enumerate(words):
        if word.startswith("addr=") and kind in ("nfs", "nfs4", "cifs", "smb3"):
            try:
                words[index] = "addr=" + socket.gethostbyname(word.removeprefix("addr="))
            except OSError as error:
                raise Error(f"error resolving passed in network volume address: {error}") from error
    return ",".join(words)
