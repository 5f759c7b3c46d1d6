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
