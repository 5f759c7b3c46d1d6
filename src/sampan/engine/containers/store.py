"""Container records: one sqlite row each, and all of them in memory, found by id, name or id prefix.

    create table containers (id, name unique, image_id, status, document)

`document` is the record as JSON. Every method that changes something is one transaction (or part of one that the
caller has open). The memory index is what every reader uses: sqlite is read once, at start.
"""

from __future__ import annotations

import bisect
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from sampan.engine.containers.model import Container, Link
from sampan.errors import AlreadyExists, InvalidArgument, NotFound

_SCHEMA = """
create table if not exists containers (
    id text primary key,
    name text not null unique,
    image_id text not null,
    status text not null,
    document blob not null
) without rowid
"""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


class Store:
    """Failures of sqlite itself (a full disk) come out as sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._encode = msgspec.json.Encoder().encode
        with connection:
            connection.execute(_SCHEMA)
        decode = msgspec.json.Decoder(Container).decode
        rows = connection.execute("select document from containers").fetchall()
        records = [decode(document) for (document,) in rows]
        self._records = {record.id: record for record in records}
        self._names = {record.name: record.id for record in records}
        self._ids = sorted(self._records)

    def all(self) -> Sequence[Container]:
        """Newest first, as `docker ps` lists them."""
        return sorted(self._records.values(), key=lambda record: record.created_at, reverse=True)

    def find(self, container_id: str) -> Container | None:
        """By full id only."""
        return self._records.get(container_id)

    def get(self, reference: str) -> Container:
        """By id, name (with or without the slash) or unique id prefix. NotFound, InvalidArgument in Docker's words."""
        record = self._records.get(reference)
        if record is not None:
            return record
        named = self._names.get(reference.removeprefix("/"))
        if named is not None and named in self._records:
            return self._records[named]
        if not reference:
            raise InvalidArgument("invalid empty container name or id")
        start = bisect.bisect_left(self._ids, reference)
        matches = [found for found in self._ids[start : start + 2] if found.startswith(reference)]
        if len(matches) > 1:
            raise InvalidArgument(f"multiple IDs found with provided prefix: {reference}")
        if not matches and "/" in reference.removeprefix("/"):
            return self._linked(reference)
        if not matches:
            raise NotFound(f"No such container: {reference}")
        return self._records[matches[0]]

    def callers(self, container_id: str) -> Iterator[tuple[Container, Link]]:
        """The containers that have a legacy link to this one."""
        for record in self._records.values():
            for link in record.links:
                if link.container_id == container_id:
                    yield record, link

    def _linked(self, reference: str) -> Container:
        """By PARENT/ALIAS, the name of a legacy link."""
        parent, _, alias = reference.removeprefix("/").partition("/")
        record = self._records.get(self._names.get(parent, ""))
        for link in record.links if record else ():
            if link.alias == alias and link.container_id in self._records:
                return self._records[link.container_id]
        raise NotFound(f"No such container: {reference}")

    @contextmanager
    def name_reserved(self, name: str, container_id: str) -> Iterator[None]:
        """Hold `name` for a container that is being made or renamed. AlreadyExists, InvalidArgument (Docker's rules).

        Left with the record inserted under this name, it stays taken; otherwise it is free again."""
        check_name(name)
        self.check_free(name)
        self._names[name] = container_id
        try:
            yield
        finally:
            record = self._records.get(container_id)
            if record is None or record.name != name:
                del self._names[name]

    def check_free(self, name: str) -> None:
        """AlreadyExists in Docker's words when `name` is taken."""
        owner = self._names.get(name)
        if owner is not None:
            raise AlreadyExists(
                f'Conflict. The container name "/{name}" is already in use by container "{owner}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )

    def is_free(self, name: str) -> bool:
        return name not in self._names

    def insert(self, record: Container) -> None:
        self._write("insert into containers (name, image_id, status, document, id) values (?, ?, ?, ?, ?)", record)
        self._records[record.id] = record
        self._names[record.name] = record.id
        bisect.insort(self._ids, record.id)

    def put(self, record: Container) -> Container:
        """Replace the record of the same id; the record. NotFound when it was removed meanwhile."""
        previous = self._records.get(record.id)
        if previous is None:
            raise NotFound(f"No such container: {record.id}")
        self._write("update containers set name=?, image_id=?, status=?, document=? where id=?", record)
        self._records[record.id] = record
        if previous.name != record.name:
            self._names.pop(previous.name, None)
            self._names[record.name] = record.id
        return record

    def delete(self, container_id: str) -> None:
        """Idempotent."""
        with self._connection:
            self._connection.execute("delete from containers where id=?", (container_id,))
        record = self._records.pop(container_id, None)
        if record is not None:
            self._names.pop(record.name, None)
            self._ids.remove(container_id)

    def _write(self, statement: str, record: Container) -> None:
        document = self._encode(record)
        with self._connection:
            self._connection.execute(statement, (record.name, record.image_id, record.status, document, record.id))


def check_name(name: str) -> None:
    """InvalidArgument in Docker's words unless `name` follows its rules."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
