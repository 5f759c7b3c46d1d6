"""Leases: what protects the parts of something unfinished, a running pull above all, from garbage collection.

A lease names resources before they exist, so there is no moment between a blob's commit and its image's name in
which a collection could take it. Leases of pulls do not survive the process (`forget_transfers` on start): a pull
that was cut off begins anew and finds its ingests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from sampan.containerd.metadata import Metadata, labels_from, labels_text, now

CONTENT, SNAPSHOT = "content", "snapshots"
# Marks the leases that end with this process: those that clients made are theirs and stay.
OWN_LABEL = "sampan.io/lease.transfer"


class Leases:
    def __init__(self, metadata: Metadata, namespace: str) -> None:
        self._metadata = metadata
        self._namespace = namespace

    @contextmanager
    def held(self, name: str) -> Iterator[Lease]:
        """A lease for the duration of the block."""
        # Not durable: a lease has nothing to say after this process.
        with self._metadata.transaction() as connection:
            connection.execute(
                "insert or replace into leases (namespace, id, created_at, labels) values (?, ?, ?, ?)",
                (self._namespace, name, now(), labels_text({OWN_LABEL: "true"})),
            )
        try:
            yield Lease(self._metadata, self._namespace, name)
        finally:
            with self._metadata.transaction() as connection:
                connection.execute("delete from leases where namespace=? and id=?", (self._namespace, name))
                connection.execute("delete from lease_resources where namespace=? and lease=?", (self._namespace, name))

    def resources(self) -> dict[str, set[str]]:
        """{kind: refs} of everything under a lease."""
        held: dict[str, set[str]] = {CONTENT: set(), SNAPSHOT: set()}
        query = "select kind, ref from lease_resources where namespace=?"
        for kind, ref in self._metadata.rows(query, self._namespace):
            held.setdefault(kind, set()).add(ref)
        return held


def forget_transfers(metadata: Metadata) -> None:
    """At start: the leases of transfers that the last process did not end, in all namespaces."""
    with metadata.transaction() as connection:
        for namespace, name, labels in metadata.rows("select namespace, id, labels from leases"):
            if OWN_LABEL in labels_from(labels):
                connection.execute("delete from leases where namespace=? and id=?", (namespace, name))
                connection.execute("delete from lease_resources where namespace=? and lease=?", (namespace, name))


class Lease:
    def __init__(self, metadata: Metadata, namespace: str, name: str) -> None:
        self._metadata = metadata
        self._scope = (namespace, name)

    def protect(self, kind: str, refs: Iterable[str]) -> None:
        """`kind` is CONTENT (digests) or SNAPSHOT (names); what is not there yet as well."""
        with self._metadata.transaction() as connection:
            connection.executemany(
                "insert or ignore into lease_resources (namespace, lease, kind, ref) values (?, ?, ?, ?)",
                [(*self._scope, kind, ref) for ref in refs],
            )
