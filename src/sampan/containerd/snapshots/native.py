"""The native snapshotter: each snapshot is a whole copy of its parent. For kernels and file systems without overlay.

On disk under `snapshots/native/`: `<n>/fs` and `trash/`. Slow and large, and always there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence

from sampan import errors
from sampan.containerd.diff.names import is_forged_xattr
from sampan.containerd.services import Mount, SnapshotInfo, Usage
from sampan.containerd.snapshots.numbered import NumberedSnapshotter

_COPY_CHUNK = 1 << 22


class NativeSnapshotter(NumberedSnapshotter):
    """`services.Snapshotter`. Each layer is unpacked over a copy of the one below, with whiteouts carried out."""

    name = "native"

    def commit(
        self,
        name: str,
        key: str,
        labels: Mapping[str, str] | None = None,
        *,
        parent: str | None = None,
        usage: Usage | None = None,
        synced: bool = False,
    ) -> None:
        """As the contract. A copy has no other parent than the one it was made from: InvalidArgument."""
        if parent is not None and parent != self._chain.find(key).info.parent:
            raise errors.InvalidArgument("the native snapshotter cannot change a snapshot's parent: invalid argument")
        self._chain.committable(name, key)
        if not synced:
            self.sync(key)
        # The disk a copy takes is its whole tree, whatever its layer brought: `usage` is not that.
        self._chain.commit(name, key, None, labels, None)

    def layers(self, name: str) -> list[str]:
        """The directory of `name`, which has all below it."""
        return [self._own(self._chain.find(name).number)] if name else []

    def _mounts(self, number: int, info: SnapshotInfo) -> Sequence[Mount]:
        return [Mount("bind", self._own(number), ("rbind", "rw" if info.kind == "active" else "ro"))]

    def _create(self, info: SnapshotInfo) -> Sequence[Mount]:
        number = self._chain.add(info.name, info.parent, info.kind, info.labels)
        made = f"{self._directory}/{number}"
        try:
            os.mkdir(made, 0o700)
            os.mkdir(f"{made}/fs", 0o755)
            if info.parent:
                copy_tree(self._own(self._chain.find(info.parent).number), f"{made}/fs")
        except BaseException:
            self._chain.remove(info.name)
            self._janitor.discard(made)
            raise
        return self._mounts(number, info)


def copy_tree(source: str, target: str) -> None:
    """Copy everything below directory `source` into the existing directory `target`, and its own attributes.

    Hard links stay links; mode, owner, times, xattrs are kept; holes are not. The trees are ours alone: nobody
    swaps names in them meanwhile."""
    linked: dict[int, str] = {}
    directories = [(source, target)]
    for origin, copy in directories:
        with os.scandir(origin) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                path = f"{copy}/{entry.name}"
                if stat.S_ISDIR(status.st_mode):
                    os.mkdir(path, 0o700)
                    directories.append((entry.path, path))
                    continue
                if status.st_nlink > 1 and status.st_ino in linked:
                    os.link(linked[status.st_ino], path, follow_symlinks=False)
                    continue
                linked[status.st_ino] = path
                copy_entry(entry.path, path, status)
    for origin, copy in reversed(directories):
        copy_attributes(origin, copy, os.lstat(origin))


def copy_entry(source: str, target: str, status: os.stat_result) -> None:
    """Copy one thing that is no directory, with its attributes; `status` is its lstat."""
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(status.st_mode):
        with open(source, "rb", buffering=0) as reader, open(target, "xb", buffering=0) as writer:
            while os.copy_file_range(reader.fileno(), writer.fileno(), _COPY_CHUNK):
                pass
    else:
        os.mknod(target, status.st_mode, status.st_rdev)
    copy_attributes(source, target, status)


def copy_attributes(source: str, target: str, status: os.stat_result) -> None:
    """Owner, mode, xattrs and times, in the order in which the kernel does not undo one by the next."""
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        if is_forged_xattr(name):
            continue  # what overlay notes about one layer's directory is not true of another's
        os.setxattr(target, name, os.getxattr(source, name, follow_symlinks=False), follow_symlinks=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
