"""Opening paths without leaving a directory: openat2 and what is built on it for a container's rootfs.

Model: `rootfd` is an O_PATH or directory fd of the rootfs. A path given to an `*_in_root` function is read as
the container would read it: absolute and relative alike start at rootfd, ".." stops there, symlinks are followed
inside. No function looks up a path twice, so a container that swaps a directory for a symlink meanwhile gains
nothing (CVE-2021-30465). Every fd returned is close-on-exec and the caller's. Sources: openat2(2), path_resolution(7).
"""

from __future__ import annotations

import errno
import os
import stat
from sys import byteorder

from sampan.linux import abi
from sampan.linux.call import buffer, call, cstring, failure, u64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.linux.call import Path

# openat2 says EAGAIN when a rename anywhere on the machine races a ".."; an attacker can keep that up.
_RETRIES = 128
_MAX_SYMLINKS = 40  # MAXSYMLINKS of the kernel
_PATH_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIR_FLAGS = _PATH_FLAGS | os.O_DIRECTORY


def openat2(dirfd: int, path: Path, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open dirfd/path under the RESOLVE_* restrictions of `resolve`; O_CLOEXEC is added. openat2(2).

    Errors: OSError; EXDEV or ELOOP for a path that breaks a restriction, EAGAIN after many races with a rename.
    """
    creates = flags & os.O_CREAT or flags & os.O_TMPFILE == os.O_TMPFILE
    how = u64(flags | os.O_CLOEXEC, mode if creates else 0, resolve)
    name = cstring("openat2", path)
    for _ in range(_RETRIES):
        try:
            return call("openat2", dirfd, name, how, len(how), path=path)
        except BlockingIOError:
            continue  # EAGAIN, see _RETRIES
    raise failure("openat2", errno.EAGAIN, path)


def open_in_root(rootfd: int, path: Path, flags: int, mode: int = 0) -> int:
    """Open `path` as seen in the rootfs behind `rootfd`; magic links of /proc are refused (ELOOP)."""
    # O_CREAT through an absolute path is fine: RESOLVE_IN_ROOT takes "/" to be rootfd.
    return openat2(rootfd, path, flags, mode, abi.RESOLVE_IN_ROOT | abi.RESOLVE_NO_MAGICLINKS)


def mkdirs_in_root(rootfd: int, path: Path, mode: int = 0o755) -> int:
    """An O_PATH fd of the directory `path` in the rootfs, made with its parents (mode less umask) where missing.

    A dangling symlink is followed inside the root and its target is made. Errors: OSError, ENOTDIR when
    something else stands in the way, ELOOP.
    """
    try:
        return open_in_root(rootfd, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        pass
    return _walk(rootfd, path, mode, None)


def create_file_in_root(rootfd: int, path: Path, mode: int = 0o644, dir_mode: int = 0o755) -> int:
    """An O_PATH fd of what stands at `path` in the rootfs; an empty regular file is made where nothing does.

    Parents are made as in `mkdirs_in_root`. What exists may be of any type: the caller looks at it.
    """
    try:
        return open_in_root(rootfd, path, os.O_PATH)
    except FileNotFoundError:
        pass
    return _walk(rootfd, path, dir_mode, mode)


def parent_in_root(rootfd: int, path: Path, mode: int = 0o755) -> tuple[int, str]:
    """(O_PATH fd of the parent directory, last name) of `path`, for mknod, symlink and unlink by dir_fd.

    Missing parents are made. The last name itself is not looked at. Errors: OSError, EINVAL for a path that ends
    in "." or ".." or names the root.
    """
    text = os.fsdecode(path).rstrip("/")
    parent, _, name = text.rpartition("/")
    if name in ("", ".", ".."):
        raise failure("mkdirat", errno.EINVAL, path)
    return mkdirs_in_root(rootfd, parent or "/", mode), name


def _walk(rootfd: int, path: Path, dir_mode: int, file_mode: int | None) -> int:
    """Resolve `path` name by name, making what is missing; the last as a file when `file_mode` is given."""
    todo = [part for part in reversed(os.fsdecode(cstring("openat", path)).split("/")) if part not in ("", ".")]
    # The fds of the directories from the root down to where we are. ".." goes back up this list and never
    # asks the file system, so moving a directory away during the walk leads nowhere.
    trail = [os.open(".", _DIR_FLAGS, dir_fd=rootfd)]
    links = 0
    try:
        while todo:
            name = todo.pop()
            if name == "..":
                if len(trail) > 1:
                    os.close(trail.pop())
                continue
            last = not todo
            fd = _enter(trail[-1], name, dir_mode, file_mode if last else None)
            kind = os.fstat(fd).st_mode
            if stat.S_ISLNK(kind):
                target = os.readlink(b"", dir_fd=fd)
                os.close(fd)
                links += 1
                if links > _MAX_SYMLINKS:
                    raise failure("openat", errno.ELOOP, path)
                parts = os.fsdecode(target).split("/")
                todo += [part for part in reversed(parts) if part not in ("", ".")]
                if target.startswith(b"/"):
                    _close_all(trail, keep=1)
                continue
            trail.append(fd)
            if not stat.S_ISDIR(kind) and not (last and file_mode is not None):
                raise failure("openat", errno.ENOTDIR, path)
        return trail.pop()
    finally:
        _close_all(trail, keep=0)


def _enter(dirfd: int, name: str, dir_mode: int, file_mode: int | None) -> int:
    """An O_PATH fd of dirfd/name, which is made first when nothing is there; a symlink is not followed."""
    try:
        return os.open(name, _PATH_FLAGS, dir_fd=dirfd)
    except FileNotFoundError:
        pass
    try:
        if file_mode is None:
            os.mkdir(name, dir_mode, dir_fd=dirfd)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_WRONLY
            os.close(os.open(name, flags, file_mode, dir_fd=dirfd))
    except FileExistsError:
        pass  # somebody else was first; whatever it is, it is looked at like anything found
    return os.open(name, _PATH_FLAGS, dir_fd=dirfd)


def _close_all(trail: list[int], keep: int) -> None:
    while len(trail) > keep:
        os.close(trail.pop())


def reopen(fd: int, flags: int, procfd: int | None = None) -> int:
    """A new open file description, with `flags`, of what the O_PATH `fd` refers to; O_CLOEXEC is added.

    `procfd` is a trusted /proc (see `procfs.private_proc`); without it the mounted /proc is believed.
    """
    name = f"self/fd/{fd}"
    # O_NOFOLLOW would refuse the magic link itself, which is the very thing to follow here.
    flags = flags & ~os.O_NOFOLLOW | os.O_CLOEXEC
    if procfd is None:
        return os.open(f"/proc/{name}", flags)
    return os.open(name, flags, dir_fd=procfd)


def fd_path(fd: int, procfd: int | None = None) -> str:
    """The path of `fd` as the kernel tells it: for messages, never for opening. " (deleted)" may follow."""
    if procfd is None:
        return os.readlink(f"/proc/self/fd/{fd}")
    return os.readlink(f"self/fd/{fd}", dir_fd=procfd)


def readlink_fd(fd: int) -> str:
    """The target of the symlink behind an O_PATH | O_NOFOLLOW `fd`. readlinkat(2)."""
    return os.fsdecode(os.readlink(b"", dir_fd=fd))


def fstatfs_type(fd: int) -> int:
    """The f_type of the file system behind `fd` (abi.*_MAGIC). fstatfs(2)."""
    room = buffer(256)
    call("fstatfs", fd, room)
    return int.from_bytes(room.raw[:8], byteorder) & 0xFFFFFFFF


def renameat2(from_fd: int, from_path: Path, to_fd: int, to_path: Path, flags: int = 0) -> None:
    """Rename, or swap with RENAME_EXCHANGE, or refuse (EEXIST) with RENAME_NOREPLACE. renameat2(2)."""
    source, target = cstring("renameat2", from_path), cstring("renameat2", to_path)
    call("renameat2", from_fd, source, to_fd, target, flags, path=from_path)
