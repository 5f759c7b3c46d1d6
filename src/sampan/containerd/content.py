"""The content store: immutable blobs named by digest, and the ingests they are written through.

On disk under `content/`: `blobs/<algorithm>/<hex>` and `ingest/<n>`. A blob's row is written only after its bytes
were synced and renamed into place, so a row always names a whole blob; `recover` removes files without a row.
Blob files are shared between containerd namespaces, rows are not: a file goes when its last row goes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from sampan import errors
from sampan.containerd.metadata import Metadata, labels_from, labels_text, now
from sampan.containerd.reachability import DOCUMENT_LIMIT
from sampan.containerd.services import ContentInfo
from sampan.containerd.snapshots.janitor import Janitor
from sampan.oci import digest as digests

_REHASH_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class IngestStatus:
    """An unfinished ingest: `offset` in bytes, times in nanoseconds since the epoch."""

    ref: str
    offset: int
    started_at: int
    updated_at: int


class ContentStore:
    """`services.Content` on a directory. Safe to use from several threads."""

    def __init__(self, metadata: Metadata, directory: str, namespace: str, janitor: Janitor | None = None) -> None:
        """`janitor`: that of `directory`, to delete blobs in the background; otherwise they are deleted at once."""
        self._janitor = janitor
        self._metadata = metadata
        self._directory = directory
        self._namespace = namespace
        self._locked: set[str] = set()
        self._lock = threading.Lock()
        for algorithm in digests.HEX_LENGTH:
            os.makedirs(f"{directory}/blobs/{algorithm}", mode=0o700, exist_ok=True)
        os.makedirs(f"{directory}/ingest", mode=0o700, exist_ok=True)

    def path(self, digest: str) -> str:
        """Where the blob's file is or would be; InvalidArgument for a malformed digest."""
        algorithm, encoded = digests.split(digest)
        return f"{self._directory}/blobs/{algorithm}/{encoded}"

    def info(self, digest: str) -> ContentInfo:
        row = self._metadata.row(
            "select digest, size, created_at, labels, updated_at from content where namespace=? and digest=?",
            self._namespace,
            digest,
        )
        if row is None:
            raise errors.NotFound(f"content {digest}: not found")
        return ContentInfo(row[0], row[1], row[2], labels_from(row[3]), row[4])

    def has(self, digest: str) -> bool:
        query = "select 1 from content where namespace=? and digest=?"
        return self._metadata.row(query, self._namespace, digest) is not None

    def read(self, digest: str) -> bytes:
        with self.open(digest) as file:
            if os.fstat(file.fileno()).st_size > DOCUMENT_LIMIT:
                # What an image calls its manifest may be any blob of it (CVE-2023-25153).
                raise errors.InvalidArgument(f"content {digest}: larger than {DOCUMENT_LIMIT} bytes")
            return file.read()

    def open(self, digest: str) -> BinaryIO:
        self.info(digest)
        try:
            return open(self.path(digest), "rb")
        except FileNotFoundError as error:
            raise errors.NotFound(f"content {digest}: not found") from error

    def walk(self) -> Iterator[ContentInfo]:
        rows = self._metadata.rows(
            "select digest, size, created_at, labels, updated_at from content where namespace=? order by digest",
            self._namespace,
        )
        for row in rows:
            yield ContentInfo(row[0], row[1], row[2], labels_from(row[3]), row[4])

    def put(self, data: bytes, labels: Mapping[str, str] | None = None) -> str:
        digest = digests.of(data)
        if self.has(digest):
            return digest
        # A small blob is never resumed, so its ref only has to be nobody else's.
        ingest = self.writer(f"put-{digest}-{threading.get_ident()}")
        try:
            ingest.truncate()
            ingest.write(data)
            return ingest.commit(len(data), digest, labels)
        except errors.AlreadyExists:
            return digest
        finally:
            ingest.close()

    def label(self, digest: str, labels: Mapping[str, str]) -> ContentInfo:
        """Replace the blob's labels; "" as a value removes the key. NotFound."""
        with self._metadata.transaction(durable=True) as connection:
            merged = {k: v for k, v in {**self.info(digest).labels, **labels}.items() if v}
            connection.execute(
                "update content set labels=?, updated_at=? where namespace=? and digest=?",
                (labels_text(merged), now(), self._namespace, digest),
            )
        return self.info(digest)

    def delete(self, digest: str) -> None:
        with self._metadata.transaction(durable=True) as connection:
            cursor = connection.execute("delete from content where namespace=? and digest=?", (self._namespace, digest))
            if cursor.rowcount == 0:
                raise errors.NotFound(f"content {digest}: not found")
            self._metadata.after_commit(lambda: self._unlink_unnamed(digest))

    def _unlink_unnamed(self, digest: str) -> None:
        """Remove the file unless some namespace names it."""
        with self._metadata.files:
            if self._metadata.row("select 1 from content where digest=?", digest) is None:
                if self._janitor is not None:
                    # A large file takes its time, and the loop may be waiting.
                    self._janitor.discard(self.path(digest))
                    return
                try:
                    os.unlink(self.path(digest))
                except FileNotFoundError:
                    pass  # a recovery was faster

    def writer(self, ref: str) -> BlobIngest:
        """Open or resume `ref`; what is there already is hashed again, which takes time for a large one."""
        with self._lock:
            if ref in self._locked:
                raise errors.Unavailable(f"ref {ref} locked: unavailable")
            self._locked.add(ref)
        try:
            # No abort may come between the row and the file.
            with self._metadata.files:
                number = self._ingest_id(ref)
                fd = os.open(self._ingest_path(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            return BlobIngest(self, ref, number, fd)
        except BaseException:
            self._unlock(ref)
            raise

    def ingests(self) -> Iterator[tuple[str, int, int]]:
        """(ref, offset, started_at) of each unfinished ingest, being written or not."""
        rows = self._metadata.rows(
            "select id, ref, started_at from ingests where namespace=? order by id", self._namespace
        )
        for number, ref, started_at in rows:
            try:
                yield ref, os.stat(self._ingest_path(number)).st_size, started_at
            except FileNotFoundError:
                continue  # committed or aborted meanwhile

    def statuses(self) -> Iterator[IngestStatus]:
        """Of each unfinished ingest, being written or not."""
        rows = self._metadata.rows(
            "select id, ref, started_at from ingests where namespace=? order by ref", self._namespace
        )
        for number, ref, started_at in rows:
            try:
                found = os.stat(self._ingest_path(number))
            except FileNotFoundError:
                continue  # committed or aborted meanwhile
            yield IngestStatus(ref, found.st_size, started_at, found.st_mtime_ns)

    def size_elsewhere(self, digest: str) -> int | None:
        """The size of a blob that another containerd namespace has; None when none has it."""
        row = self._metadata.row("select size from content where digest=? limit 1", digest)
        return None if row is None else int(row[0])

    def adopt(self, digest: str, labels: Mapping[str, str] | None = None) -> None:
        """Name a blob that another containerd namespace has. AlreadyExists; NotFound when it has gone."""
        stamp = now()
        with self._metadata.transaction(durable=True) as connection:
            size = self.size_elsewhere(digest)
            if size is None:
                raise errors.NotFound(f"content {digest}: not found")
            if self.has(digest):
                raise errors.AlreadyExists(f"content {digest}: already exists")
            connection.execute(
                "insert into content (namespace, digest, size, created_at, updated_at, labels)"
                " values (?, ?, ?, ?, ?, ?)",
                (self._namespace, digest, size, stamp, stamp, labels_text(labels)),
            )

    def abort(self, ref: str) -> None:
        """Drop the ingest `ref`; who is writing it goes on, and cannot commit. NotFound."""
        query = "select id from ingests where namespace=? and ref=?"
        with self._metadata.files:
            row = self._metadata.row(query, self._namespace, ref)
            if row is None:
                raise errors.NotFound(f"reference {ref}: not found")
            self._forget(row[0])
            os.unlink(self._ingest_path(row[0]))

    def recover(self) -> None:
        """After a crash: remove blob files that no row names and ingest files that no row names."""
        named = {row[0] for row in self._metadata.rows("select digest from content")}
        for algorithm in digests.HEX_LENGTH:
            directory = f"{self._directory}/blobs/{algorithm}"
            for entry in os.listdir(directory):
                if f"{algorithm}:{entry}" not in named:
                    os.unlink(f"{directory}/{entry}")
        known = {str(row[0]) for row in self._metadata.rows("select id from ingests")}
        for entry in os.listdir(f"{self._directory}/ingest"):
            if entry not in known:
                os.unlink(f"{self._directory}/ingest/{entry}")

    def _ingest_id(self, ref: str) -> int:
        with self._metadata.transaction() as connection:
            row = connection.execute(
                "select id from ingests where namespace=? and ref=?", (self._namespace, ref)
            ).fetchone()
            if row is None:
                cursor = connection.execute(
                    "insert into ingests (namespace, ref, started_at) values (?, ?, ?)", (self._namespace, ref, now())
                )
                return cursor.lastrowid or 0
            return int(row[0])

    def _ingest_path(self, number: int) -> str:
        return f"{self._directory}/ingest/{number}"

    def _forget(self, number: int) -> None:
        with self._metadata.transaction() as connection:
            connection.execute("delete from ingests where id=?", (number,))

    def _unlock(self, ref: str) -> None:
        with self._lock:
            self._locked.discard(ref)

    def _name(self, ingest: BlobIngest, digest: str, size: int, labels: Mapping[str, str] | None) -> None:
        """Rename the synced ingest file to its digest and write the row. NotFound for one aborted meanwhile."""
        path = self.path(digest)
        # No collection may remove the file between the rename and the row.
        with self._metadata.files:
            try:
                os.rename(ingest.path, path)
            except FileNotFoundError as error:
                raise errors.NotFound(f"reference {ingest.ref}: not found") from error
            _sync_directory(os.path.dirname(path))
            stamp = now()
            with self._metadata.transaction(durable=True) as connection:
                connection.execute(
                    "insert into content (namespace, digest, size, created_at, updated_at, labels)"
                    " values (?, ?, ?, ?, ?, ?)",
                    (self._namespace, digest, size, stamp, stamp, labels_text(labels)),
                )
                connection.execute("delete from ingests where id=?", (ingest.number,))


class BlobIngest:
    """`services.Ingest`: an ingest file with its running sha256."""

    def __init__(self, store: ContentStore, ref: str, number: int, fd: int) -> None:
        """Takes `fd`, the file that `number` names."""
        self.ref = ref
        self.number = number
        self.path = store._ingest_path(number)
        self._store = store
        self._open = True
        self._fd = fd
        self._hash = digests.hasher()
        self.offset = 0
        try:
            while chunk := os.pread(self._fd, _REHASH_CHUNK, self.offset):
                self._hash.update(chunk)
                self.offset += len(chunk)
        except BaseException:
            os.close(self._fd)
            raise

    def read(self, offset: int, length: int) -> bytes:
        """What was written before: for an unpacker that joins a resumed download."""
        return os.pread(self._fd, length, offset)

    def digest(self) -> str:
        """Of the bytes so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes | memoryview) -> None:
        self._hash.update(data)
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, self.offset)
            self.offset += written
            view = view[written:]

    def truncate(self) -> None:
        os.ftruncate(self._fd, 0)
        self._hash = digests.hasher()
        self.offset = 0

    def sync(self) -> None:
        """Bring the bytes to the disk ahead of `commit`, whose own fsync is then short."""
        os.fsync(self._fd)

    def commit(self, size: int | None, expected: str | None, labels: Mapping[str, str] | None = None) -> str:
        digest = self.digest()
        if expected is not None and expected.startswith("sha512:"):
            digest = self._rehash("sha512")
        if size is not None and size != self.offset:
            got = self.offset
            self.abort()
            raise errors.DataLoss(f"unexpected commit size {got}, expected {size}: failed precondition")
        if expected is not None and expected != digest:
            self.abort()
            raise errors.DataLoss(f"unexpected commit digest {digest}, expected {expected}: failed precondition")
        if self._store.has(digest):
            self.abort()
            raise errors.AlreadyExists(f"content {digest}: already exists")
        os.fsync(self._fd)
        self._store._name(self, digest, self.offset, labels)
        self.close()
        return digest

    def _rehash(self, algorithm: str) -> str:
        running, offset = digests.hasher(algorithm), 0
        while chunk := os.pread(self._fd, _REHASH_CHUNK, offset):
            running.update(chunk)
            offset += len(chunk)
        return f"{algorithm}:{running.hexdigest()}"

    def close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._fd)
            self._store._unlock(self.ref)

    def abort(self) -> None:
        if not self._open:
            return
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass  # it became a blob, or was aborted by its ref
        self._store._forget(self.number)
        self.close()


def _sync_directory(path: str) -> None:
    """A rename is durable once its directory is."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
