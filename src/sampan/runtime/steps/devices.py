"""Steps that fill /dev, all below the rootfs descriptor (CVE-2026-41579): nodes and links."""

from __future__ import annotations

import os
import stat

from sampan.linux import abi, mount, paths
from sampan.runtime.steps.situation import StepFailed, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.steps.situation import Situation

_KINDS = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}
_CLONE = abi.OPEN_TREE_CLONE | abi.OPEN_TREE_CLOEXEC


def device(
    init: Situation, path: str, kind: str, major: int, minor: int, mode: int, uid: int, gid: int, bind: bool
) -> None:
    try:
        parent, name = paths.parent_in_root(init.root, path)
        if bind:
            _bind_device(parent, name, path)
        else:
            _make_device(parent, name, kind, os.makedev(major, minor), mode, uid, gid)
        os.close(parent)
    except OSError as error:
        raise StepFailed(f"error creating device nodes: mknod {path}: {words(error)}") from None


def _make_device(parent: int, name: str, kind: str, number: int, mode: int, uid: int, gid: int) -> None:
    before = os.umask(0)
    try:
        os.mknod(name, _KINDS[kind] | mode, number, dir_fd=parent)
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
    except FileExistsError:
        pass  # the image or a mount brought it: runc leaves it as it is
    finally:
        os.umask(before)


def _bind_device(parent: int, name: str, path: str) -> None:
    """A user namespace may not make nodes that work, so the host's own is shown."""
    made = mount.open_tree(abi.AT_FDCWD, path, _CLONE)
    target = paths.create_file_in_root(parent, name)
    mount.move_mount(made, "", target, "")
    os.close(made)
    os.close(target)


def null_streams(init: Situation) -> None:
    """A standard stream that is the host's null device becomes the container's.

    The host's keeps one of the host's file systems in the container's hands, and no checkpoint can save it. Where the
    container's /dev/null is something else the stream stays what it is.
    """
    null = -1
    for number in (0, 1, 2):
        try:
            if not _is_null(number):
                continue
        except OSError:
            continue  # started without
        if null < 0:
            null = _open_null(init)
        if null < 0:
            return
        os.dup2(null, number, inheritable=True)
    if null >= 0:
        os.close(null)


def _open_null(init: Situation) -> int:
    """The container's null device, -1 when it has none: anything else is not even opened."""
    try:
        here = paths.open_in_root(init.root, "/dev/null", os.O_PATH | os.O_NOFOLLOW)
        try:
            if not _is_null(here):
                return -1
        finally:
            os.close(here)
        return paths.open_in_root(init.root, "/dev/null", os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return -1


def _is_null(fd: int) -> bool:
    found = os.fstat(fd)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(1, 3)


def symlink(init: Situation, target: str, path: str, replace: bool = False) -> None:
    try:
        parent, name = paths.parent_in_root(init.root, path)
        if replace:
            try:
                os.unlink(name, dir_fd=parent)
            except FileNotFoundError:
                pass
        try:
            os.symlink(target, name, dir_fd=parent)
        except FileExistsError:
            pass
        os.close(parent)
    except OSError as error:
        raise StepFailed(f"error creating dev symlinks: symlink {target} {path}: {words(error)}") from None
