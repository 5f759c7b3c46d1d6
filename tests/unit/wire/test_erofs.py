"""What is encoded is what a reader of the format finds: erofs_fs.h, read here by other means."""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.wire import erofs
from sampan.wire.erofs import HOLE, Node

AT = 1 << 16


@dataclass
class Found:
    """One inode, as the image has it."""

    mode: int
    uid: int
    gid: int
    mtime: int
    links: int
    size: int
    place: int
    xattrs: dict[tuple[int, bytes], bytes]
    number: int
    chunks: list[int] = field(default_factory=list)


class Image:
    """Reads what `superblock` and `index` wrote."""

    def __init__(self, root: Node, at: int = AT) -> None:
        metadata, self.count = erofs.index(root, at)
        head = erofs.superblock(at, at + len(metadata), self.count)
        assert len(head) == 128
        magic, bits = struct.unpack_from("<I8xB", head)
        assert (magic, 1 << bits) == (0xE0F5E1E2, 512)
        self.root_number = struct.unpack_from("<H", head, 14)[0]
        self.start = struct.unpack_from("<I", head, 40)[0] * 512
        self.blocks = struct.unpack_from("<I", head, 36)[0]
        self.metadata, self.at = metadata, at

    def bytes(self, at: int, size: int) -> bytes:
        return self.metadata[at - self.at : at - self.at + size]

    def inode(self, number: int) -> Found:
        at = self.start + 32 * number
        (layout, count, mode, _, size, place, _, uid, gid, seconds, nanoseconds, links) = struct.unpack(
            "<HHHHQIIIIqII", self.bytes(at, 48)
        )
        assert layout & 1 and at % 64 == 0
        end = at + 64
        xattrs = {}
        if count:
            limit = end + 12 + 4 * (count - 1)
            end += 12
            while end < limit:
                length, prefix, value = struct.unpack("<BBH", self.bytes(end, 4))
                xattrs[prefix, self.bytes(end + 4, length)] = self.bytes(end + 4 + length, value)
                end += 4 + length + value
                end += -end % 4
            assert end == limit
        found = Found(mode, uid, gid, seconds * 10**9 + nanoseconds, links, size, place, xattrs, number)
        if layout >> 1 == 4:
            chunk = 512 << place
            found.chunks = list(struct.unpack(f"<{-(-size // chunk)}I", self.bytes(end, 4 * -(-size // chunk))))
        return found

    def names(self, inode: Found) -> dict[bytes, tuple[int, int]]:
        """{name: (number, type)} in the order of the blocks."""
        names: list[tuple[bytes, int, int]] = []
        for at in range(0, inode.size, 512):
            block = self.bytes(inode.place * 512 + at, min(512, inode.size - at))
            count = struct.unpack_from("<QH", block)[1] // 12
            starts = [struct.unpack_from("<QHB", block, 12 * i) for i in range(count)]
            ends = [*(start[1] for start in starts[1:]), len(block)]
            names += [(block[s:e].rstrip(b"\0"), n, t) for (n, s, t), e in zip(starts, ends, strict=True)]
        assert [name for name, _, _ in names] == sorted({name for name, _, _ in names})
        return {name: (number, kind) for name, number, kind in names}

    def check(self, node: Node, number: int, parent: int) -> None:
        found = self.inode(number)
        assert (found.mode, found.uid, found.gid, found.mtime) == (node.mode, node.uid, node.gid, node.mtime)
        assert set(found.xattrs.values()) == set((node.xattrs or {}).values())
        if node.children is None:
            if node.target:
                assert self.bytes(found.place * 512, found.size) == node.target
            return
        names = self.names(found)
        assert names.pop(b".") == (number, 2)
        assert names.pop(b"..") == (parent, 2)
        assert set(names) == set(node.children)
        assert found.links == 2 + sum(child.children is not None for child in node.children.values())
        for name, child in node.children.items():
            self.check(child, names[name][0], number)


def directory(**children: Node) -> Node:
    node = Node(stat.S_IFDIR | 0o755)
    node.children = {name.encode(): child for name, child in children.items()}
    return node


def file(start: int = 4096, size: int = 10) -> Node:
    node = Node(stat.S_IFREG | 0o644)
    node.start, node.size = start, size
    return node


NAMES = st.binary(min_size=1, max_size=255).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
XATTRS = st.dictionaries(
    st.sampled_from(["user.a", "trusted.overlay.opaque", "security.capability", "system.posix_acl_access"]),
    st.binary(max_size=200),
    max_size=4,
)


@st.composite
def nodes(draw, below=None):
    if below is not None:
        node = Node(stat.S_IFDIR | draw(st.integers(0, 0o7777)))
        node.children = draw(st.dictionaries(NAMES, below, max_size=8))
    else:
        node = Node(draw(st.sampled_from([stat.S_IFREG, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])))
        if stat.S_ISLNK(node.mode):
            node.target = draw(st.binary(min_size=1, max_size=600))
    node.uid, node.gid = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**32 - 1))
    node.mtime = draw(st.integers(-(2**62), 2**62))
    node.xattrs = draw(XATTRS)
    return node


@given(nodes(below=st.recursive(nodes(), lambda below: nodes(below=below), max_leaves=10)))
def test_any_tree_is_found_again(root):
    image = Image(root)
    image.check(root, image.root_number, image.root_number)
    assert image.blocks * 512 >= AT + len(image.metadata)


def test_hard_links_are_one_inode_with_a_count():
    one = file()
    image = Image(directory(a=one, b=one, c=directory(d=one)))
    names = image.names(image.inode(image.root_number))
    assert names[b"a"] == names[b"b"]
    assert image.inode(names[b"a"][0]).links == 3
    assert image.count == 3


def test_a_files_place_is_the_block_where_its_data_lies():
    image = Image(directory(f=file(start=1 << 40, size=1 << 36)))
    found = image.inode(image.names(image.inode(image.root_number))[b"f"][0])
    assert (found.place * 512, found.size) == (1 << 40, 1 << 36)


def test_a_file_with_holes_has_a_map_of_its_chunks():
    node = file(size=5 * 4096 - 1)
    node.chunks = (12, [HOLE, 8192, HOLE, 4096, HOLE])
    image = Image(directory(f=node))
    found = image.inode(image.names(image.inode(image.root_number))[b"f"][0])
    assert (512 << found.place, found.chunks) == (4096, [HOLE, 16, HOLE, 8, HOLE])


def test_device_numbers_are_packed_as_the_kernel_unpacks_them():
    node = Node(stat.S_IFBLK | 0o600)
    node.rdev = (0xABC, 0xDEF12)
    image = Image(directory(d=node))
    found = image.inode(image.names(image.inode(image.root_number))[b"d"][0])
    assert found.place == 0x12 | 0xABC << 8 | 0xDEF00 << 12


def test_what_the_format_has_no_room_for_is_refused():
    with pytest.raises(ValueError, match="too large"):
        erofs.index(directory(f=file(start=erofs.MAX_IMAGE)), AT)
    crowded = file()
    crowded.xattrs = {f"user.{i}": bytes(0xFFFF) for i in range(4)}
    erofs.index(directory(f=file()), AT)
    crowded.xattrs["user.last"] = bytes(0xFFFF)
    with pytest.raises(ValueError, match="too many"):
        erofs.index(directory(f=crowded), AT)


@pytest.mark.parametrize("name, value, storable", [
    ("user.a", b"", True), ("user.", b"", False), ("security.capability", bytes(65535), True),
    ("security.capability", bytes(65536), False), ("system.posix_acl_access", b"x", True), ("system.nfs4", b"", False),
    (f"user.{'n' * 255}", b"", True), (f"user.{'n' * 256}", b"", False), ("noprefix", b"", False),
])  # fmt: skip
def test_which_attributes_have_room(name, value, storable):
    assert erofs.storable(name, value) is storable
