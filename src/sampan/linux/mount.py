"""Mounting: the file-descriptor API (fsopen, fsmount, move_mount, open_tree, mount_setattr) and mount(2).

Sources: mount(2), umount(2), pivot_root(2), mount_setattr(2), fsopen(2) ff. A detached mount is an ordinary
file descriptor; the caller closes it. Errors: OSError with the call's name and the path.
"""

from __future__ import annotations

import os

from sampan.linux import abi
from sampan.linux.call import call, cstring, failure, u64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.linux.call import Path

_VALUE_MAX = 255  # the kernel's strndup_user limit for a value, without its NUL
_FSCONFIG_NAMES = {
    abi.FSCONFIG_SET_FLAG: "SET_FLAG",
    abi.FSCONFIG_SET_STRING: "SET_STRING",
    abi.FSCONFIG_SET_FD: "SET_FD",
    abi.FSCONFIG_CMD_CREATE: "CMD_CREATE",
    abi.FSCONFIG_CMD_CREATE_EXCL: "CMD_CREATE_EXCL",
    abi.FSCONFIG_CMD_RECONFIGURE: "CMD_RECONFIGURE",
}


def mount(
    source: Path | None, target: Path, fstype: str | None = None, flags: int = 0, data: Path | None = None
) -> None:
    """mount(2): flags are MS_*; data is the file system's comma-separated options, under one page."""
    call(
        "mount",
        None if source is None else cstring("mount", source),
        cstring("mount", target),
        None if fstype is None else cstring("mount", fstype),
        flags,
        None if data is None else cstring("mount", data),
        path=target,
    )


def umount2(target: Path, flags: int = 0) -> None:
    """umount2(2): flags are MNT_DETACH, MNT_FORCE, UMOUNT_NOFOLLOW."""
    call("umount2", cstring("umount2", target), flags, path=target)


def pivot_root(new_root: Path, put_old: Path) -> None:
    """pivot_root(2). With "." and "." the old root is stacked over the new one and can be detached by "."."""
    call("pivot_root", cstring("pivot_root", new_root), cstring("pivot_root", put_old), path=new_root)


def fsopen(fstype: str, flags: int = abi.FSOPEN_CLOEXEC) -> int:
    """A fd of a new file system context. Errors: ENODEV when the kernel lacks the type. fsopen(2)."""
    return call("fsopen", cstring("fsopen", fstype), flags, path=fstype)


def fspick(dirfd: int, path: Path, flags: int = abi.FSPICK_CLOEXEC) -> int:
    """A fd of a context over the mounted file system at `path`, for reconfiguration. fspick(2)."""
    return call("fspick", dirfd, cstring("fspick", path), flags, path=path)


def context_log(fd: int) -> list[str]:
    """The messages that the kernel holds for this context, oldest first, each read once.

    A message begins with "e " (error), "w " (warning) or "i " (info). fsopen(2).
    """
    messages: list[str] = []
    while True:
        try:
            line = os.read(fd, 4096)
        except OSError:
            return messages  # ENODATA: the log is empty
        messages.append(line.decode("utf-8", "replace").rstrip("\n"))


def _fsconfig(fd: int, command: int, key: str | None, value: bytes | None, aux: int = 0) -> None:
    try:
        call("fsconfig", fd, command, None if key is None else cstring("fsconfig", key), value, aux)
    except OSError as error:
        # errno alone is nearly always EINVAL; the reason is only in the context's log.
        what = " ".join(part for part in (_FSCONFIG_NAMES[command], key) if part)
        reason = "; ".join(line[2:] for line in context_log(fd) if line.startswith("e "))
        if value is not None and len(value) > _VALUE_MAX:
            reason = f"value longer than {_VALUE_MAX} bytes"
        raise failure(f"fsconfig {what}", error.errno or 0, None, reason) from None


def fsconfig_set_flag(fd: int, key: str) -> None:
    """Set a parameter without value, as `ro` or `volatile`. fsconfig(2)."""
    _fsconfig(fd, abi.FSCONFIG_SET_FLAG, key, None)


def fsconfig_set_string(fd: int, key: str, value: Path) -> None:
    """Set `key` to `value`, at most 255 bytes. `source` is the device or name that mountinfo shows. fsconfig(2)."""
    _fsconfig(fd, abi.FSCONFIG_SET_STRING, key, cstring("fsconfig", value))


def fsconfig_set_fd(fd: int, key: str, value: int) -> None:
    """Set `key` to an open file descriptor, as overlay's `lowerdir+` (kernel 6.13). fsconfig(2)."""
    _fsconfig(fd, abi.FSCONFIG_SET_FD, key, None, value)


def fsconfig_create(fd: int, exclusive: bool = False) -> None:
    """Make the superblock; `exclusive` refuses (EBUSY) to share one that exists (kernel 6.6). fsconfig(2)."""
    _fsconfig(fd, abi.FSCONFIG_CMD_CREATE_EXCL if exclusive else abi.FSCONFIG_CMD_CREATE, None, None)


def fsconfig_reconfigure(fd: int) -> None:
    """Apply the parameters to the superblock of an `fspick` context. fsconfig(2)."""
    _fsconfig(fd, abi.FSCONFIG_CMD_RECONFIGURE, None, None)


def fsmount(fd: int, attributes: int = 0, flags: int = abi.FSMOUNT_CLOEXEC) -> int:
    """A fd of a detached mount of a created context, with MOUNT_ATTR_* `attributes`. fsmount(2)."""
    try:
        return call("fsmount", fd, flags, attributes)
    except OSError as error:
        reason = "; ".join(line[2:] for line in context_log(fd) if line.startswith("e "))
        raise failure("fsmount", error.errno or 0, None, reason) from None


def new_mount(fstype: str, options: list[tuple[str, str | None]], attributes: int = 0) -> int:
    """fsopen, fsconfig, fsmount in one: the fd of a detached mount of `fstype`.

    `options` are (key, value) strings, value None for a flag.
    """
    context = fsopen(fstype)
    try:
        for key, value in options:
            if value is None:
                fsconfig_set_flag(context, key)
            else:
                fsconfig_set_string(context, key, value)
        fsconfig_create(context)
        return fsmount(context, attributes)
    finally:
        os.close(context)


def move_mount(from_fd: int, from_path: Path, to_fd: int, to_path: Path, flags: int | None = None) -> None:
    """Attach a detached mount, or move one, onto to_fd/to_path. move_mount(2).

    Without `flags` an empty path stands for the fd itself on either side, and symlinks are not followed.
    """
    if flags is None:
        flags = 0
        if not from_path:
            flags |= abi.MOVE_MOUNT_F_EMPTY_PATH
        if not to_path:
            flags |= abi.MOVE_MOUNT_T_EMPTY_PATH
    source, target = cstring("move_mount", from_path), cstring("move_mount", to_path)
    call("move_mount", from_fd, source, to_fd, target, flags, path=to_path or f"fd {to_fd}")


def open_tree(dirfd: int, path: Path, flags: int = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC) -> int:
    """A fd of the mount at dirfd/path; with OPEN_TREE_CLONE a detached copy (a bind mount).

    AT_RECURSIVE copies submounts too; AT_EMPTY_PATH takes dirfd itself; AT_SYMLINK_NOFOLLOW. open_tree(2).
    """
    return call("open_tree", dirfd, cstring("open_tree", path), flags, path=path or f"fd {dirfd}")


def mount_setattr(
    dirfd: int,
    path: Path,
    flags: int = 0,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """Change MOUNT_ATTR_* and propagation (MS_PRIVATE, MS_SLAVE, ...) of a mount; AT_RECURSIVE for its tree.

    An empty path with AT_EMPTY_PATH (added here) is dirfd itself. A `userns_fd` (never 0) adds MOUNT_ATTR_IDMAP and
    needs a detached mount. To set an atime mode other than relatime, clear MOUNT_ATTR__ATIME. mount_setattr(2).
    """
    if not path:
        flags |= abi.AT_EMPTY_PATH
    if userns_fd:
        attr_set |= abi.MOUNT_ATTR_IDMAP
    attr = u64(attr_set, attr_clr, propagation, userns_fd)
    name = cstring("mount_setattr", path)
    call("mount_setattr", dirfd, name, flags, attr, len(attr), path=path or f"fd {dirfd}")
