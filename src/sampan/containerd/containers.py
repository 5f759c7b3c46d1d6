"""Container records: what is to be run and on which snapshot. The running thing made from one is a task."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sampan import errors
from sampan.containerd import identifiers
from sampan.containerd.labels import checked_labels
from sampan.containerd.metadata import Metadata, labels_from, labels_text, now

_TABLE = """
create table if not exists containers (
    namespace text not null, id text not null, created_at integer not null, updated_at integer not null,
    labels text not null, image text not null, runtime text not null, options text not null, spec text not null,
    snapshotter text not null, snapshot_key text not null, extensions text not null, sandbox text not null,
    primary key (namespace, id)) without rowid
"""
_COLUMNS = (
    "id, created_at, updated_at, labels, image, runtime, options, spec, snapshotter, snapshot_key, extensions, sandbox"
)


@dataclass(frozen=True, slots=True)
class Payload:
    """A message of a client's own, kept as it came: protobuf's Any."""

    type_url: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Container:
    """`runtime` is the runtime's name, `options` its own message. Times in nanoseconds since the epoch."""

    id: str
    labels: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    runtime: str = ""
    options: Payload | None = None
    spec: Payload | None = None
    snapshotter: str = ""
    snapshot_key: str = ""
    created_at: int = 0
    updated_at: int = 0
    extensions: Mapping[str, Payload] = field(default_factory=dict)
    sandbox: str = ""

    def field(self, path: Sequence[str]) -> str | None:
        """For filters: id, runtime.name, image, labels.NAME."""
        if list(path) == ["runtime", "name"]:
            return self.runtime or None
        if path[0] == "labels":
            return self.labels.get(".".join(path[1:]))
        return {"id": self.id, "image": self.image}.get(path[0]) or None


class Containers:
    """Of one containerd namespace."""

    def __init__(self, metadata: Metadata, namespace: str) -> None:
        self._metadata = metadata
        self._namespace = namespace

    def get(self, container_id: str) -> Container:
        """NotFound."""
        row = self._metadata.row(
            f"select {_COLUMNS} from containers where namespace=? and id=?",  # noqa: S608
            self._namespace,
            container_id,
        )
        if row is None:
            raise errors.NotFound(f'container "{container_id}" in namespace "{self._namespace}": not found')
        return _container(row)

    def list(self) -> Sequence[Container]:
        rows = self._metadata.rows(
            f"select {_COLUMNS} from containers where namespace=? order by id",  # noqa: S608
            self._namespace,
        )
        return [_container(row) for row in rows]

    def create(self, container: Container) -> Container:
        """AlreadyExists, InvalidArgument. Like the active snapshot it goes with, not synced on its own."""
        try:
            validate(container)
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument(f"create container failed validation: {error}") from error
        stamp = now()
        with self._metadata.transaction():
            query = "select 1 from containers where namespace=? and id=?"
            if self._metadata.row(query, self._namespace, container.id) is not None:
                raise errors.AlreadyExists(f'container "{container.id}": already exists')
            if "" in container.labels:
                value = container.labels[""]
                raise errors.Error(
                    f'failed to write container "{container.id}": failed to set label ""="{value}": key required'
                )
            self._write(replace(container, created_at=stamp, updated_at=stamp))
        return self.get(container.id)

    def update(self, container: Container, paths: Sequence[str]) -> Container:
        """Take over the fields that `paths` name, all that may change when it is empty. NotFound, InvalidArgument."""
        with self._metadata.transaction():
            try:
                stored = self.get(container.id)
            except errors.NotFound:
                raise errors.NotFound(f'container "{container.id}": not found') from None
            if not paths:
                if container.snapshotter != stored.snapshotter:
                    raise errors.InvalidArgument("container.Snapshotter field is immutable: invalid argument")
                if container.runtime != stored.runtime:
                    raise errors.InvalidArgument("container.Runtime.Name field is immutable: invalid argument")
                paths = ("labels", "spec", "extensions", "image", "snapshotkey")
            changed = stored
            for path in paths:
                changed = _with(changed, container, path)
            try:
                validate(changed)
            except errors.InvalidArgument as error:
                raise errors.InvalidArgument(f"update failed validation: {error}") from error
            self._write(replace(changed, updated_at=now()))
        return self.get(container.id)

    def delete(self, container_id: str) -> None:
        """NotFound."""
        with self._metadata.transaction() as connection:
            cursor = connection.execute(
                "delete from containers where namespace=? and id=?", (self._namespace, container_id)
            )
            if cursor.rowcount == 0:
                raise errors.NotFound(f"container {container_id}: not found")

    def _write(self, one: Container) -> None:
        values = (
            self._namespace,
            one.id,
            one.created_at,
            one.updated_at,
            labels_text(one.labels),
            one.image,
            one.runtime,
            _text(one.options),
            _text(one.spec),
            one.snapshotter,
            one.snapshot_key,
            json.dumps({key: _text(value) for key, value in one.extensions.items()}),
            one.sandbox,
        )
        with self._metadata.transaction() as connection:
            connection.execute(
                f"insert or replace into containers (namespace, {_COLUMNS})"  # noqa: S608
                " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                values,
            )


def create_table(metadata: Metadata) -> None:
    with metadata.transaction(durable=True) as connection:
        connection.execute(_TABLE)


def validate(container: Container) -> None:
    """InvalidArgument in containerd's words."""
    try:
        identifiers.validate(container.id)
    except errors.InvalidArgument as error:
        raise errors.InvalidArgument(f"container.ID: {error}") from error
    if any(not key for key in container.extensions):
        raise errors.InvalidArgument("container.Extension keys must not be zero-length: invalid argument")
    checked_labels(container.labels, "containers.Labels")
    if not container.runtime:
        raise errors.InvalidArgument("container.Runtime.Name must be set: invalid argument")
    if container.snapshot_key and not container.snapshotter:
        raise errors.InvalidArgument(
            "container.Snapshotter must be set if container.SnapshotKey is set: invalid argument"
        )


def _with(stored: Container, given: Container, path: str) -> Container:
    """`stored` with the field at `path` from `given`; a label that is not given goes, an extension becomes empty."""
    if path.startswith("labels."):
        key = path.removeprefix("labels.")
        return replace(stored, labels={**stored.labels, key: given.labels.get(key, "")})
    if path.startswith("extensions."):
        key = path.removeprefix("extensions.")
        return replace(stored, extensions={**stored.extensions, key: given.extensions.get(key, Payload("", b""))})
    if path == "labels":
        return replace(stored, labels=given.labels)
    if path == "spec":
        return replace(stored, spec=given.spec or stored.spec)
    if path == "extensions":
        return replace(stored, extensions=given.extensions)
    if path == "image":
        return replace(stored, image=given.image)
    if path == "snapshotkey":
        return replace(stored, snapshot_key=given.snapshot_key)
    raise errors.InvalidArgument(f'cannot update "{path}" field on "{stored.id}": invalid argument')


def _text(payload: Payload | None) -> str:
    return "" if payload is None else f"{payload.type_url} {base64.b64encode(payload.value).decode()}"


def _payload(text: str) -> Payload | None:
    if not text:
        return None
    type_url, _, encoded = text.rpartition(" ")
    return Payload(type_url, base64.b64decode(encoded))


def _container(row: tuple[Any, ...]) -> Container:
    (id, created_at, updated_at, labels, image, runtime, options, spec, snapshotter, key, extensions, sandbox) = row
    found = {name: _payload(text) for name, text in json.loads(extensions).items()}
    return Container(
        id=id,
        labels={k: v for k, v in labels_from(labels).items() if v},
        image=image,
        runtime=runtime,
        options=_payload(options),
        spec=_payload(spec),
        snapshotter=snapshotter,
        snapshot_key=key,
        created_at=created_at,
        updated_at=updated_at,
        extensions={name: payload for name, payload in found.items() if payload is not None},
        sandbox=sandbox,
    )
