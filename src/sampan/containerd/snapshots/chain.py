"""The rows of a snapshotter: keys, kinds, parents and numbers. What a number means on disk is the snapshotter's.

Model (containerd's Snapshotter contract): names and keys share one key space; an active snapshot has a committed
parent or none; commit renames active KEY to committed NAME and keeps its number; a snapshot with children stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sampan import errors
from sampan.containerd.metadata import Metadata, labels_from, labels_text, now
from sampan.containerd.services import Kind, SnapshotInfo, Usage


@dataclass(frozen=True, slots=True)
class Row:
    """One snapshot as stored. `host` says that its tree is the machine's root directory and not one of ours."""

    number: int
    host: bool
    info: SnapshotInfo
    usage: Usage | None


_COLUMNS = "id, storage, kind, key, parent, created_at, labels, size, inodes, updated_at"
# From a snapshot's parent down to the bottom, nearest first.
_CHAIN = """
with recursive chain (depth, id, storage, parent) as (
    select 0, id, storage, parent from snapshots where namespace=:ns and snapshotter=:sn and key=:key
    union all
    select depth + 1, s.id, s.storage, s.parent from chain c join snapshots s
        on s.namespace=:ns and s.snapshotter=:sn and s.key=c.parent where c.parent != '')
select id, storage from chain order by depth
"""


class Chain:
    """The rows of one snapshotter in one containerd namespace."""

    def __init__(self, metadata: Metadata, namespace: str, snapshotter: str) -> None:
        self.metadata = metadata
        self._scope = (namespace, snapshotter)

    def find(self, key: str) -> Row:
        """NotFound: snapshot KEY does not exist: not found."""
        row = self.metadata.row(
            f"select {_COLUMNS} from snapshots where namespace=? and snapshotter=? and key=?",  # noqa: S608
            *self._scope,
            key,
        )
        if row is None:
            raise errors.NotFound(f"snapshot {key} does not exist: not found")
        return _row(row)

    def walk(self) -> Iterator[Row]:
        query = f"select {_COLUMNS} from snapshots where namespace=? and snapshotter=? order by id"  # noqa: S608
        for row in self.metadata.rows(query, *self._scope):
            yield _row(row)

    def trees(self, key: str) -> list[tuple[int, bool]]:
        """(number, host) of committed `key` and all below it, nearest first; [] for ""."""
        if not key:
            return []
        namespace, snapshotter = self._scope
        with self.metadata.transaction() as connection:
            rows = connection.execute(_CHAIN, {"ns": namespace, "sn": snapshotter, "key": key}).fetchall()
        return [(number, storage == "host") for number, storage in rows]

    def add(self, key: str, parent: str, kind: Kind, labels: Mapping[str, str] | None, host: bool = False) -> int:
        """A new row; its number. AlreadyExists; NotFound or InvalidArgument for the parent."""
        with self.metadata.transaction(durable=kind == "committed") as connection:
            if self._exists(key):
                raise errors.AlreadyExists(f'snapshot "{key}": already exists')
            if parent:
                self._committed(parent)
            stamp = now()
            values = (*self._scope, key, parent, kind, "host" if host else "directory", stamp, stamp)
            cursor = connection.execute(
                "insert into snapshots"
                " (namespace, snapshotter, key, parent, kind, storage, created_at, updated_at, labels)"
                " values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*values, labels_text(labels)),
            )
            return cursor.lastrowid or 0

    def commit(
        self, name: str, key: str, parent: str | None, labels: Mapping[str, str] | None, usage: Usage | None
    ) -> None:
        """Active `key` becomes committed `name`, over `parent` when one is given. AlreadyExists, NotFound, Conflict."""
        with self.metadata.transaction(durable=True) as connection:
            row = self.committable(name, key)
            if parent:
                self._committed(parent)
            connection.execute(
                "update snapshots set key=?, parent=?, kind='committed', updated_at=?, labels=?, size=?, inodes=?"
                " where id=?",
                (
                    name,
                    row.info.parent if parent is None else parent,
                    now(),
                    labels_text({**row.info.labels, **(labels or {})}),
                    None if usage is None else usage.size,
                    None if usage is None else usage.inodes,
                    row.number,
                ),
            )

    def committable(self, name: str, key: str) -> Row:
        """The row of active `key`, which can become `name` as it looks now: asked before a long sync.

        AlreadyExists, NotFound, Conflict."""
        row = self.find(key)
        if row.info.kind != "active":
            raise errors.Conflict(f"snapshot {key} is not active: failed precondition")
        if self._exists(name):
            raise errors.AlreadyExists(f'snapshot "{name}": already exists')
        return row

    def relabel(self, key: str, labels: Mapping[str, str]) -> SnapshotInfo:
        """Replace all labels. NotFound."""
        with self.metadata.transaction(durable=True) as connection:
            number = self.find(key).number
            connection.execute(
                "update snapshots set labels=?, updated_at=? where id=?", (labels_text(labels), now(), number)
            )
            return self.find(key).info

    def remember(self, number: int, usage: Usage) -> None:
        """Keep a committed snapshot's usage, which never changes."""
        with self.metadata.transaction() as connection:
            connection.execute(
                "update snapshots set size=?, inodes=? where id=? and kind='committed'",
                (usage.size, usage.inodes, number),
            )

    def remove(self, key: str) -> Row:
        """Take the row out. NotFound; Conflict while it has children.

        That of a committed one for good: its files go next, and a power cut must not bring the name back alone."""
        with self.metadata.transaction(durable=self.find(key).info.kind == "committed") as connection:
            row = self.find(key)
            query = "select 1 from snapshots where namespace=? and snapshotter=? and parent=? limit 1"
            if connection.execute(query, (*self._scope, key)).fetchone() is not None:
                raise errors.Conflict("cannot remove snapshot with child: failed precondition")
            connection.execute("delete from snapshots where id=?", (row.number,))
        return row

    def numbers(self) -> set[int]:
        """Of all namespaces: what may stand on disk."""
        query = "select id from snapshots where snapshotter=?"
        return {row[0] for row in self.metadata.rows(query, self._scope[1])}

    def _exists(self, key: str) -> bool:
        query = "select 1 from snapshots where namespace=? and snapshotter=? and key=?"
        return self.metadata.row(query, *self._scope, key) is not None

    def _committed(self, parent: str) -> None:
        try:
            kind = self.find(parent).info.kind
        except errors.NotFound as error:
            raise errors.NotFound(f"parent snapshot {parent} does not exist: not found") from error
        if kind != "committed":
            raise errors.InvalidArgument(f'parent "{parent}" is not committed snapshot: invalid argument')


def _row(columns: tuple[object, ...]) -> Row:
    number, storage, kind, key, parent, created_at, labels, size, inodes, updated_at = columns
    info = SnapshotInfo(kind, key, parent, created_at, labels_from(str(labels)), updated_at)  # type: ignore[arg-type]
    usage = Usage(size, inodes) if isinstance(size, int) and isinstance(inodes, int) else None
    return Row(number, storage == "host", info, usage)  # type: ignore[arg-type]
