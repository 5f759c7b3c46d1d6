"""Sandbox records: what clients note of groups of containers. Nothing here runs one: that is a controller's work."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sampan import errors
from sampan.containerd import identifiers
from sampan.containerd.containers import Payload
from sampan.containerd.metadata import Metadata, labels_from, labels_text, now

_TABLE = """
create table if not exists sandboxes (
    namespace text not null, id text not null, created_at integer not null, updated_at integer not null,
    labels text not null, runtime text not null, options text not null, spec text not null,
    extensions text not null, sandboxer text not null, primary key (namespace, id)) without rowid
"""
_COLUMNS = "id, created_at, updated_at, labels, runtime, options, spec, extensions, sandboxer"
_CHANGEABLE = ("labels", "extensions", "spec", "runtime")


@dataclass(frozen=True, slots=True)
class Sandbox:
    """`runtime` is the runtime's name, `options` its own message. Times in nanoseconds since the epoch."""

    id: str
    runtime: str = ""
    options: Payload | None = None
    spec: Payload | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: int = 0
    updated_at: int = 0
    extensions: Mapping[str, Payload] = field(default_factory=dict)
    sandboxer: str = ""

    def field(self, path: Sequence[str]) -> str | None:
        """For filters: id, labels.NAME."""
        if path[0] == "labels":
            return self.labels.get(".".join(path[1:]))
        return self.id if list(path) == ["id"] else None


class Sandboxes:
    """Of one containerd namespace."""

    def __init__(self, metadata: Metadata, namespace: str) -> None:
        self._metadata, self._namespace = metadata, namespace

    def get(self, sandbox_id: str) -> Sandbox:
        """NotFound."""
        query = f"select {_COLUMNS} from sandboxes where namespace=? and id=?"  # noqa: S608
        row = self._metadata.row(query, self._namespace, sandbox_id)
        if row is None:
            raise errors.NotFound(f'bucket "{sandbox_id}" not found')
        return _sandbox(row)

    def list(self) -> Sequence[Sandbox]:
        query = f"select {_COLUMNS} from sandboxes where namespace=? order by id"  # noqa: S608
        return [_sandbox(row) for row in self._metadata.rows(query, self._namespace)]

    def create(self, sandbox: Sandbox) -> Sandbox:
        """AlreadyExists, InvalidArgument."""
        try:
            identifiers.validate(sandbox.id)
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument(f"failed to validate sandbox: invalid sandbox ID: {error}") from error
        stamp = now()
        with self._metadata.transaction():
            if any(one.id == sandbox.id for one in self.list()):
                raise errors.AlreadyExists(f'write error: sandbox bucket "{sandbox.id}" already exists')
            self._write(replace(sandbox, created_at=stamp, updated_at=stamp))
        return self.get(sandbox.id)

    def update(self, sandbox: Sandbox, paths: Sequence[str]) -> Sandbox:
        """Take over the fields that `paths` name, all that may change when it is empty. NotFound, InvalidArgument."""
        with self._metadata.transaction():
            changed = stored = self.get(sandbox.id)
            if not paths and sandbox.runtime != stored.runtime:
                raise errors.InvalidArgument("sandbox.Runtime.Name field is immutable")
            for path in paths or _CHANGEABLE:
                changed = _with(changed, sandbox, path)
            self._write(replace(changed, updated_at=now()))
        return self.get(sandbox.id)

    def delete(self, sandbox_id: str) -> None:
        """NotFound."""
        with self._metadata.transaction() as connection:
            query = "delete from sandboxes where namespace=? and id=?"
            if connection.execute(query, (self._namespace, sandbox_id)).rowcount == 0:
                raise errors.NotFound(f'failed to delete sandbox "{sandbox_id}": not found')

    def _write(self, one: Sandbox) -> None:
        extensions = json.dumps({key: _text(value) for key, value in one.extensions.items()})
        values = (
            *(self._namespace, one.id, one.created_at, one.updated_at, labels_text(one.labels), one.runtime),
            *(_text(one.options), _text(one.spec), extensions, one.sandboxer),
        )
        statement = f"insert or replace into sandboxes (namespace, {_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        with self._metadata.transaction() as connection:
            connection.execute(statement, values)


def create_table(metadata: Metadata) -> None:
    with metadata.transaction(durable=True) as connection:
        connection.execute(_TABLE)


def _with(stored: Sandbox, given: Sandbox, path: str) -> Sandbox:
    """`stored` with the field at `path` from `given`; a member of a map that is not given goes."""
    if path.startswith("labels."):
        key = path.removeprefix("labels.")
        kept = {name: value for name, value in stored.labels.items() if name != key}
        return replace(stored, labels={**kept, **{k: v for k, v in given.labels.items() if k == key and v}})
    if path.startswith("extensions."):
        key = path.removeprefix("extensions.")
        others = {name: value for name, value in stored.extensions.items() if name != key}
        return replace(stored, extensions={**others, **{k: v for k, v in given.extensions.items() if k == key}})
    if path == "labels":
        return replace(stored, labels=given.labels)
    if path == "extensions":
        return replace(stored, extensions=given.extensions)
    if path == "spec":
        return replace(stored, spec=given.spec)
    if path == "runtime":
        return replace(stored, runtime=given.runtime, options=given.options)
    raise errors.InvalidArgument(f'cannot update "{path}" field on sandbox "{stored.id}"')


def _text(payload: Payload | None) -> str:
    return "" if payload is None else f"{payload.type_url} {base64.b64encode(payload.value).decode()}"


def _payload(text: str) -> Payload | None:
    type_url, _, encoded = text.rpartition(" ")
    return Payload(type_url, base64.b64decode(encoded)) if text else None


def _sandbox(row: tuple[Any, ...]) -> Sandbox:
    (id, created_at, updated_at, labels, runtime, options, spec, extensions, sandboxer) = row
    found = {name: _payload(text) for name, text in json.loads(extensions).items()}
    return Sandbox(
        id,
        runtime,
        _payload(options),
        _payload(spec),
        labels_from(labels),
        created_at,
        updated_at,
        {name: value for name, value in found.items() if value is not None},
        sandboxer,
    )
