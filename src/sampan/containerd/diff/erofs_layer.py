"""A layer that is never unpacked: its tar as it is, and an erofs index behind it that makes it a file system.

The file, `FILE` in the snapshot's directory: the superblock, at TAR_OFFSET the uncompressed tar byte for byte, then
what files with holes need (their data, laid out as the chunks of the file), then the metadata. It takes its name when
it is whole and on the disk.
"""

from __future__ import annotations

import os

from sampan import errors
from sampan.containerd.diff.apply import Applied
from sampan.containerd.diff.layer_tree import LayerTree
from sampan.containerd.diff.stream import Source, decompressed
from sampan.containerd.diff.unpack import Unpacked
from sampan.oci import digest
from sampan.wire import erofs
from sampan.wire.erofs import Node
from sampan.wire.layer_tar import Entry, LayerTar, TarError

FILE = "layer.erofs"
TAR_OFFSET = 4096
_PAGE = 4096
_CHUNK = 1 << 18
# A file with holes has at most so many chunks; they grow with the file.
_MAX_CHUNKS = 1 << 14
_MIN_CHUNK_BITS = 12


class ErofsLayer(Applied):
    """`Applied` of a layer with an index: what `settle_index` needs beside it."""

    __slots__ = ("metadata", "path", "tree")

    def __init__(self, path: str, tree: LayerTree, metadata: int, size: int, inodes: int) -> None:
        super().__init__(size, inodes, [], tree.links)
        # `metadata`: where it begins in the file `path`.
        self.path, self.tree, self.metadata = path, tree, metadata


class Unindexable(Exception):
    """A layer that erofs has no room for; the text says of what. `layer` is good until it is closed."""

    def __init__(self, reason: str, fd: int, size: int) -> None:
        super().__init__(reason)
        self._fd, self._size = fd, size

    def layer(self) -> Stored:
        """The uncompressed layer, from its beginning."""
        return Stored(self._fd, self._size)


class Stored:
    """A layer's tar inside an image file, as a source. Takes the descriptor."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._at, self._end = fd, TAR_OFFSET, TAR_OFFSET + size

    def __enter__(self) -> Stored:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def read(self, size: int, /) -> bytes:
        piece = os.pread(self._fd, min(size, self._end - self._at), self._at)
        self._at += len(piece)
        return piece


def stored_layer(directory: str, size: int) -> Stored:
    """The tar of `size` bytes in `directory`/FILE. OSError."""
    return Stored(os.open(f"{directory}/{FILE}", os.O_RDONLY | os.O_CLOEXEC), size)


def index_layer(source: Source, directory: str) -> Unpacked:
    """Write the layer read from `source` as `directory`/FILE, synced.

    InvalidArgument for bytes that are no layer; Unindexable; OSError; what `source` raises. Then no FILE is there."""
    path = f"{directory}/{FILE}"
    hasher = digest.hasher()
    reader = _Reader()
    # Open for reading too: holes are laid out from what was written.
    fd = os.open(f"{path}.new", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        stream = decompressed(source)
        os.lseek(fd, TAR_OFFSET, os.SEEK_SET)
        size = 0
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            hasher.update(chunk)
            reader.feed(chunk)
            _write(fd, chunk)
        reader.finish()
        end = _aligned(TAR_OFFSET + size, _PAGE)
        try:
            for node, extents in reader.sparse.items():
                end = _lay_out(fd, node, extents, end)
            inodes = _write_index(fd, reader.tree.root, end)
        except ValueError as error:
            raise Unindexable(str(error), os.dup(fd), size) from error
        os.fsync(fd)
        os.rename(f"{path}.new", path)
        applied = ErofsLayer(path, reader.tree, end, os.fstat(fd).st_blocks * 512, inodes)
        return Unpacked(f"sha256:{hasher.hexdigest()}", applied, size)
    except BaseException:
        os.unlink(f"{path}.new")
        raise
    finally:
        os.close(fd)


def rewrite_index(layer: ErofsLayer, bring: list[tuple[Node, int]]) -> None:
    """Write the index again, after the tree changed; for each (node, fd) copy the file's data in first. Synced.

    ValueError: no room in the format."""
    fd = os.open(layer.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, layer.metadata)
        for node, data in bring:
            node.start, node.size = layer.metadata, os.fstat(data).st_size
            os.lseek(fd, node.start, os.SEEK_SET)
            while piece := os.read(data, _CHUNK):
                _write(fd, piece)
            layer.metadata = _aligned(node.start + node.size, _PAGE)
        layer.inodes = _write_index(fd, layer.tree.root, layer.metadata)
        layer.size = os.fstat(fd).st_blocks * 512
        os.fsync(fd)
    finally:
        os.close(fd)


class _Reader:
    """Members into the tree, and where their data lies."""

    def __init__(self) -> None:
        self.tree = LayerTree()
        # Files with holes: (offset in the file, offset in the image, length).
        self.sparse: dict[Node, list[tuple[int, int, int]]] = {}
        self._tar = LayerTar()
        self._entry: Entry | None = None
        self._node: Node | None = None
        self._seen = 0

    def feed(self, data: bytes) -> None:
        try:
            for event in self._tar.feed(data):
                if isinstance(event, Entry):
                    self._entry, self._seen = event, 0
                    self._node = self.tree.add(event)
                    if self._node is not None and event.sparse:
                        self.sparse[self._node] = []
                elif self._node is not None and self._entry is not None:
                    if isinstance(event, tuple):
                        offset, piece = event
                        at = TAR_OFFSET + self._entry.offset + self._seen
                        self.sparse[self._node].append((offset, at, len(piece)))
                        self._seen += len(piece)
                    else:
                        self._node.start = TAR_OFFSET + self._entry.offset
        except TarError as error:
            raise errors.InvalidArgument(f"archive/tar: {error}") from error

    def finish(self) -> None:
        try:
            self._tar.finish()
        except TarError as error:
            raise errors.InvalidArgument(f"archive/tar: {error}") from error
        self.tree.finish()


def _lay_out(fd: int, node: Node, extents: list[tuple[int, int, int]], end: int) -> int:
    """Copy a sparse file's data to `end` as chunks, only those that have any; where the next free byte is."""
    bits = _MIN_CHUNK_BITS
    while node.size >> bits > _MAX_CHUNKS:
        bits += 1
    chunk = 1 << bits
    addresses = [erofs.HOLE] * -(-node.size // chunk)
    for offset, source, length in extents:
        while length:
            number, within = offset >> bits, offset & chunk - 1
            if addresses[number] == erofs.HOLE:
                addresses[number] = end
                end += chunk
            take = min(length, chunk - within, _CHUNK)
            piece = os.pread(fd, take, source)
            os.pwrite(fd, piece, addresses[number] + within)
            offset, source, length = offset + take, source + take, length - take
    node.chunks = (bits, addresses)
    return end


def _write_index(fd: int, root: Node, at: int) -> int:
    """Append the metadata and make the superblock; the number of inodes. ValueError: no room in the format."""
    metadata, inodes = erofs.index(root, at)
    if at + len(metadata) > erofs.MAX_IMAGE:
        raise ValueError("too large for an erofs image")
    os.lseek(fd, at, os.SEEK_SET)
    _write(fd, metadata)
    end = _aligned(at + len(metadata), _PAGE)
    os.ftruncate(fd, end)
    os.lseek(fd, erofs.SUPERBLOCK_OFFSET, os.SEEK_SET)
    _write(fd, erofs.superblock(at, end, inodes))
    return inodes


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _aligned(at: int, to: int) -> int:
    return at + -at % to
