"""containerd namespaces: names with labels, each with images, content, snapshots, containers and leases of its own.

A namespace exists once it was created, or once anything was written in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sampan import errors
from sampan.containerd import identifiers
from sampan.containerd.metadata import Metadata, labels_from, labels_text

_TABLE = "create table if not exists namespaces (name text primary key, labels text not null) without rowid"

# What must be gone before a namespace may go: what it is called in containerd's refusal, and where it is.
_CONTENTS = (("images", "images"), ("blobs", "content"), ("containers", "containers"))


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


class Namespaces:
    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        with metadata.transaction(durable=True) as connection:
            connection.execute(_TABLE)
        self._known: set[str] = set()

    def get(self, name: str) -> Namespace:
        """NotFound."""
        row = self._metadata.row("select labels from namespaces where name=?", name)
        if row is None:
            raise errors.NotFound(f'namespace "{name}": not found')
        return Namespace(name, labels_from(row[0]))

    def look(self, name: str) -> Namespace:
        """As `get`, but a namespace that nobody made yet is one without labels: clients ask before they write."""
        try:
            return self.get(name)
        except errors.NotFound:
            return Namespace(name)

    def list(self) -> Sequence[Namespace]:
        rows = self._metadata.rows("select name, labels from namespaces order by name")
        return [Namespace(name, labels_from(text)) for name, text in rows]

    def create(self, namespace: Namespace) -> Namespace:
        """AlreadyExists, InvalidArgument."""
        identifiers.validate(namespace.name)
        with self._metadata.transaction(durable=True):
            row = self._metadata.row("select 1 from namespaces where name=?", namespace.name)
            if row is not None:
                raise errors.AlreadyExists(f'namespace "{namespace.name}": already exists')
            self._write(namespace)
        return self.get(namespace.name)

    def relabel(self, name: str, labels: Mapping[str, str]) -> Namespace:
        """Replace all labels, of a namespace that this makes when it is new. InvalidArgument."""
        identifiers.validate(name)
        with self._metadata.transaction(durable=True):
            self._write(Namespace(name, labels))
        return self.get(name)

    def touch(self, name: str) -> None:
        """Something is about to be written in it."""
        if name not in self._known:
            with self._metadata.transaction() as connection:
                connection.execute("insert or ignore into namespaces (name, labels) values (?, '{}')", (name,))
            self._known.add(name)

    def delete(self, name: str) -> None:
        """NotFound; Conflict while anything is in it."""
        with self._metadata.transaction(durable=True) as connection:
            self.get(name)
            left = [word for word, table in _CONTENTS if self._any(table, name)]
            query = "select distinct snapshotter from snapshots where namespace=? order by snapshotter"
            left += [f'snapshots on "{row[0]}" snapshotter' for row in self._metadata.rows(query, name)]
            if left:
                raise errors.Conflict(
                    f'namespace "{name}" must be empty, but it still has {", ".join(left)}: failed precondition'
                )
            for table in ("leases", "lease_resources"):
                connection.execute(f"delete from {table} where namespace=?", (name,))  # noqa: S608
            connection.execute("delete from namespaces where name=?", (name,))
            self._known.discard(name)

    def _any(self, table: str, name: str) -> bool:
        return self._metadata.row(f"select 1 from {table} where namespace=? limit 1", name) is not None  # noqa: S608

    def _write(self, namespace: Namespace) -> None:
        with self._metadata.transaction(durable=True) as connection:
            connection.execute(
                "insert into namespaces (name, labels) values (?, ?) on conflict do update set labels=excluded.labels",
                (namespace.name, labels_text({k: v for k, v in namespace.labels.items() if v})),
            )
