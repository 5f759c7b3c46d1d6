"""What all snapshotters share: rows in a chain, a numbered directory for each, and a janitor for those that go.

On disk under `snapshots/NAME/`: `<n>/` for row n, and `trash/`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from sampan import errors
from sampan.containerd.metadata import Metadata
from sampan.containerd.services import Mount, SnapshotInfo, Usage
from sampan.containerd.snapshots.chain import Chain, Row
from sampan.containerd.snapshots.disk import directory_usage
from sampan.containerd.snapshots.janitor import Janitor
from sampan.linux.fds import syncfs


class NumberedSnapshotter:
    """The half of `services.Snapshotter` that is the same for all. A subclass says what a directory holds."""

    name = ""
    # Whether a layer is unpacked without its parents, with overlay's own whiteouts, and stacked at commit.
    stacks = False
    # Whether opaque marks are user.overlay.*, since there is no CAP_SYS_ADMIN.
    userxattr = False

    def __init__(self, metadata: Metadata, directory: str, namespace: str, janitor: Janitor | None = None) -> None:
        """`janitor`: that of `directory` when several namespaces share one; otherwise this snapshotter has its own."""
        self._directory = directory
        self._chain = Chain(metadata, namespace, self.name)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._own_janitor = Janitor(directory) if janitor is None else None
        self._janitor = janitor or self._own_janitor or Janitor(directory)

    def recover(self) -> None:
        """After a crash: throw away directories that no row of any namespace names."""
        known = {str(number) for number in self._chain.numbers()}
        for entry in os.listdir(self._directory):
            if entry != "trash" and entry not in known:
                self._janitor.discard(f"{self._directory}/{entry}")

    def close(self) -> None:
        if self._own_janitor is not None:
            self._own_janitor.close()

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
        if row.host:
            return Usage(0, 0)
        found = self._measure(row.number)
        if row.info.kind == "committed":
            self._chain.remember(row.number, found)
        return found

    def mounts(self, key: str) -> Sequence[Mount]:
        row = self._chain.find(key)
        if row.info.kind == "committed":
            raise errors.Conflict(f"snapshot {key} is not active: failed precondition")
        return self._mounts(row.number, row.info)

    def prepare(self, key: str, parent: str, labels: Mapping[str, str] | None = None) -> Sequence[Mount]:
        return self._create(SnapshotInfo("active", key, parent, 0, dict(labels or {})))

    def view(self, key: str, parent: str, labels: Mapping[str, str] | None = None) -> Sequence[Mount]:
        return self._create(SnapshotInfo("view", key, parent, 0, dict(labels or {})))

    def sync(self, *keys: str) -> None:
        """Bring everything on the file system that all snapshots are on to the disk. syncfs(2)."""
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(fd)
        finally:
            os.close(fd)

    def remove(self, key: str) -> None:
        row = self._chain.remove(key)
        # A host snapshot has no directory here: its number names nothing, so nothing of the host can be discarded.
        self._chain.metadata.after_commit(lambda: self._discard(row))

    def upper(self, key: str) -> str:
        row = self._chain.find(key)
        return self._own(row.number) if row.info.kind != "committed" else self.layers(key)[0]

    def lowers(self, key: str) -> list[str]:
        """The directories below `key`, nearest first: what its changes are relative to. NotFound."""
        return self.layers(self._chain.find(key).info.parent)

    def layers(self, name: str) -> list[str]:
        """The directories of committed `name` itself and all below it, nearest first; [] for ""."""
        raise NotImplementedError

    def _discard(self, row: Row) -> None:
        self._janitor.discard(f"{self._directory}/{row.number}")

    def _own(self, number: int) -> str:
        """The directory that an active snapshot's changes go to."""
        return f"{self._directory}/{number}/fs"

    def _measure(self, number: int) -> Usage:
        return directory_usage(self._own(number))

    def _create(self, info: SnapshotInfo) -> Sequence[Mount]:
        raise NotImplementedError

    def _mounts(self, number: int, info: SnapshotInfo) -> Sequence[Mount]:
        raise NotImplementedError
