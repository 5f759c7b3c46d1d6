"""Leases as clients make them: by name, labelled, and with any number of resources that garbage collection spares.

The tables are those of leases.py, whose own leases last as long as one pull. `containerd.io/gc.expire` (RFC 3339)
ends a lease, `containerd.io/gc.flat` says that it protects its resources and nothing these refer to.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sampan import errors
from sampan.containerd.metadata import Metadata, labels_from, labels_text, now
from sampan.oci import digest as digests

EXPIRE_LABEL = "containerd.io/gc.expire"
FLAT_LABEL = "containerd.io/gc.flat"
CONTENT, INGESTS, IMAGES, SNAPSHOTS = "content", "ingests", "images", "snapshots/"


@dataclass(frozen=True, slots=True)
class Lease:
    """`created_at` in nanoseconds since the epoch."""

    id: str
    created_at: int
    labels: Mapping[str, str] = field(default_factory=dict)

    def field(self, path: Sequence[str]) -> str | None:
        if path[0] == "labels":
            return self.labels.get(".".join(path[1:]))
        return self.id if path[0] == "id" else None

    def has_expired(self) -> bool:
        try:
            end = datetime.datetime.fromisoformat(self.labels[EXPIRE_LABEL])
        except (KeyError, ValueError):
            return False
        return end.timestamp() * 10**9 <= now()


class Leasing:
    """Of one containerd namespace."""

    def __init__(self, metadata: Metadata, namespace: str) -> None:
        self._metadata = metadata
        self._namespace = namespace

    def get(self, lease: str) -> Lease:
        """NotFound."""
        row = self._metadata.row(
            "select id, created_at, labels from leases where namespace=? and id=?", self._namespace, lease
        )
        if row is None:
            raise errors.NotFound(f'lease "{lease}": not found')
        return Lease(row[0], row[1], labels_from(row[2]))

    def list(self) -> Sequence[Lease]:
        rows = self._metadata.rows(
            "select id, created_at, labels from leases where namespace=? order by id", self._namespace
        )
        return [Lease(row[0], row[1], labels_from(row[2])) for row in rows]

    def create(self, lease: str, labels: Mapping[str, str]) -> Lease:
        """AlreadyExists. Any text is a name: ctr makes some that are no identifiers."""
        with self._metadata.transaction() as connection:
            if self._metadata.row("select 1 from leases where namespace=? and id=?", self._namespace, lease):
                raise errors.AlreadyExists(f'lease "{lease}": already exists')
            connection.execute(
                "insert into leases (namespace, id, created_at, labels) values (?, ?, ?, ?)",
                (self._namespace, lease, now(), labels_text(labels)),
            )
        return self.get(lease)

    def delete(self, lease: str) -> None:
        """NotFound."""
        with self._metadata.transaction() as connection:
            cursor = connection.execute("delete from leases where namespace=? and id=?", (self._namespace, lease))
            if cursor.rowcount == 0:
                raise errors.NotFound(f'lease "{lease}": not found')
            connection.execute("delete from lease_resources where namespace=? and lease=?", (self._namespace, lease))

    def add(self, lease: str, kind: str, ref: str) -> None:
        """Protect one more; it need not exist yet. NotFound, InvalidArgument, Unimplemented (kind), Error (no ref)."""
        _check(kind, ref)
        if not ref:
            raise errors.Error("key required")  # in the words of containerd's database
        with self._metadata.transaction() as connection:
            self.get(lease)
            connection.execute(
                "insert or ignore into lease_resources (namespace, lease, kind, ref) values (?, ?, ?, ?)",
                (self._namespace, lease, kind, ref),
            )

    def remove(self, lease: str, kind: str, ref: str) -> None:
        """Protect it no more. NotFound, InvalidArgument, Unimplemented (kind)."""
        _check(kind, ref)
        with self._metadata.transaction() as connection:
            self.get(lease)
            connection.execute(
                "delete from lease_resources where namespace=? and lease=? and kind=? and ref=?",
                (self._namespace, lease, kind, ref),
            )

    def hold(self, lease: str, kind: str, ref: str) -> None:
        """`add` for a request that is made under the lease; nothing when that is "". NotFound."""
        if not lease:
            return
        try:
            self.add(lease, kind, ref)
        except errors.NotFound:
            raise errors.NotFound("lease does not exist: not found") from None

    def resources(self, lease: str) -> Sequence[tuple[str, str]]:
        """(kind, ref) of everything it protects. NotFound."""
        self.get(lease)
        return [
            (kind, ref)
            for kind, ref in self._metadata.rows(
                "select kind, ref from lease_resources where namespace=? and lease=? order by kind, ref",
                self._namespace,
                lease,
            )
        ]


def _check(kind: str, ref: str) -> None:
    """In containerd's words."""
    first, _, rest = kind.partition("/")
    if first == "snapshots":
        if not rest or "/" in rest:
            raise errors.InvalidArgument(f"invalid snapshot resource type {kind}: invalid argument")
    elif first not in (CONTENT, INGESTS, IMAGES):
        raise errors.Unimplemented(f"resource type {kind} not supported yet: not implemented")
    elif rest:
        raise errors.InvalidArgument(f"invalid resource type {kind}: invalid argument")
    if kind == CONTENT:
        try:
            digests.validate(ref)
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument(f"invalid content resource id {ref}: {error}: invalid argument") from error
