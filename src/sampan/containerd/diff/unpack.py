"""Unpacking one layer from a byte stream: decompress, hash, write, in one pass.

Where it runs: in a thread of sampand's, one per layer. Forking is out, since sampand has threads and a child would
inherit a lock that another thread holds. Inflating, hashing and every system call release the interpreter's lock: two
layers of 6,000 files in two threads took 0.77 to 0.89 of the time of one after the other on ext4 (two cores, others at
work). A resident pair of helper processes would reach 0.5, for some 20 MB of memory each; most of the time is the
kernel's (creating the file, 28 us of processor per file in all on tmpfs), which the erofs index of FLOOR.md avoids.
"""

from __future__ import annotations

from dataclasses import dataclass

from sampan import errors
from sampan.containerd.diff.apply import OVERLAY, REMOVE, Applied, LayerWriter
from sampan.containerd.diff.stream import Source, decompressed
from sampan.oci import digest

# Large enough that hashing and inflating release the lock for a while, small enough to stay in the cache.
_CHUNK = 1 << 18


@dataclass(slots=True)
class Unpacked:
    """`diff_id` is the digest of the uncompressed layer, `size` its bytes."""

    diff_id: str
    applied: Applied
    size: int = 0


def unpack(source: Source, root: str, scratch: str, *, stacks: bool, userxattr: bool = False) -> Unpacked:
    """Write the layer read from `source` into directory `root`.

    `stacks`: the directory is one layer of an overlay; otherwise it is a copy of the layers below. `scratch` is a
    directory on the same file system. InvalidArgument for bytes that are no layer; OSError; what `source` raises."""
    writer = LayerWriter(root, scratch, whiteouts=OVERLAY if stacks else REMOVE, userxattr=userxattr)
    hasher = digest.hasher()
    try:
        stream = decompressed(source)
        size = 0
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            hasher.update(chunk)
            writer.feed(chunk)
        return Unpacked(f"sha256:{hasher.hexdigest()}", writer.finish(), size)
    finally:
        writer.close()


def verify(unpacked: Unpacked, diff_id: str) -> None:
    """DataLoss unless the layer is the one that the image's config names; the text is containerd's."""
    if unpacked.diff_id != diff_id:
        raise errors.DataLoss(f'wrong diff id calculated on extraction "{unpacked.diff_id}" expected "{diff_id}"')
