"""The native snapshotter: each snapshot is a whole copy of its parent. For kernels and file systems without overlay.

On disk under `snapshots/native/`: `<n>/fs` and `trash/`. Slow and large, and always there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence

from sampan import errors
from sampan.containerd.diff.names import is_forged_xattr
from sampan.containerd.metadata import Metadata
from sampan.containerd.services import Mount, SnapshotInfo, Usage
from sampan.containerd.snapshots.chain import Chain
from sampan.containerd.snapshots.disk import directory_usage
from sampan.containerd.snapshots.janitor import Janitor
from sampan.linux.fds import syncfs

_COPY_CHUNK = 1 << 22


class NativeSnapshotter:
    """`services.Snapshotter`."""

    name = "native"
    # Each layer is unpacked over a copy of the one below, with whiteouts carried out.
    stacks = False
    userxattr = False

    def __init__(self, metadata: Metadata, directory: str, namespace: str) -> None:
        self._directory = directory
        self._chain = Chain(metadata, namespace, self.name)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._janitor = Janitor(directory)

    def recover(self) -> None:
        """After a crash: throw away directories that no row names."""
        known = {str(number) for number in self._chain.numbers()}
        for entry in os.listdir(self._directory):
            if entry.isdigit() and entry not in known:
                self._janitor.discard(f"{self._directory}/{entry}")

    def close(self) -> None:
        self._janitor.close()

    def stat(self, key: str) -> SnapshotInfo:
        return self._chain.find(key).info

    def relabel(self, key: str, labels: Mapping[str, str]) -> SnapshotInfo:
        """Replace the snapshot's labels. NotFound."""
        return self._chain.relabel(key, labels)

    def walk(self) -> Iterator[SnapshotInfo]:
        for row in self._chain.walk():
            yield row.info

    def usage(self, key: str) -> Usage:
        row = self._chain.find(key)
        if row.usage is not None:
            return row.usage
        found = directory_usage(self._fs(row.number))
        if row.info.kind == "committed":
            self._chain.remember(row.number, found)
        return found

    def mounts(self, key: str) -> Sequence[Mount]:
        row = self._chain.find(key)
        if row.info.kind == "committed":
            raise errors.Conflict(f"snapshot {key} is not active: failed precondition")
        return [self._mount(row.number, row.info)]

    def prepare(self, key: str, parent: str, labels: Mapping[str, str] | None = None) -> Sequence[Mount]:
        return self._create(SnapshotInfo("active", key, parent, 0, dict(labels or {})))

    def view(self, key: str, parent: str, labels: Mapping[str, str] | None = None) -> Sequence[Mount]:
        return self._create(SnapshotInfo("view", key, parent, 0, dict(labels or {})))

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
        if not synced:
            self.sync(key)
        # The disk a copy takes is its whole tree, whatever its layer brought: `usage` is not that.
        self._chain.commit(name, key, None, labels, None)

    def sync(self, key: str) -> None:
        """Bring everything on the snapshot's file system to the disk. syncfs(2)."""
        fd = os.open(self.upper(key), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(fd)
        finally:
            os.close(fd)

    def remove(self, key: str) -> None:
        row = self._chain.remove(key)
        self._chain.metadata.after_commit(lambda: self._janitor.discard(f"{self._directory}/{row.number}"))

    def upper(self, key: str) -> str:
        return self._fs(self._chain.find(key).number)

    def lowers(self, key: str) -> list[str]:
        """The parent's directory, which has all below it: what the changes of `key` are relative to. NotFound."""
        return self.layers(self._chain.find(key).info.parent)

    def layers(self, name: str) -> list[str]:
        return [self.upper(name)] if name else []

    def _fs(self, number: int) -> str:
        return f"{self._directory}/{number}/fs"

    def _mount(self, number: int, info: SnapshotInfo) -> Mount:
        return Mount("bind", self._fs(number), ("rbind", "rw" if info.kind == "active" else "ro"))

    def _create(self, info: SnapshotInfo) -> Sequence[Mount]:
        number = self._chain.add(info.name, info.parent, info.kind, info.labels)
        made = f"{self._directory}/{number}"
        try:
            os.mkdir(made, 0o700)
            os.mkdir(f"{made}/fs", 0o755)
            if info.parent:
                copy_tree(self._fs(self._chain.find(info.parent).number), f"{made}/fs")
        except BaseException:
            self._chain.remove(info.name)
            self._janitor.discard(made)
            raise
        return [self._mount(number, info)]


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
