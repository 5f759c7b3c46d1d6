"""containerd.services.content.v1: blobs, and the streams that they are read and written through."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf import empty_pb2
from grpclib import GRPCError, Status

from sampan import errors
from sampan.api.containerd.events import content_pb2 as told
from sampan.api.containerd.services.content.v1 import content_pb2 as api
from sampan.containerd import filters, leasing
from sampan.containerd.content import BlobIngest, IngestStatus
from sampan.containerd.grpc import fields
from sampan.containerd.grpc.publishing import publish
from sampan.containerd.grpc.server import Call
from sampan.containerd.labels import checked_labels, with_values
from sampan.containerd.metadata import now
from sampan.containerd.services import ContentInfo
from sampan.containerd.stores import Stores, StoreTable
from sampan.oci import digest as digests

_PIECE = 1 << 20
# So many blobs go into one message of a listing.
_BATCH = 100


class ContentService:
    descriptor = api.DESCRIPTOR.services_by_name["Content"]

    def __init__(self, table: StoreTable) -> None:
        self._table = table
        # How large a writer said that its blob will be, by namespace and ref: kept for those who ask for the status.
        self._promises: dict[tuple[str, str], int] = {}

    async def info(self, call: Call, request: api.InfoRequest) -> api.InfoResponse:
        _valid(request.digest, f'"{request.digest}" failed validation')
        return api.InfoResponse(info=_info(self._found(call, request.digest)))

    def _found(self, call: Call, digest: str) -> ContentInfo:
        """NotFound in the words of containerd's metadata store."""
        content = self._table.of(call.namespace).content
        if not content.has(digest):
            raise errors.NotFound(f"content digest {digest}: not found")
        return content.info(digest)

    async def update(self, call: Call, request: api.UpdateRequest) -> api.UpdateResponse:
        content, digest = self._table.of(call.namespace).content, request.info.digest
        _valid(digest, f'"{digest}" failed validation')
        given = checked_labels(request.info.labels, "info.Labels")
        with self._table.metadata.transaction(durable=True):
            stored = self._found(call, digest).labels
            wanted = fields.masked_labels(stored, given, request.update_mask, f'content info "{digest}"')
            changed = content.label(digest, {**dict.fromkeys(stored, ""), **wanted})
        self._table.changed(call.namespace, removed=True)
        return api.UpdateResponse(info=_info(changed))

    async def list(self, call: Call, request: api.ListContentRequest) -> AsyncIterator[api.ListContentResponse]:
        wanted = filters.parse(request.filters)
        messages = [_info(one) for one in self._table.of(call.namespace).content.walk() if wanted.matches(_fields(one))]
        for start in range(0, len(messages), _BATCH):
            yield api.ListContentResponse(info=messages[start : start + _BATCH])

    async def delete(self, call: Call, request: api.DeleteContentRequest) -> empty_pb2.Empty:
        _valid(request.digest)
        self._found(call, request.digest)
        self._table.of(call.namespace).content.delete(request.digest)
        self._table.changed(call.namespace, removed=True)
        publish(self._table.events, call.namespace, "/content/delete", told.ContentDelete(digest=request.digest))
        return empty_pb2.Empty()

    async def read(self, call: Call, request: api.ReadContentRequest) -> AsyncIterator[api.ReadContentResponse]:
        """An answer's offset counts from where the reading began."""
        _valid(request.digest, f"{request.digest}: %s")
        content, info = self._table.of(call.namespace).content, self._found(call, request.digest)
        begin = offset = max(request.offset, 0)
        if offset > info.size:
            raise GRPCError(Status.OUT_OF_RANGE, f"read past object length {info.size} bytes")
        end = info.size if request.size <= 0 else min(info.size, offset + request.size)
        with content.open(request.digest) as file:
            while offset < end:
                data = os.pread(file.fileno(), min(_PIECE, end - offset), offset)
                if not data:
                    raise errors.DataLoss(f"content {request.digest}: shorter than {info.size} bytes")
                yield api.ReadContentResponse(offset=offset - begin, data=data)
                offset += len(data)

    async def status(self, call: Call, request: api.StatusRequest) -> api.StatusResponse:
        for one in self._table.of(call.namespace).content.statuses():
            if one.ref == request.ref:
                return api.StatusResponse(status=self._status(call, one))
        raise errors.NotFound(f'could not get status for ref "{request.ref}": reference {request.ref}: not found')

    async def list_statuses(self, call: Call, request: api.ListStatusesRequest) -> api.ListStatusesResponse:
        wanted = filters.parse(request.filters)

        def matches(status: IngestStatus) -> bool:
            return wanted.matches(lambda path: status.ref if path[0] == "ref" else None)

        found = self._table.of(call.namespace).content.statuses()
        return api.ListStatusesResponse(statuses=[self._status(call, one) for one in found if matches(one)])

    async def abort(self, call: Call, request: api.AbortRequest) -> empty_pb2.Empty:
        self._table.of(call.namespace).content.abort(request.ref)
        self._promises.pop((call.namespace, request.ref), None)
        return empty_pb2.Empty()

    async def write(
        self, call: Call, requests: AsyncIterator[api.WriteContentRequest]
    ) -> AsyncIterator[api.WriteContentResponse]:
        writing: Writing | None = None
        try:
            async for request in requests:
                if writing is None:
                    writing = await self._open(call, request)
                writing.promise(request)
                if request.action == api.STAT:
                    yield writing.answer(request)
                    continue
                await writing.write(request)
                if request.action == api.COMMIT:
                    await self._commit(call, writing, request)
                    yield writing.answer(request)
                    return
                yield writing.answer(request)
        finally:
            if writing is not None:
                writing.close()

    async def _open(self, call: Call, request: api.WriteContentRequest) -> Writing:
        stores = self._table.of(call.namespace)
        if not request.ref:
            raise GRPCError(Status.INVALID_ARGUMENT, "first message must have a reference")
        shared = 0
        if request.expected:
            if stores.content.has(request.expected):
                raise errors.AlreadyExists(f"content {request.expected}: already exists")
            shared = stores.content.size_elsewhere(request.expected) or 0
        stores.leases.hold(call.lease, leasing.INGESTS, request.ref)
        self._table.changed(call.namespace)
        if shared:
            return Writing(stores, request.ref, None, shared)
        if request.total > 0:
            self._promises[call.namespace, request.ref] = request.total
        # What an earlier writer left is hashed again, which takes time for a large blob.
        return Writing(stores, request.ref, await asyncio.to_thread(stores.content.writer, request.ref), 0)

    async def _commit(self, call: Call, writing: Writing, request: api.WriteContentRequest) -> None:
        stores = self._table.of(call.namespace)
        labels = with_values(checked_labels(request.labels, "info.Labels"))
        if call.lease:
            # Before the blob has its name: no collection may find it without the lease.
            stores.leases.hold(call.lease, leasing.CONTENT, writing.digest())
        try:
            await asyncio.to_thread(writing.commit, labels)
        except errors.DataLoss as error:
            raise errors.Conflict(str(error)) from error
        if call.lease:
            stores.leases.remove(call.lease, leasing.INGESTS, writing.ref)
        self._promises.pop((call.namespace, writing.ref), None)
        payload = told.ContentCreate(digest=writing.digest(), size=writing.offset)
        publish(self._table.events, call.namespace, "/content/create", payload)

    def _status(self, call: Call, one: IngestStatus) -> api.Status:
        return api.Status(
            started_at=fields.timestamp(one.started_at),
            updated_at=fields.timestamp(one.updated_at),
            ref=one.ref,
            offset=one.offset,
            total=self._promises.get((call.namespace, one.ref), 0),
        )


class Writing:
    """One Write stream's blob: an ingest, or (`ingest` None) a blob of `size` bytes that another namespace has, of
    which no byte needs to come. A client that sends them all the same has an ingest from then on."""

    def __init__(self, stores: Stores, ref: str, ingest: BlobIngest | None, size: int) -> None:
        self.ref = ref
        self.total = 0
        self.expected = ""
        self._content = stores.content
        self._ingest = ingest
        self._size = size
        self._started = now()
        self._updated = self._started
        self._committed = ""
        self._stated = 0

    @property
    def offset(self) -> int:
        return self._size if self._ingest is None else self._ingest.offset

    def promise(self, request: api.WriteContentRequest) -> None:
        """What the client says about the whole, in any message."""
        if request.total > 0:
            self.total = request.total
        if request.expected:
            self.expected = request.expected

    def digest(self) -> str:
        """Of the bytes so far."""
        if self._committed:
            return self._committed
        return self.expected if self._ingest is None else self._ingest.digest()

    async def write(self, request: api.WriteContentRequest) -> None:
        """OUT_OF_RANGE for bytes that do not follow those that are there; from 0 begins anew."""
        if request.offset > 0 and request.offset != self.offset:
            raise GRPCError(Status.OUT_OF_RANGE, f"write @{request.offset} must occur at current offset {self.offset}")
        if self._ingest is None:
            if not request.data:
                return
            if request.offset > 0:
                raise errors.Conflict(f"content {self.expected} needs no data: failed precondition")
            self._ingest = await asyncio.to_thread(self._content.writer, self.ref)
        if request.offset == 0 and self._ingest.offset > 0:
            self._ingest.truncate()
        if request.data:
            self._ingest.write(request.data)
            self._updated = now()

    def commit(self, labels: dict[str, str]) -> None:
        """In a thread. AlreadyExists; Conflict when size or digest differ from the promise: the ingest stays, to be
        gone on with or begun anew."""
        if self.total and self.total != self.offset:
            raise errors.Conflict(
                f'"{self.ref}" failed size validation: {self.offset} != {self.total}: failed precondition'
            )
        if self._ingest is None:
            self._content.adopt(self.expected, labels)
            self._committed = self.expected
            return
        if self.expected and self.expected != self.digest() and not self.expected.startswith("sha512:"):
            raise errors.Conflict(
                f"unexpected commit digest {self.digest()}, expected {self.expected}: failed precondition"
            )
        self._committed = self._ingest.commit(self.total or None, self.expected or None, labels)

    def answer(self, request: api.WriteContentRequest) -> api.WriteContentResponse:
        """As containerd, which repeats in all answers what it said about the whole in the last to a STAT."""
        if request.action == api.STAT:
            self._stated = self.total
        return api.WriteContentResponse(
            action=request.action,
            started_at=fields.timestamp(self._started),
            updated_at=fields.timestamp(self._updated),
            offset=self.offset,
            total=self._stated,
            digest=self.digest(),
        )

    def close(self) -> None:
        if self._ingest is not None:
            self._ingest.close()


def _valid(digest: str, text: str = "%s") -> None:
    """InvalidArgument with `text`, in which %s is what is wrong."""
    try:
        digests.validate(digest)
    except errors.InvalidArgument as error:
        raise GRPCError(Status.INVALID_ARGUMENT, text.replace("%s", str(error))) from error


def _fields(info: ContentInfo) -> filters.Fields:
    def value(path: Sequence[str]) -> str | None:
        if path[0] == "digest":
            return info.digest
        return filters.labels(path[1:], info.labels) if path[0] == "labels" else None

    return value


def _info(info: ContentInfo) -> Any:
    return api.Info(
        digest=info.digest,
        size=info.size,
        created_at=fields.timestamp(info.created_at),
        updated_at=fields.timestamp(info.updated_at),
        labels=dict(info.labels),
    )
