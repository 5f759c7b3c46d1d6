"""An erofs image made of metadata only: nodes in, bytes out, no I/O. The files' data is elsewhere in the same image.

    root = Node(stat.S_IFDIR | 0o755)
    root.children = {b"hello": file}        # file.start: where its data begins in the image, a multiple of BLOCK
    head = superblock(at, end, count)       # to be put at SUPERBLOCK_OFFSET
    metadata, count = index(root, at)       # to be put at `at`

Blocks are of 512 bytes, as tar's are: a file whose data lies in a tar is a plain inode that points into the tar. Every
inode is an extended one (64 bytes; it has the time, which a compact one lacks), directories and symlinks have blocks of
their own. A file with holes has a map of chunks. Hard links are one node under several names.
Source: the kernel's fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst.
"""

from __future__ import annotations

import stat
import struct

BLOCK_BITS = 9
BLOCK = 1 << BLOCK_BITS
SUPERBLOCK_OFFSET = 1024
# An address counts blocks in 32 bits.
MAX_IMAGE = BLOCK << 32
HOLE = 0xFFFFFFFF
MAX_NAME = 255
MAX_XATTR_VALUE = 0xFFFF

_MAGIC = 0xE0F5E1E2
_COMPAT_MTIME = 0x2
_INCOMPAT_CHUNKED_FILE = 0x4
_SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sIHHHBBIQB3sIQQ")
_INODE = struct.Struct("<HHHHQIIIIqII16x")
_XATTR = struct.Struct("<BBH")
_DIRENT = struct.Struct("<QHBx")
_EXTENDED = 1
_PLAIN, _CHUNKED = 0 << 1 | _EXTENDED, 4 << 1 | _EXTENDED
_SLOT_BITS = 5  # a node's number counts slots of 32 bytes from the metadata's start
# The root's number has 16 bits, and 0 would make it an inode that readdir(3) takes for a deleted one.
_FIRST = 64
_TYPES = {stat.S_IFREG: 1, stat.S_IFDIR: 2, stat.S_IFCHR: 3, stat.S_IFBLK: 4, stat.S_IFIFO: 5, stat.S_IFSOCK: 6,
          stat.S_IFLNK: 7}  # fmt: skip
_PREFIXES = (("user.", 1), ("trusted.", 4), ("security.", 6))
_WHOLE_NAMES = {"system.posix_acl_access": 2, "system.posix_acl_default": 3}


class Node:
    """One inode. `mode` with its type, `mtime` in ns, `rdev` (major, minor), `target` of a symlink.

    Of a file: `size`, and `start`, or for one with holes `chunks`: (bits, addresses) with the chunk's size as a power
    of two and where each begins in the image, HOLE for none."""

    __slots__ = ("children", "chunks", "gid", "implied", "mode", "mtime", "number", "rdev", "size", "start", "target",
                 "uid", "xattrs")  # fmt: skip

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.uid = self.gid = self.mtime = self.size = self.start = 0
        self.rdev = (0, 0)
        self.target = b""
        self.xattrs: dict[str, bytes] | None = None
        self.chunks: tuple[int, list[int]] | None = None
        self.children: dict[bytes, Node] | None = {} if stat.S_ISDIR(mode) else None
        # For whoever builds the tree: a directory that exists only because something lies in it.
        self.implied = False
        self.number = 0


def storable(name: str, value: bytes) -> bool:
    """Whether erofs has room for an extended attribute of this name and size."""
    if len(value) > MAX_XATTR_VALUE:
        return False
    if name in _WHOLE_NAMES:
        return True
    suffix = name.partition(".")[2]
    return 0 < len(suffix.encode()) <= MAX_NAME and name.startswith(("user.", "trusted.", "security."))


def superblock(metadata: int, end: int, count: int) -> bytes:
    """Of an image whose metadata begins at `metadata`, `end` bytes long in all, with `count` inodes."""
    return _SUPERBLOCK.pack(
        _MAGIC, 0, _COMPAT_MTIME, BLOCK_BITS, 0, _FIRST >> _SLOT_BITS, count, 0, 0, -(-end // BLOCK),
        metadata // BLOCK, 0, b"", b"", _INCOMPAT_CHUNKED_FILE, 0, 0, 0, 0, 0, 0, 0, 0, b"", 0, 0, 0,
    )  # fmt: skip


def index(root: Node, at: int) -> tuple[bytes, int]:
    """The metadata of the tree below `root`, to lie at `at` (a multiple of BLOCK); and the number of inodes.

    Sets every node's `number`. ValueError for what the format has no room for: an address beyond MAX_IMAGE, too many
    extended attributes on one inode."""
    order, links = _walk(root)
    xattrs: dict[Node, bytes] = {}
    end = _FIRST
    for node in order:
        node.number = end >> _SLOT_BITS
        end += 64
        if node.xattrs:
            xattrs[node] = _xattrs(node.xattrs)
            end += len(xattrs[node])
        if node.chunks is not None:
            end += 4 * len(node.chunks[1])
        end += -end % 64  # so that no inode lies across two blocks
    out = bytearray(_FIRST)
    tails: list[bytes] = []
    block = (at + end + BLOCK - 1) // BLOCK
    parents = {root: root.number}
    for node in order:
        size, tail, start, names = node.size, b"", node.start >> BLOCK_BITS, links.get(node, 1)
        if node.children is not None:
            tail, size = _directory(node, parents.pop(node))
            below = [child for child in node.children.values() if child.children is not None]
            parents.update(dict.fromkeys(below, node.number))
            names = 2 + len(below)
        elif node.target:
            size = len(node.target)
            tail = node.target + bytes(-size % BLOCK)
        if tail:
            start = block
            block += len(tail) >> BLOCK_BITS
            tails.append(tail)
        if start >= HOLE:
            raise ValueError("too large for an erofs image")
        _inode(out, node, xattrs.get(node, b""), size, start, names)
    out += bytes(-(at + len(out)) % BLOCK)
    out += b"".join(tails)
    return bytes(out), len(order)


def _walk(root: Node) -> tuple[list[Node], dict[Node, int]]:
    """All nodes, each once, a directory before what is in it; and how many names those have that have several."""
    order, links = [root], dict[Node, int]()
    seen: set[Node] = set()
    for node in order:
        for child in (node.children or {}).values():
            if child in seen:
                links[child] = links.get(child, 1) + 1
            else:
                if child.children is None:
                    seen.add(child)
                order.append(child)
    return order, links


def _inode(out: bytearray, node: Node, xattrs: bytes, size: int, start: int, links: int) -> None:
    seconds, nanoseconds = divmod(node.mtime, 10**9)
    layout, place = _PLAIN, start
    if node.chunks is not None:
        layout, place = _CHUNKED, node.chunks[0] - BLOCK_BITS
    elif stat.S_ISCHR(node.mode) or stat.S_ISBLK(node.mode):
        major, minor = node.rdev
        place = (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12
    count = (len(xattrs) - 12) // 4 + 1 if xattrs else 0
    out += _INODE.pack(layout, count, node.mode, 0, size, place, node.number & HOLE, node.uid, node.gid, seconds,
                       nanoseconds, links)  # fmt: skip
    out += xattrs
    if node.chunks is not None:
        addresses = [HOLE if one == HOLE else one >> BLOCK_BITS for one in node.chunks[1]]
        if any(one > HOLE for one in addresses):
            raise ValueError("too large for an erofs image")
        out += struct.pack(f"<{len(addresses)}I", *addresses)
    out += bytes(-len(out) % 64)


def _xattrs(attributes: dict[str, bytes]) -> bytes:
    """The header and the entries behind an inode."""
    out = bytearray(12)
    for name, value in attributes.items():
        number, suffix = _WHOLE_NAMES.get(name, 0), b""
        if not number:
            number, suffix = next((n, name[len(p) :].encode()) for p, n in _PREFIXES if name.startswith(p))
        out += _XATTR.pack(len(suffix), number, len(value)) + suffix + value
        out += bytes(-len(out) % 4)
    if len(out) >= 12 + 4 * 0xFFFF:
        raise ValueError("too many extended attributes")
    return bytes(out)


def _directory(node: Node, parent: int) -> tuple[bytes, int]:
    """The blocks of a directory, names in order, and its size in bytes. In each block: entries, then names."""
    assert node.children is not None
    entries = [(name, child.number, _TYPES[child.mode & 0o170000]) for name, child in node.children.items()]
    entries += ((b".", node.number, 2), (b"..", parent, 2))
    entries.sort()
    out = bytearray()
    held: list[tuple[bytes, int, int]] = []
    room = BLOCK
    for entry in entries:
        needed = _DIRENT.size + len(entry[0])
        if needed > room:
            _directory_block(out, held)
            out += bytes(room)
            held, room = [], BLOCK
        held.append(entry)
        room -= needed
    _directory_block(out, held)
    return bytes(out) + bytes(room), len(out)


def _directory_block(out: bytearray, entries: list[tuple[bytes, int, int]]) -> None:
    at = _DIRENT.size * len(entries)
    for name, number, kind in entries:
        out += _DIRENT.pack(number, at, kind)
        at += len(name)
    out += b"".join([entry[0] for entry in entries])
