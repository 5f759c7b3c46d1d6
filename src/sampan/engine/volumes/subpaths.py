"""What stands at a path inside a volume, mounted where only we decide names, for as long as a container takes to start.

The containers that use a volume decide what its names lead to, at any moment, and a runtime follows every symlink of a
bind's source: a link to / would be the host. So the path is resolved here, beneath the volume, and what was found is
what is bound; by its own name the runtime would look it up again.
"""

from __future__ import annotations

import errno
import os
import stat

from sampan.errors import InvalidArgument, NotFound
from sampan.linux import abi, mount, paths

_RESOLVE = abi.RESOLVE_BENEATH | abi.RESOLVE_NO_MAGICLINKS


def bind(volume: str, subpath: str, target: str) -> None:
    """Mount what is at `subpath` in the directory `volume` on `target`, which must not exist.

    NotFound; InvalidArgument for a path that leads out of the volume, or to what is no directory and no file."""
    base = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = _resolved(base, volume, subpath)
    finally:
        os.close(base)
    try:
        mode = os.fstat(found).st_mode
        if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
            raise InvalidArgument(f"cannot mount {volume}/{subpath}: unsupported file type")
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        if stat.S_ISDIR(mode):
            os.mkdir(target, 0o700)
        else:
            os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        flags = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC | abi.AT_RECURSIVE | abi.AT_EMPTY_PATH
        made = mount.open_tree(found, "", flags)
        try:
            mount.move_mount(made, "", abi.AT_FDCWD, target)
        finally:
            os.close(made)
    finally:
        os.close(found)


def _resolved(base: int, volume: str, subpath: str) -> int:
    try:
        return paths.openat2(base, subpath, os.O_PATH, 0, _RESOLVE)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.ELOOP):
            raise InvalidArgument(
                f"path concatenation escapes the base directory, base: {volume}, subpath: {subpath}"
            ) from None
        reason = os.strerror(error.errno or 0).lower()
        raise NotFound(f"cannot access path {volume}/{subpath}: lstat {volume}/{subpath}: {reason}") from None


def release(directory: str) -> None:
    """Take away what `bind` has put into `directory`, and that itself; nothing when there is none. OSError.

    Nothing is deleted below a mount: a name that is still one cannot be removed."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        path = f"{directory}/{name}"
        try:
            mount.umount2(path, abi.MNT_DETACH | abi.UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno != errno.EINVAL:  # it was never mounted
                raise
        if stat.S_ISDIR(os.lstat(path).st_mode):
            os.rmdir(path)
        else:
            os.unlink(path)
    os.rmdir(directory)
