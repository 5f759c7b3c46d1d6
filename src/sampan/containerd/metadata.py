"""`core.db`: one sqlite database with everything of the container core that must survive, by containerd namespace.

Durability. WAL, two levels. A transaction that *names* something somebody else will rely on (a blob, an image, a
committed snapshot, a lease) is `durable`: synchronous=FULL, so that it survives power loss, and what it names was
synced before. All others (active snapshots, which come and go with each container; ingests, which are only a
resume point) are synchronous=NORMAL: no fsync on the way to a container, never corrupt, and a power cut can take
back the last of them. What that can lose is a container made in the last seconds, whose own writes were not
synced either; a later durable commit of any kind makes all earlier ones durable too, since the WAL is one file.

Full disk. Removing needs room in the WAL as well, so it has its room from the start (`_reserve`): what fails for want
of space can always be undone. A full disk is OSError with ENOSPC, whether sqlite or a file met it.

Threads. Pulls unpack in threads, so the connection is guarded by a lock held for one transaction, which is
short by rule: no file is synced or read inside one. `after_commit` runs what must only happen once the rows are in.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SCHEMA_VERSION = 1
# A little more than wal_autocheckpoint pages of 4 KiB with their headers.
_WAL_ROOM = 4400 << 10

# `labels` is a JSON object. Times are nanoseconds since the epoch. `id` columns number files and directories; they
# are never used twice (autoincrement), so a directory that is still mounted or being deleted cannot be met again.
_SCHEMA = """
create table if not exists images (
    namespace text not null, name text not null, target text not null,
    created_at integer not null, updated_at integer not null, labels text not null,
    primary key (namespace, name)) without rowid;
create table if not exists content (
    namespace text not null, digest text not null, size integer not null,
    created_at integer not null, updated_at integer not null, labels text not null,
    primary key (namespace, digest)) without rowid;
create table if not exists ingests (
    id integer primary key autoincrement, namespace text not null, ref text not null,
    started_at integer not null, unique (namespace, ref));
create table if not exists snapshots (
    id integer primary key autoincrement, namespace text not null, snapshotter text not null, key text not null,
    parent text not null, kind text not null check (kind in ('active', 'view', 'committed')),
    storage text not null check (storage in ('directory', 'host')),
    created_at integer not null, updated_at integer not null, labels text not null,
    size integer, inodes integer, unique (namespace, snapshotter, key));
create index if not exists snapshots_by_parent on snapshots (namespace, snapshotter, parent);
create table if not exists leases (
    namespace text not null, id text not null, created_at integer not null, labels text not null,
    primary key (namespace, id)) without rowid;
create table if not exists lease_resources (
    namespace text not null, lease text not null, kind text not null, ref text not null,
    primary key (namespace, lease, kind, ref)) without rowid;
create table if not exists settings (name text not null primary key, value text not null) without rowid;
"""


def private_directory(path: str) -> None:
    """Make directory `path`, or take from others what they had of it.

    Below it are the secrets that containers are started with, and the set-uid programs of images and volumes, which
    nobody on the machine may come by (CVE-2021-41091, CVE-2024-25621)."""
    os.makedirs(path, mode=0o700, exist_ok=True)
    os.chmod(path, 0o700)


def private_file(path: str) -> None:
    """Make a database's file, or take it from others; sqlite gives those beside it (-wal, -shm) its mode."""
    fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)
    finally:
        os.close(fd)


class Metadata:
    """The open database. Made by `open_core`; stores receive it and own their tables' meaning."""

    def __init__(self, path: str) -> None:
        self._lock = threading.RLock()
        # Held while a file and the row that names it change together; taken before a transaction, never inside one.
        self.files = threading.Lock()
        self._depth = 0
        self._durable = False
        self._after: list[Callable[[], None]] = []
        private_file(path)
        # autocommit: transactions are written out below. check_same_thread: see "Threads" above.
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        self._connection.execute("pragma journal_mode=wal")
        self._connection.execute("pragma synchronous=normal")
        with self.transaction(durable=True) as connection:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"pragma user_version={SCHEMA_VERSION:d}")
        _reserve(f"{path}-wal")

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """All or nothing. Inside another one it is a savepoint of that one, which must be durable if this is."""
        with self._lock:
            if self._depth:
                if durable and not self._durable:
                    raise RuntimeError("a durable transaction inside one that is not")
                with self._nested() as connection:
                    yield connection
                return
            # The pragma only takes effect outside a transaction.
            if durable:
                self._connection.execute("pragma synchronous=full")
            self._depth, self._durable = 1, durable
            try:
                self._connection.execute("begin immediate")
                try:
                    yield self._connection
                except BaseException:
                    self._connection.execute("rollback")
                    self._after.clear()
                    raise
                self._connection.execute("commit")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
                    raise
                if self._connection.in_transaction:
                    self._connection.execute("rollback")
                self._after.clear()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            finally:
                self._depth = 0
                if durable:
                    self._connection.execute("pragma synchronous=normal")
            after, self._after = self._after, []
        for action in after:
            action()

    @contextmanager
    def _nested(self) -> Iterator[sqlite3.Connection]:
        name, kept = f"nested{self._depth:d}", len(self._after)
        self._connection.execute(f"savepoint {name}")
        self._depth += 1
        try:
            yield self._connection
        except BaseException:
            self._connection.execute(f"rollback to {name}")
            del self._after[kept:]
            raise
        finally:
            self._depth -= 1
            self._connection.execute(f"release {name}")

    def after_commit(self, action: Callable[[], None]) -> None:
        """Run `action` when the outermost transaction of this thread has committed, or now when there is none."""
        with self._lock:
            if self._depth:
                self._after.append(action)
                return
        action()

    def setting(self, name: str) -> str:
        """What this root was told once, "" for nothing."""
        row = self.row("select value from settings where name=?", name)
        return "" if row is None else str(row[0])

    def set(self, name: str, value: str) -> None:
        with self.transaction(durable=True) as connection:
            connection.execute("insert or replace into settings (name, value) values (?, ?)", (name, value))

    def rows(self, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._connection.execute(query, arguments).fetchall()

    def row(self, query: str, *arguments: Any) -> tuple[Any, ...] | None:
        with self._lock:
            found: tuple[Any, ...] | None = self._connection.execute(query, arguments).fetchone()
            return found


def _reserve(wal: str) -> None:
    """Room for what the WAL holds before sqlite writes it back (1000 pages) and starts it anew.

    Its end is where a frame has no valid checksum, so zeros may follow. posix_fallocate(3)."""
    fd = os.open(wal, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.posix_fallocate(fd, 0, _WAL_ROOM)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
    finally:
        os.close(fd)


def now() -> int:
    """Nanoseconds since the epoch, the time of every row."""
    return time.time_ns()


def labels_text(labels: Mapping[str, str] | None) -> str:
    return json.dumps(dict(labels or {}), sort_keys=True, separators=(",", ":"))


def labels_from(text: str) -> dict[str, str]:
    labels: dict[str, str] = json.loads(text)
    return labels
