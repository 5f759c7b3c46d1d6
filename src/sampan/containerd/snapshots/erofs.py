"""The erofs snapshotter: a layer that came as a tar stays one, behind an index that the kernel mounts as erofs.

On disk under `snapshots/erofs/`: as the overlay snapshotter's, and in a pulled layer's directory `layer.erofs`
(`diff/erofs_layer.py`) beside an empty `fs`. What a container changed is a directory, as with overlayfs, also after it
was committed: a chain may have both. A layer that the format has no room for is unpacked into `fs`, and the log says
why.

A layer's file is mounted once, when it is first used, and attached nowhere: this process holds the mount by a
descriptor, all containers' overlays are made over `/proc/PID/fd/N/.`, share its page cache, and keep it when this
process ends. Overlay takes a directory of a detached mount since kernel 6.15, erofs takes a file without a loop device
since 6.12: `probe` tries both. A client of containerd's API that runs in this process's pid namespace can hand the same
mounts to mount(2): they name nothing but paths.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import tarfile
from collections.abc import Sequence

from sampan.containerd.diff.erofs_layer import FILE, ErofsLayer, Unindexable, index_layer, stored_layer
from sampan.containerd.diff.settle import settle
from sampan.containerd.diff.settle_index import settle_index
from sampan.containerd.diff.stream import Source
from sampan.containerd.diff.unpack import Unpacked, unpack
from sampan.containerd.metadata import Metadata
from sampan.containerd.services import SnapshotInfo, Usage
from sampan.containerd.snapshots.chain import Row
from sampan.containerd.snapshots.disk import directory_usage
from sampan.containerd.snapshots.janitor import Janitor
from sampan.containerd.snapshots.layer_mounts import LayerMounts, mount_file
from sampan.containerd.snapshots.overlayfs import OverlaySnapshotter
from sampan.linux import abi
from sampan.linux.mount import new_mount

log = logging.getLogger(__name__)

_PROBE = b"sampan" * 1000


class ErofsSnapshotter(OverlaySnapshotter):
    """`services.Snapshotter`."""

    name = "erofs"

    def __init__(self, metadata: Metadata, directory: str, namespace: str, janitor: Janitor | None = None) -> None:
        super().__init__(metadata, directory, namespace, janitor)
        self._mounted = LayerMounts()

    def close(self) -> None:
        super().close()
        self._mounted.close()

    def unpack(self, source: Source, root: str) -> Unpacked:
        """The layer read from `source` as an index beside directory `root`, or into it. In a thread.

        InvalidArgument for bytes that are no layer; OSError."""
        directory = os.path.dirname(root)
        try:
            return index_layer(source, directory)
        except Unindexable as reason:
            log.warning("erofs: a layer is unpacked into a directory: %s", reason)
            with reason.layer() as tar:
                return unpack(tar, root, directory, stacks=True)

    def place(self, root: str, lowers: Sequence[str], unpacked: Unpacked) -> list[str]:
        """Finish the layer unpacked to `root` over the directories `lowers`; it and they, nearest first.

        InvalidArgument when a hard link's target is nowhere below; OSError."""
        number = int(os.path.basename(os.path.dirname(root)))
        if isinstance(unpacked.applied, ErofsLayer):
            try:
                settle_index(unpacked.applied, lowers)
                self._mount_of(number)
            except (ValueError, OSError) as reason:
                # What it brings up from below has no room, or the kernel does not take it.
                log.warning("erofs: layer %s is unpacked into a directory: %s", unpacked.diff_id, reason)
                with stored_layer(f"{self._directory}/{number}", unpacked.size) as tar:
                    unpacked.applied = unpack(tar, root, os.path.dirname(root), stacks=True).applied
                os.unlink(f"{self._directory}/{number}/{FILE}")
        if not isinstance(unpacked.applied, ErofsLayer):
            settle(root, lowers, unpacked.applied)
        return [*self._stack(number, False), *lowers]

    def may_index(self, root: str) -> bool:
        """Whether `root` is the directory of an active snapshot here that has nothing so far."""
        directory = os.path.dirname(root)
        return (
            os.path.dirname(directory) == self._directory
            and os.path.basename(directory).isdigit()
            and not os.listdir(root)
            and not os.path.exists(f"{directory}/{FILE}")
        )

    def sync(self, *keys: str) -> None:
        """As overlay's; of layers with an index, whose file is on the disk already, only the names are left to do."""
        numbers = [self._chain.find(key).number for key in keys]
        if not all(self._is_bare_index(number) for number in numbers):
            super().sync(*keys)
            return
        for path in (*(f"{self._directory}/{number}" for number in numbers), self._directory):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def _discard(self, row: Row) -> None:
        self._mounted.drop(row.number)
        super()._discard(row)

    def _stack(self, number: int, host: bool) -> list[str]:
        fd = -1 if host else self._mount_of(number)
        if fd < 0:
            return super()._stack(number, host)
        # "/." because some who look at layers follow no symlink in the last place, and N is one.
        mounted = f"/proc/{os.getpid()}/fd/{fd}/."
        return [mounted] if self._is_bare_index(number) else [self._own(number), mounted]

    def _lowers(self, number: int, info: SnapshotInfo) -> list[str]:
        """A layer that a client had applied to the active snapshot itself lies right below its directory."""
        fd = self._mount_of(number)
        return [*([] if fd < 0 else [f"/proc/{os.getpid()}/fd/{fd}/."]), *super()._lowers(number, info)]

    def _may_bind(self, number: int, host: bool) -> bool:
        # The kernel copies a detached mount only for the mount namespace that it was made in.
        return host or self._mount_of(number) < 0

    def _measure(self, number: int) -> Usage:
        """The file of an index is as much its snapshot's as the directory."""
        found = directory_usage(self._own(number))
        try:
            stored = os.stat(f"{self._directory}/{number}/{FILE}")
        except FileNotFoundError:
            return found
        return Usage(found.size + stored.st_blocks * 512, found.inodes + 1)

    def _is_bare_index(self, number: int) -> bool:
        """Whether the snapshot is a layer's index and nothing was written over it."""
        directory = f"{self._directory}/{number}"
        return os.path.exists(f"{directory}/{FILE}") and not os.listdir(f"{directory}/fs")

    def _mount_of(self, number: int) -> int:
        """The descriptor of a layer's mount, -1 for a snapshot that is a directory."""
        return self._mounted.get(number, f"{self._directory}/{number}/{FILE}")


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
