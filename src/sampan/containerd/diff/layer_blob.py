"""A layer from two snapshots: their trees compared, written as a tar, compressed, stored as a blob."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import zstandard
from isal import isal_zlib

from sampan import errors
from sampan.containerd.content import BlobIngest, ContentStore
from sampan.containerd.diff.changes import Change, at, changes, xattrs
from sampan.containerd.services import Mount
from sampan.containerd.snapshots.overlayfs import overlay_view
from sampan.linux.paths import open_in_root
from sampan.oci import digest
from sampan.oci.image import Descriptor
from sampan.wire import tar_member
from sampan.wire.layer_tar import BLOCK_DEVICE, CHAR, DIRECTORY, FIFO, FILE, LINK, SYMLINK

UNCOMPRESSED_LABEL = "containerd.io/uncompressed"
_PIECE = 1 << 20
_GZIP_LEVEL, _GZIP_FORMAT = 2, 31
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_KINDS = {stat.S_IFREG: FILE, stat.S_IFLNK: SYMLINK, stat.S_IFCHR: CHAR, stat.S_IFBLK: BLOCK_DEVICE,
          stat.S_IFDIR: DIRECTORY, stat.S_IFIFO: FIFO}  # fmt: skip


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _gzip() -> Compressor:
    compressor: Compressor = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_FORMAT)
    return compressor


COMPRESSORS: Mapping[str, Callable[[], Compressor]] = {
    "application/vnd.oci.image.layer.v1.tar": _Plain,
    "application/vnd.oci.image.layer.v1.tar+gzip": _gzip,
    "application/vnd.oci.image.layer.v1.tar+zstd": lambda: zstandard.ZstdCompressor().compressobj(),
    "application/vnd.docker.image.rootfs.diff.tar": _Plain,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": _gzip,
}


def write(
    content: ContentStore,
    left: Sequence[Mount],
    right: Sequence[Mount],
    media_type: str,
    ref: str,
    labels: Mapping[str, str],
    keep: Callable[[str], None] | None = None,
) -> Descriptor:
    """Store what `right` changed of `left` (no mounts: nothing) as a layer of `media_type`; its descriptor.

    The label `containerd.io/uncompressed` of the blob is the DiffID. Unimplemented for another type or other mounts
    than a snapshotter's; Unavailable while `ref` is being written. `keep` hears the digest before the blob is there,
    so that no collection comes between."""
    if media_type not in COMPRESSORS:
        raise errors.Unimplemented(f"unsupported diff media type: {media_type}: not implemented")
    compressor = COMPRESSORS[media_type]()
    ingest = content.writer(ref)
    try:
        ingest.truncate()
        hasher = digest.hasher()
        with opened(left) as left_fd, opened(right) as right_fd:
            for piece in Layer(right_fd).members(changes(left_fd, right_fd)):
                hasher.update(piece)
                ingest.write(compressor.compress(piece))
        ingest.write(compressor.flush())
        labels = {**labels, UNCOMPRESSED_LABEL: f"sha256:{hasher.hexdigest()}"}
        if keep is not None:
            keep(ingest.digest())
        return _commit(content, ingest, media_type, labels)
    finally:
        ingest.abort()


def _commit(content: ContentStore, ingest: BlobIngest, media_type: str, labels: Mapping[str, str]) -> Descriptor:
    made = Descriptor(media_type, ingest.digest(), ingest.offset)
    try:
        ingest.commit(None, None, labels)
    except errors.AlreadyExists:
        content.label(made.digest, labels)
    return made


@contextmanager
def opened(mounts: Sequence[Mount]) -> Iterator[int]:
    """A descriptor of the tree that `mounts` show, seen by nobody else and not written to. Unimplemented."""
    if not mounts:
        with tempfile.TemporaryDirectory(prefix="sampan-empty-") as empty:
            fd = os.open(empty, _DIRECTORY)
            try:
                yield fd
            finally:
                os.close(fd)
        return
    if len(mounts) != 1 or mounts[0].type not in ("bind", "overlay"):
        kinds = ", ".join(mount.type for mount in mounts)
        raise errors.Unimplemented(f"cannot compare mounts of type {kinds}: not implemented")
    if mounts[0].type == "bind":
        layers = [mounts[0].source]
    else:
        upper, layers = overlay_layers(mounts[0].options)
        layers = [upper, *layers] if upper else layers
    if len(layers) == 1:
        fd = os.open(layers[0], _DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)
        return
    # Read only, the upper directory as one more layer: the snapshot may be mounted by a container meanwhile.
    mount_fd = overlay_view(layers, "userxattr" in mounts[0].options)
    try:
        fd = os.open(".", _DIRECTORY, dir_fd=mount_fd)
        try:
            yield fd
        finally:
            os.close(fd)
    finally:
        os.close(mount_fd)


def overlay_layers(options: Sequence[str]) -> tuple[str, list[str]]:
    """(upper directory or "", lower directories nearest first) of an overlay with these options."""
    upper, lowers = "", list[str]()
    for option in options:
        key, _, value = option.partition("=")
        if key == "upperdir":
            upper = value
        elif key == "lowerdir":
            lowers += [one for one in value.split(":") if one]
        elif key == "lowerdir+":
            lowers.append(value)
    return upper, lowers


class Layer:
    """The tar of changes in the tree `fd`. A container may be renaming things in it: what is read is what the name
    is by then, and never outside the tree."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._written: set[bytes] = {b""}
        self._linked: dict[tuple[int, int], bytes] = {}

    def members(self, found: Iterator[Change]) -> Iterator[bytes]:
        """Each change after the directories above it, which a layer names as they are."""
        for change in found:
            yield from self._parents(change.path)
            if change.status is None:
                parent, _, name = change.path.rpartition(b"/")
                whiteout = (parent + b"/" if parent else b"") + b".wh." + name
                yield tar_member.member(whiteout, FILE, mode=0)
            else:
                yield from self._member(change.path, change.status)
        yield tar_member.END

    def _parents(self, path: bytes) -> Iterator[bytes]:
        above = path.rpartition(b"/")[0]
        if above not in self._written:
            yield from self._parents(above)
            with self._directory(above) as (fd, name):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            yield from self._member(above, status)

    @contextmanager
    def _directory(self, path: bytes) -> Iterator[tuple[int, bytes]]:
        """(descriptor of the directory that `path` is in, its last name)."""
        above, _, name = path.rpartition(b"/")
        fd = open_in_root(self._fd, above or b".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield fd, name
        finally:
            os.close(fd)

    def _member(self, path: bytes, status: os.stat_result) -> Iterator[bytes]:
        with self._directory(path) as (fd, name):
            yield from self._written_from(fd, name, path, status)

    def _written_from(self, fd: int, name: bytes, path: bytes, status: os.stat_result) -> Iterator[bytes]:
        kind = _KINDS.get(stat.S_IFMT(status.st_mode))
        if kind is None:
            return  # a socket: no tar has a type for it
        self._written.add(path)
        linkname, size = b"", 0
        if kind == SYMLINK:
            linkname = os.readlink(name, dir_fd=fd)
        elif kind == FILE and status.st_nlink > 1 and (status.st_dev, status.st_ino) in self._linked:
            kind, linkname = LINK, self._linked[status.st_dev, status.st_ino]
        elif kind == FILE:
            self._linked[status.st_dev, status.st_ino] = path
            size = status.st_size
        device = kind in (CHAR, BLOCK_DEVICE)
        yield tar_member.member(
            path + b"/" if kind == DIRECTORY else path,
            kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            size=size,
            mtime=status.st_mtime_ns // 10**9,
            linkname=linkname,
            major=os.major(status.st_rdev) if device else 0,
            minor=os.minor(status.st_rdev) if device else 0,
            xattrs={} if kind in (LINK, SYMLINK) else xattrs(at(fd, name)),
        )
        if size:
            yield from _data(fd, name, size)


def _data(directory_fd: int, name: bytes, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes, whatever happens to the file meanwhile."""
    left = size
    with open(os.open(name, _FILE, dir_fd=directory_fd), "rb", buffering=0) as file:
        while left and (data := file.read(min(_PIECE, left))):
            left -= len(data)
            yield data
    while left:
        yield bytes(min(_PIECE, left))
        left -= min(_PIECE, left)
    yield tar_member.padding(size)
