"""The erofs snapshotter: a layer that came as a tar stays one, behind an index that the kernel mounts as erofs.

On disk under `snapshots/erofs/`: as the overlay snapshotter's, and in a pulled layer's directory `layer.erofs`
(`diff/erofs_layer.py`) beside an empty `fs`. What a container changed is a directory, as with overlayfs, also after it
was committed: a chain may have both.

A layer's file is mounted once, when it is first used, and attached nowhere: this process holds the mount by a
descriptor, all containers' overlays are made over `/proc/PID/fd/N/.`, share its page cache, and keep it when this
process ends. Overlay takes a directory of a detached mount since kernel 6.15, erofs takes a file without a loop device
since 6.12: `probe` tries both.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import threading
from collections.abc import Sequence

from sampan.containerd.diff.apply import Applied
from sampan.containerd.diff.erofs_layer import FILE, ErofsLayer, index_layer
from sampan.containerd.diff.settle_index import settle_index
from sampan.containerd.diff.stream import Source
from sampan.containerd.diff.unpack import Unpacked
from sampan.containerd.metadata import Metadata
from sampan.containerd.snapshots.overlayfs import OverlaySnapshotter
from sampan.linux import abi
from sampan.linux.mount import new_mount

_PROBE = b"sampan" * 1000


class ErofsSnapshotter(OverlaySnapshotter):
    """`services.Snapshotter`."""

    name = "erofs"

    def __init__(self, metadata: Metadata, directory: str, namespace: str) -> None:
        super().__init__(metadata, directory, namespace)
        self._mounted: dict[int, int] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        super().close()
        with self._lock:
            for fd in self._mounted.values():
                os.close(fd)
            self._mounted.clear()

    def unpack(self, source: Source, root: str) -> Unpacked:
        return index_layer(source, os.path.dirname(root))

    def place(self, key: str, lowers: Sequence[str], applied: Applied) -> str:
        assert isinstance(applied, ErofsLayer)
        settle_index(applied, lowers)
        return self.upper(key)

    def sync(self, *keys: str) -> None:
        """As overlay's; of layers with an index, whose file is on the disk already, only the names are left to do."""
        plain: list[str] = []
        for key in keys:
            directory = f"{self._directory}/{self._chain.find(key).number}"
            if not os.path.exists(f"{directory}/{FILE}"):
                plain.append(key)
                continue
            for path in (directory, self._directory):
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
        if plain:
            super().sync(*plain)

    def remove(self, key: str) -> None:
        number = self._chain.find(key).number
        super().remove(key)
        self._chain.metadata.after_commit(lambda: self._release(number))

    def _release(self, number: int) -> None:
        with self._lock:
            fd = self._mounted.pop(number, -1)
        if fd >= 0:
            os.close(fd)

    def _fs(self, number: int, host: bool) -> str:
        fd = -1 if host else self._mount_of(number)
        if fd < 0:
            return super()._fs(number, host)
        # "/." because some who look at layers follow no symlink in the last place, and N is one.
        return f"/proc/{os.getpid()}/fd/{fd}/."

    def _may_bind(self, number: int, host: bool) -> bool:
        # The kernel copies a detached mount only for the mount namespace that it was made in.
        return host or self._mount_of(number) < 0

    def _mount_of(self, number: int) -> int:
        """The descriptor of a layer's mount, -1 for a snapshot that is a directory."""
        with self._lock:
            if number not in self._mounted:
                file = f"{self._directory}/{number}/{FILE}"
                if not os.path.exists(file):
                    return -1
                self._mounted[number] = mount_file(file)
            return self._mounted[number]


def mount_file(file: str) -> int:
    """A detached mount of an erofs image. OSError."""
    # "source" takes at most 255 bytes; a descriptor's name is short wherever the file is.
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return new_mount("erofs", [("source", f"/proc/self/fd/{fd}")], abi.MOUNT_ATTR_RDONLY)
    finally:
        os.close(fd)


def probe(directory: str) -> str:
    """Why layers cannot be mounted as erofs from files below `directory`, or "" when they can: found out by doing it.

    Nothing is attached anywhere, so nothing on the machine can see it."""
    scratch = f"{directory}/probe-erofs"
    shutil.rmtree(scratch, ignore_errors=True)
    os.makedirs(f"{scratch}/lower")
    member = tarfile.TarInfo("probe")
    member.size = len(_PROBE)
    layer = member.tobuf(tarfile.USTAR_FORMAT) + _PROBE + bytes(-len(_PROBE) % 512 + 1024)
    mounts: list[int] = []
    try:
        index_layer(io.BytesIO(layer), scratch)
        mounts.append(mount_file(f"{scratch}/{FILE}"))
        lowers = (f"/proc/self/fd/{mounts[0]}/.", f"{scratch}/lower")
        mounts.append(new_mount("overlay", [("lowerdir+", lower) for lower in lowers], abi.MOUNT_ATTR_RDONLY))
        with open(f"/proc/self/fd/{mounts[1]}/probe", "rb") as file:
            return "" if file.read() == _PROBE else "a file reads as something else"
    except OSError as error:
        return str(error)
    finally:
        for fd in reversed(mounts):
            os.close(fd)
        shutil.rmtree(scratch, ignore_errors=True)
