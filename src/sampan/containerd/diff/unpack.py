"""Unpacking one layer from a byte stream: decompress, hash, write, in one pass.

Where it runs: for a layer of some size in a process of its own (`unpackers.py`), since four threads of one interpreter
took longer than one (0.9 against 0.8 s for 20,000 files on ext4, two cores) and two processes 0.5 s. There a thread
decompresses and hashes ahead of the one that writes: both release the interpreter's lock for most of their time.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sampan import errors
from sampan.containerd.diff.apply import OVERLAY, REMOVE, Applied, LayerWriter
from sampan.containerd.diff.stream import Source, decompressed
from sampan.oci import digest

# Large enough that hashing and inflating release the lock for a while, small enough to stay in the cache.
_CHUNK = 1 << 18
# Chunks that are decompressed before they are written.
_AHEAD = 8


@dataclass(slots=True)
class Unpacked:
    """`diff_id` is the digest of the uncompressed layer, `size` its bytes."""

    diff_id: str
    applied: Applied
    size: int = 0


def unpack(
    source: Source, root: str, scratch: str, *, stacks: bool, userxattr: bool = False, alone: bool = False
) -> Unpacked:
    """Write the layer read from `source` into directory `root`.

    `stacks`: the directory is one layer of an overlay; otherwise it is a copy of the layers below. `scratch` is a
    directory on the same file system. `alone`: this process does nothing else, so that it reads in a thread and makes
    files without a umask. InvalidArgument for bytes that are no layer; OSError; what `source` raises."""
    whiteouts = OVERLAY if stacks else REMOVE
    if alone:
        os.umask(0)
    writer = LayerWriter(root, scratch, whiteouts=whiteouts, userxattr=userxattr, unmasked=alone)
    hasher = digest.hasher()
    try:
        chunks = _hashed(source, hasher.update)
        size = 0
        for chunk in _read_ahead(chunks) if alone else chunks:
            size += len(chunk)
            writer.feed(chunk)
        return Unpacked(f"sha256:{hasher.hexdigest()}", writer.finish(), size)
    finally:
        writer.close()


def _hashed(source: Source, update: Callable[[bytes], object]) -> Iterator[bytes]:
    stream = decompressed(source)
    while chunk := stream.read(_CHUNK):
        update(chunk)
        yield chunk


def _read_ahead(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same, made in a thread. Whoever gives up early ends the process: the thread may wait for ever."""
    ready: queue.Queue[bytes | Exception | None] = queue.Queue(_AHEAD)

    def read() -> None:
        try:
            for chunk in chunks:
                ready.put(chunk)
            ready.put(None)
        except Exception as error:
            ready.put(error)

    threading.Thread(target=read, daemon=True).start()
    while (found := ready.get()) is not None:
        if isinstance(found, Exception):
            raise found
        yield found


def verify(unpacked: Unpacked, diff_id: str) -> None:
    """DataLoss unless the layer is the one that the image's config names; the text is containerd's."""
    if unpacked.diff_id != diff_id:
        raise errors.DataLoss(f'wrong diff id calculated on extraction "{unpacked.diff_id}" expected "{diff_id}"')
