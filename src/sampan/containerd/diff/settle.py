"""Giving an unpacked layer its place above others: what it left to the layers below it.

Layers are unpacked at the same time, each alone in its directory. Two things need those below: a directory that the
layer only goes through has to look like the one it covers (overlay shows the upper one's mode and owner), and a hard
link to a file of a lower layer needs that file copied up, as overlayfs itself would do.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from sampan import errors
from sampan.containerd.diff.apply import Applied
from sampan.containerd.diff.names import split
from sampan.containerd.snapshots.native import copy_attributes
from sampan.linux.paths import open_in_root

_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_COPY_CHUNK = 1 << 22
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def settle(root: str, lowers: Sequence[str], applied: Applied) -> None:
    """Finish layer directory `root` over the directories `lowers`, nearest first. No symlink in them is followed.

    InvalidArgument when a hard link's target is nowhere below."""
    if not applied.implied and not applied.links:
        return
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path, target in applied.links:
            _copy_up_and_link(root_fd, lowers, path, target, applied)
        # Deepest first: what is done inside a directory changes its time.
        for path in sorted(applied.implied, reverse=True):
            found = find(lowers, path)
            if found is None:
                continue
            try:
                if stat.S_ISDIR(os.fstat(found).st_mode):
                    try:
                        own = open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY)
                    except (FileNotFoundError, NotADirectoryError):
                        continue  # it was made through a symlink that later led elsewhere
                    try:
                        copy_attributes(f"/proc/self/fd/{found}/.", f"/proc/self/fd/{own}/.", os.fstat(found))
                    finally:
                        os.close(own)
            finally:
                os.close(found)
    finally:
        os.close(root_fd)


def find(lowers: Sequence[str], path: bytes) -> int | None:
    """An O_PATH descriptor of what overlay would show at `path` of these layers, None for nothing. The caller's."""
    for lower in lowers:
        fd = os.open(lower, _DIRECTORY)
        opaque = False
        for name in path.split(b"/"):
            opaque = opaque or _is_opaque(fd)
            try:
                below = os.open(name, _PATH, dir_fd=fd)
            except FileNotFoundError:
                below = -1
            except NotADirectoryError:
                below, opaque = -1, True  # a file covers the directory of the layers below
            os.close(fd)
            fd = below
            if fd < 0:
                break
        if fd >= 0:
            status = os.fstat(fd)
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
                os.close(fd)
                return None
            return fd
        if opaque:
            return None
    return None


def _is_opaque(fd: int) -> bool:
    for name in ("trusted.overlay.opaque", "user.overlay.opaque"):
        try:
            if os.getxattr(f"/proc/self/fd/{fd}", name) == b"y":
                return True
        except OSError:
            continue  # no such xattr here
    return False


def _copy_up_and_link(root_fd: int, lowers: Sequence[str], path: bytes, target: bytes, applied: Applied) -> None:
    """Bring `target` up from the layers below, unless an earlier link did, and link `path` to it."""
    target_parent, target_name = split(target)
    directory = _directory(root_fd, target_parent, applied)
    try:
        if not _exists(directory, target_name):
            found = find(lowers, target)
            if found is None:
                shown, to = path.decode(errors="replace"), target.decode(errors="replace")
                raise errors.InvalidArgument(f'cannot apply "{shown}": hard link to "{to}": no such file or directory')
            try:
                _copy_up(found, target, directory, target_name)
                applied.inodes += 1
                applied.size += os.fstat(found).st_blocks * 512
            finally:
                os.close(found)
        parent, name = split(path)
        own = _directory(root_fd, parent, applied)
        try:
            os.link(target_name, name, src_dir_fd=directory, dst_dir_fd=own, follow_symlinks=False)
        finally:
            os.close(own)
    finally:
        os.close(directory)


def _copy_up(found: int, target: bytes, directory: int, name: bytes) -> None:
    """Make `name` in `directory` the same as what is behind `found`, as overlayfs does before the first write."""
    status = os.fstat(found)
    if stat.S_ISDIR(status.st_mode):
        raise errors.InvalidArgument(f'hard link to directory "{target.decode(errors="replace")}"')
    if stat.S_ISREG(status.st_mode):
        with (
            open(f"/proc/self/fd/{found}", "rb", buffering=0) as reader,
            open(os.open(name, _NEW_FILE, 0o600, dir_fd=directory), "wb", buffering=0) as writer,
        ):
            while os.copy_file_range(reader.fileno(), writer.fileno(), _COPY_CHUNK):
                pass
            os.fchown(writer.fileno(), status.st_uid, status.st_gid)
            os.fchmod(writer.fileno(), stat.S_IMODE(status.st_mode))
            for xattr in os.listxattr(reader.fileno()):
                os.setxattr(writer.fileno(), xattr, os.getxattr(reader.fileno(), xattr))
    elif stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(b"", dir_fd=found), name, dir_fd=directory)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=directory, follow_symlinks=False)
    else:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=directory)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=directory, follow_symlinks=False)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=directory, follow_symlinks=False)


def _directory(root_fd: int, path: bytes, applied: Applied) -> int:
    """A directory of the layer, made with its parents where missing, which then count as implied."""
    fd = os.dup(root_fd)
    here = b""
    for name in path.split(b"/") if path else ():
        here = here + b"/" + name if here else name
        try:
            try:
                os.mkdir(name, 0o755, dir_fd=fd)
                applied.implied.append(here)
            except FileExistsError:
                pass
            below = os.open(name, _DIRECTORY, dir_fd=fd)
        except NotADirectoryError as error:
            # A symlink is not followed here: what it means may lie in the layers below.
            shown = path.decode(errors="replace")
            raise errors.InvalidArgument(f'cannot apply "{shown}": no such file or directory') from error
        finally:
            os.close(fd)
        fd = below
    return fd


def _exists(directory: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
        return True
    except FileNotFoundError:
        return False
