"""Giving a layer with an index its place above others: `settle.settle`, done to the tree before it is mounted."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

from sampan import errors
from sampan.containerd.diff import names
from sampan.containerd.diff.erofs_layer import ErofsLayer, rewrite_index
from sampan.containerd.diff.layer_tree import OPAQUE
from sampan.containerd.diff.settle import find
from sampan.wire.erofs import Node


def settle_index(layer: ErofsLayer, lowers: Sequence[str]) -> None:
    """Finish `layer` over the directories `lowers`, nearest first. The index is only written again if it changes.

    InvalidArgument when a hard link's target is nowhere below."""
    bring: list[tuple[Node, int]] = []
    try:
        for path, target in layer.links:
            node = layer.tree.existing(target)
            if node is None:
                node = _copy_up(layer, lowers, path, target, bring)
            layer.tree.hard_link(path, node)
        changed = bool(layer.links)
        if lowers:
            changed |= _inherit(layer.tree.root, lowers)
        if changed:
            rewrite_index(layer, bring)
    finally:
        for _, fd in bring:
            os.close(fd)


def _copy_up(
    layer: ErofsLayer, lowers: Sequence[str], path: bytes, target: bytes, bring: list[tuple[Node, int]]
) -> Node:
    """A node like what the layers below have at `target`, put there."""
    found = find(lowers, target)
    if found is None:
        shown, to = path.decode(errors="replace"), target.decode(errors="replace")
        raise errors.InvalidArgument(f'cannot apply "{shown}": hard link to "{to}": no such file or directory')
    try:
        status = os.fstat(found)
        if stat.S_ISDIR(status.st_mode):
            raise errors.InvalidArgument(f'hard link to directory "{target.decode(errors="replace")}"')
        node = Node(status.st_mode)
        node.mtime = -1  # not that of what is below, so that it is taken over
        _resemble(node, found)
        if stat.S_ISLNK(status.st_mode):
            node.target = os.readlink(b"", dir_fd=found)
        elif stat.S_ISREG(status.st_mode):
            # An O_PATH descriptor cannot be read: opened again through /proc, which names exactly this inode.
            bring.append((node, os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)))
        else:
            node.rdev = (os.major(status.st_rdev), os.minor(status.st_rdev))
        layer.tree.hard_link(target, node)
        return node
    finally:
        os.close(found)


def _inherit(root: Node, lowers: Sequence[str]) -> bool:
    """Directories that the layer only goes through look like those they cover; whether anything changed."""
    changed = False
    if root.implied:
        top = os.open(lowers[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            changed = _resemble(root, top)
        finally:
            os.close(top)
    pending = [(root, b"")]
    while pending:
        node, path = pending.pop()
        for name, child in (node.children or {}).items():
            # Below an opaque directory nothing is covered.
            if child.children is None or (child.xattrs and OPAQUE in child.xattrs):
                continue
            here = path + b"/" + name if path else name
            if child.implied:
                found = find(lowers, here)
                if found is None:
                    continue
                try:
                    if not stat.S_ISDIR(os.fstat(found).st_mode):
                        continue
                    changed |= _resemble(child, found)
                finally:
                    os.close(found)
            pending.append((child, here))
    return changed


def _resemble(node: Node, fd: int) -> bool:
    """Give `node` the attributes of what `fd` is; whether they were others."""
    status = os.fstat(fd)
    # A symlink's could only be had by its name, and the kernel allows it none that images have.
    path = f"/proc/self/fd/{fd}"
    xattrs: dict[str, bytes] = {}
    if not stat.S_ISLNK(status.st_mode):
        xattrs = {name: os.getxattr(path, name) for name in os.listxattr(path) if not names.is_forged_xattr(name)}
    wanted = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, xattrs)
    if wanted == (node.mode, node.uid, node.gid, node.mtime, node.xattrs or {}):
        return False
    node.mode, node.uid, node.gid, node.mtime, node.xattrs = wanted
    return True
