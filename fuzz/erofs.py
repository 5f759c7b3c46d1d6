"""From a hostile layer to an erofs image: a tree is made or refused, and what is written can be walked again."""

from __future__ import annotations

import struct
from random import Random

from fuzz.layer_tar import SEEDS as SEEDS
from fuzz.layer_tar import mutate as mutate
from sampan import errors
from sampan.containerd.diff.layer_tree import LayerTree
from sampan.wire import erofs, layer_tar

ERRORS = (layer_tar.TarError, errors.InvalidArgument, ValueError)

_INODE = struct.Struct("<HHHHQIIIIqII16x")


def feed(data: bytes, random: Random) -> None:
    """The index of the tree, and every inode and name in it read back."""
    tree, reader = LayerTree(), layer_tar.LayerTar()
    for event in reader.feed(data):
        if isinstance(event, layer_tar.Entry):
            tree.add(event)
    reader.finish()
    tree.finish()
    at = 4096
    metadata, count = erofs.index(tree.root, at)
    assert len(erofs.superblock(at, at + len(metadata), count)) > 0
    assert _walk(metadata, at, tree.root.number) >= 1


def _walk(metadata: bytes, at: int, number: int) -> int:
    """How many names the image has below the directory of this number."""
    mode, size, start = _directory(metadata, number)
    assert mode & 0o170000 == 0o040000
    seen = 0
    for block in range(0, size, erofs.BLOCK):
        base = start * erofs.BLOCK - at + block
        length = min(erofs.BLOCK, size - block)
        first = struct.unpack_from("<QHB", metadata, base)[1]
        entries = [struct.unpack_from("<QHB", metadata, base + 12 * place) for place in range(first // 12)]
        for place, (child, offset, kind) in enumerate(entries):
            end = entries[place + 1][1] if place + 1 < len(entries) else length
            name = metadata[base + offset : base + end].rstrip(b"\0")
            assert name and b"/" not in name
            seen += 1
            if kind == 2 and name not in (b".", b".."):
                seen += _walk(metadata, at, child)
    return seen


def _directory(metadata: bytes, number: int) -> tuple[int, int, int]:
    fields = _INODE.unpack_from(metadata, number * 32)
    return fields[2], fields[4], fields[5]
