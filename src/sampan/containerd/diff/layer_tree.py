"""The tree that a layer's members make, in memory: what `apply.LayerWriter` does to a directory, done to nodes.

A name is only a key here: nothing can lead outside. Symlinks in a member's parent path are followed with this tree as
the root, as the container would; the last name never is. Whiteouts become what overlayfs takes for them (a character
device 0/0, an xattr on an opaque directory; overlayfs.rst).
"""

from __future__ import annotations

import stat

from sampan import errors
from sampan.containerd.diff import names
from sampan.wire import erofs, layer_tar
from sampan.wire.erofs import Node
from sampan.wire.layer_tar import Entry

OPAQUE = "trusted.overlay.opaque"
_MAX_LINKS = 40  # that path resolution follows; path_resolution(7)
_KEPT = 1 << 16
# Of the whole tree, which is in memory: eight million members with usual names. A node is what Python needs for one.
_ALLOWANCE = 2 << 30
_NODE = 200
_WAITING = 128 << 20
# Of ext4 with blocks of 4 KiB, where the same layer would be unpacked.
_MAX_FILE = 1 << 44
_TYPES = {layer_tar.FILE: stat.S_IFREG, layer_tar.DIRECTORY: stat.S_IFDIR, layer_tar.SYMLINK: stat.S_IFLNK,
          layer_tar.CHAR: stat.S_IFCHR, layer_tar.BLOCK_DEVICE: stat.S_IFBLK, layer_tar.FIFO: stat.S_IFIFO}  # fmt: skip


class LayerTree:
    """`root` is the tree. InvalidArgument for members that no layer may have."""

    def __init__(self) -> None:
        self.root = Node(stat.S_IFDIR | 0o755)
        self.root.implied = True
        # Hard links to what is not in this layer: (path, target), clean.
        self.links: list[tuple[bytes, bytes]] = []
        self._mtime = 0
        self._waiting: dict[bytes, bytes] = {}
        self._allowance, self._waiting_allowance = names.Allowance(_ALLOWANCE), names.Allowance(_WAITING)
        # Directories by clean path, dropped whenever a path may have got another meaning.
        self._kept: dict[bytes, Node] = {}

    def add(self, entry: Entry) -> Node | None:
        """Take a member in; its node, when it is a file whose data follows."""
        path = names.clean(entry.name)
        parent, name = names.split(path)
        # What nobody gives a time gets that of what brings it about, and not the clock's: same layer, same bytes.
        self._mtime = layer_tar.settable(entry.mtime)
        if self.root.implied and not self.root.mtime:
            self.root.mtime = self._mtime
        if not path:
            if entry.kind != layer_tar.DIRECTORY:
                raise errors.InvalidArgument("invalid layer: its root is not a directory")
            _describe(self.root, entry)
            return None
        if name.startswith(names.WHITEOUT_PREFIX):
            self._whiteout(parent, name)
            return None
        self._waiting.pop(path, None)
        if entry.kind == layer_tar.LINK:
            target = names.clean(entry.linkname)
            if target != path and not self._link(path, target):
                self._waiting_allowance.take(len(path) + len(target))
                self._waiting[path] = target
            return None
        directory = self.directory(parent)
        _named(name, path)
        there = _children(directory).get(name)
        if there is not None and there.children is not None and entry.kind == layer_tar.DIRECTORY:
            _describe(there, entry)
            return None
        node = _node(entry)
        self._allowance.take(_NODE + len(name) + len(node.target) + sum(map(len, (node.xattrs or {}).values())))
        if there is not None:
            self._replaced(there, path)
            if entry.kind == layer_tar.DIRECTORY and is_whiteout(there):
                # The layer removes what is below by a whiteout and brings a directory of its own.
                node.xattrs = {**(node.xattrs or {}), OPAQUE: b"y"}
        _children(directory)[name] = node
        return node if entry.kind == layer_tar.FILE else None

    def finish(self) -> None:
        """No more members: settles `links`."""
        for path, target in list(self._waiting.items()):
            # A target that came after its link, which no tar command writes and some builders do. A link that was
            # made may have taken the place of a directory, with others that waited below it.
            if path in self._waiting and not self._link(path, target):
                self.links.append((path, target))
        self._waiting = {}

    def directory(self, path: bytes) -> Node:
        """The directory `path` (clean), made with its parents where missing."""
        found = self._kept.get(path)
        if found is None:
            parent, name = names.split(path)
            above = self._kept.get(parent)
            found = None if above is None else _children(above).get(name)
            if found is None or found.children is None:
                found = self._resolve(path, True) or self.root
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[path] = found
        return found

    def existing(self, path: bytes) -> Node | None:
        """What is at `path` (clean) itself, symlinks followed on the way to it only."""
        parent, name = names.split(path)
        directory = self._kept.get(parent) or self._resolve(parent, False)
        return None if directory is None else _children(directory).get(name)

    def _resolve(self, path: bytes, make: bool) -> Node | None:
        """The directory that the kernel would find at `path` with this tree as its root; None when it is missing."""
        todo = [part for part in reversed(path.split(b"/")) if part]
        trail, links = [self.root], 0
        while todo:
            name = todo.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                del trail[max(1, len(trail) - 1) :]
                continue
            children = _children(trail[-1])
            node = children.get(name)
            if node is None:
                if not make:
                    return None
                _named(name, path)
                self._allowance.take(_NODE + len(name))
                node = children[name] = Node(stat.S_IFDIR | 0o755)
                node.implied, node.mtime = True, self._mtime
            if node.target:
                links += 1
                if links > _MAX_LINKS:
                    raise _refused(path, "Too many levels of symbolic links")
                if node.target.startswith(b"/"):
                    del trail[1:]
                todo += reversed(node.target.split(b"/"))
            elif node.children is None:
                raise _refused(path, "Not a directory")
            else:
                trail.append(node)
        return trail[-1]

    def _link(self, path: bytes, target: bytes) -> bool:
        """Another name for the node at `target`; False when that is not in this layer."""
        if not target:
            raise errors.InvalidArgument("invalid layer: hard link to its root")
        node = self.existing(target)
        if node is None:
            return False
        there = self.existing(path)
        if there is not None and there.children is not None:
            above = self._resolve(names.split(target)[0], False)
            if above is not None and _holds(there, above):
                # It would take the place of the directory that its target is in, which goes with it.
                self._replaced(there, path)
                parent, name = names.split(path)
                del _children(self.directory(parent))[name]
                return False
        self.hard_link(path, node)
        return True

    def hard_link(self, path: bytes, node: Node) -> None:
        """Give `node` the name `path` (clean) as well, in place of what has it."""
        if node.children is not None:
            raise _refused(path, "hard link to a directory")
        parent, name = names.split(path)
        _named(name, path)
        children = _children(self.directory(parent))
        if name in children:
            self._replaced(children[name], path)
        self._allowance.take(_NODE + len(name))
        children[name] = node

    def _replaced(self, node: Node, path: bytes) -> None:
        if node.children is not None or node.target:
            below = path + b"/"
            for gone in [one for one in self._waiting if one.startswith(below)]:
                del self._waiting[gone]
            self._kept.clear()

    def _whiteout(self, parent: bytes, name: bytes) -> None:
        if name == names.OPAQUE_MARK:
            _mark_opaque(self.directory(parent))
            return
        if name.startswith(names.META_PREFIX):
            return
        removed = names.removed_by(name)
        children = _children(self.directory(parent))
        there = children.get(removed)
        if there is None:
            self._allowance.take(_NODE + len(removed))
            children[removed] = Node(stat.S_IFCHR)
        elif there.children is not None:
            # The layer brought the name itself, which stays (whiteouts are for what is below); the directory must then
            # not let the one below shine through.
            _mark_opaque(there)


def _holds(directory: Node, wanted: Node) -> bool:
    """Whether `wanted` is the directory or below it."""
    pending = [directory]
    while pending:
        node = pending.pop()
        if node is wanted:
            return True
        pending += [child for child in (node.children or {}).values() if child.children is not None]
    return False


def is_whiteout(node: Node) -> bool:
    return stat.S_ISCHR(node.mode) and node.rdev == (0, 0)


def _node(entry: Entry) -> Node:
    node = Node(_TYPES[entry.kind])
    _describe(node, entry)
    if entry.kind == layer_tar.FILE:
        node.size = entry.size
        if entry.size > _MAX_FILE:
            raise _refused(entry.name, "File too large")
    elif entry.kind == layer_tar.SYMLINK:
        node.target = entry.linkname
        if not 0 < len(entry.linkname) <= names.MAX_PATH:
            raise _refused(entry.name, "File name too long" if entry.linkname else "No such file or directory")
    elif entry.kind in (layer_tar.CHAR, layer_tar.BLOCK_DEVICE):
        node.rdev = (entry.major, entry.minor)
        if not (0 <= entry.major < 1 << 12 and 0 <= entry.minor < 1 << 20):
            raise _refused(entry.name, "Invalid argument")
    return node


def _describe(node: Node, entry: Entry) -> None:
    """The attributes of a header."""
    node.mode = stat.S_IFMT(node.mode) | entry.mode & 0o7777
    if entry.kind == layer_tar.SYMLINK:
        node.mode = stat.S_IFLNK | 0o777
    node.uid, node.gid, node.mtime, node.implied = entry.uid, entry.gid, layer_tar.settable(entry.mtime), False
    kept = dict(node.xattrs or {})
    for name, value in entry.xattrs.items():
        # What a file system refuses is left out, as the one that unpacks leaves it out (user.* of a device).
        if names.is_forged_xattr(name) or not name.startswith(("user.", "trusted.", "security.", "system.posix_acl_")):
            continue
        if name.startswith("user.") and entry.kind not in (layer_tar.FILE, layer_tar.DIRECTORY):
            continue
        if name.startswith("system.") and entry.kind == layer_tar.SYMLINK:
            continue
        if not erofs.storable(name, value):
            raise _refused(entry.name, f'extended attribute "{name[:255]}": Argument list too long')
        kept[name] = value
    node.xattrs = kept or None


def _mark_opaque(node: Node) -> None:
    node.xattrs = {**(node.xattrs or {}), OPAQUE: b"y"}


def _children(node: Node) -> dict[bytes, Node]:
    assert node.children is not None
    return node.children


def _named(name: bytes, path: bytes) -> None:
    if len(name) > erofs.MAX_NAME:
        raise _refused(path, "File name too long")


def _refused(path: bytes, reason: str) -> errors.InvalidArgument:
    return errors.InvalidArgument(f'cannot apply "{path.decode(errors="replace")[:200]}": {reason}')
