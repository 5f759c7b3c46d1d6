"""Image names and the garbage collection that starts from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sampan import errors
from sampan.containerd import leases, reachability
from sampan.containerd.content import ContentStore
from sampan.containerd.leases import Leases
from sampan.containerd.metadata import Metadata, labels_from, labels_text, now
from sampan.containerd.services import Image, Snapshotter
from sampan.oci.image import descriptor_document, descriptor_from

# An ingest nobody resumed for this long is given up by the next collection; containerd's leases of pulls last as long.
INGEST_KEPT_NS = 24 * 3600 * 10**9


class ImageStore:
    """`services.Images`."""

    def __init__(
        self, metadata: Metadata, namespace: str, content: ContentStore, snapshots: Snapshotter, held: Leases
    ) -> None:
        self._metadata = metadata
        self._namespace = namespace
        self._content = content
        self._snapshots = snapshots
        self._leases = held

    def get(self, name: str) -> Image:
        row = self._metadata.row(
            "select name, target, created_at, updated_at, labels from images where namespace=? and name=?",
            self._namespace,
            name,
        )
        if row is None:
            raise errors.NotFound(f'image "{name}": not found')
        return _image(row)

    def list(self) -> Sequence[Image]:
        rows = self._metadata.rows(
            "select name, target, created_at, updated_at, labels from images where namespace=? order by name",
            self._namespace,
        )
        return [_image(row) for row in rows]

    def put(self, image: Image) -> Image:
        stamp = now()
        with self._metadata.transaction(durable=True) as connection:
            connection.execute(
                "insert into images (namespace, name, target, created_at, updated_at, labels) values (?, ?, ?, ?, ?, ?)"
                " on conflict do update set"
                " target=excluded.target, updated_at=excluded.updated_at, labels=excluded.labels",
                (
                    self._namespace,
                    image.name,
                    json.dumps(descriptor_document(image.target)),
                    image.created_at or stamp,
                    stamp,
                    labels_text(image.labels),
                ),
            )
        return self.get(image.name)

    def delete(self, name: str) -> None:
        with self._metadata.transaction(durable=True) as connection:
            cursor = connection.execute("delete from images where namespace=? and name=?", (self._namespace, name))
            if cursor.rowcount == 0:
                raise errors.NotFound(f'image "{name}": not found')

    def collect(self) -> int:
        """One transaction: what is unreachable when it begins goes, and nothing becomes unreachable meanwhile."""
        freed = 0
        with self._metadata.transaction(durable=True):
            held = self._leases.resources()
            digests, chains = held[leases.CONTENT], held[leases.SNAPSHOT]
            for image in self.list():
                reached, needed = reachability.reach(self._content, image.target)
                digests |= reached
                chains |= needed
            freed += self._collect_snapshots(chains)
            for blob in self._content.walk():
                if blob.digest not in digests:
                    self._content.delete(blob.digest)
                    freed += blob.size
        return freed + self._collect_ingests()

    def _collect_snapshots(self, needed: set[str]) -> int:
        """Children go before their parents; what is active is a container's and keeps its whole chain."""
        freed = 0
        infos = {info.name: info for info in self._snapshots.walk()}
        kept: set[str] = set()
        for info in infos.values():
            if info.kind != "committed" or info.name in needed:
                name = info.name
                while name and name not in kept:
                    kept.add(name)
                    name = infos[name].parent if name in infos else ""
        # A child is always younger than its parent, except one that got its parent at commit: go by generation.
        doomed = [name for name in infos if name not in kept]
        parents = {infos[name].parent for name in doomed}
        while doomed:
            for name in [one for one in doomed if one not in parents]:
                freed += self._snapshots.usage(name).size
                self._snapshots.remove(name)
                doomed.remove(name)
            parents = {infos[name].parent for name in doomed}
        return freed

    def _collect_ingests(self) -> int:
        freed = 0
        for ref, size, started_at in list(self._content.ingests()):
            if now() - started_at > INGEST_KEPT_NS:
                try:
                    self._content.abort(ref)
                    freed += size
                except (errors.Unavailable, errors.NotFound):
                    continue  # somebody is writing it after all
        return freed


def _image(row: tuple[Any, ...]) -> Image:
    name, target, created_at, updated_at, labels = row
    return Image(name, descriptor_from(json.loads(target)), created_at, updated_at, labels_from(labels))
