"""Image names: what garbage collection starts from."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from sampan import errors
from sampan.containerd.metadata import Metadata, labels_from, labels_text, now
from sampan.containerd.services import Image
from sampan.oci.image import descriptor_document, descriptor_from


class ImageStore:
    """`services.Images`."""

    def __init__(self, metadata: Metadata, namespace: str, collect: Callable[[], int]) -> None:
        """`collect` is the garbage collection of the namespace (`gc.collect`)."""
        self._metadata = metadata
        self._namespace = namespace
        self._collect = collect

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
        return self._collect()


def _image(row: tuple[Any, ...]) -> Image:
    name, target, created_at, updated_at, labels = row
    return Image(name, descriptor_from(json.loads(target)), created_at, updated_at, labels_from(labels))
