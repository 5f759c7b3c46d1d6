"""Layers on their way into the store: one job per chain ID, shared by every pull that needs it at the moment.

A job downloads its blob (or takes it from the store), verifies it, and unpacks it in the same pass into an active
snapshot without a parent. The pull that waits for all its jobs then gives them their parents and names
(`stacking.py`). With a snapshotter that does not stack, jobs only download. A job nobody waits for any more is
cancelled; its ingest stays for the next pull to resume.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from sampan import errors
from sampan.containerd.content import BlobIngest, ContentStore
from sampan.containerd.diff.stream import Source
from sampan.containerd.diff.unpack import Unpacked
from sampan.containerd.diff.unpackers import WORTH, Unpackers
from sampan.containerd.remotes.download import Cut, Pipe, Recorded, download
from sampan.containerd.remotes.registry import Repository
from sampan.containerd.services import Progress
from sampan.containerd.snapshots.erofs import ErofsSnapshotter
from sampan.containerd.snapshots.native import NativeSnapshotter
from sampan.containerd.snapshots.overlayfs import OverlaySnapshotter
from sampan.containerd.snapshots.writeback import Writeback
from sampan.oci.image import Descriptor

_T = TypeVar("_T")
Report = Callable[[Progress], None]
# The engine's clients redraw a line for every message.
_PROGRESS_EVERY = 0.1
_DRAIN = 1 << 18


def extraction_key(chain: str) -> str:
    """Of a snapshot that lives no longer than this process, above all the active one that a layer is unpacked into;
    `Layers.recover` knows them by the prefix."""
    return f"extract-{os.urandom(4).hex()} {chain}"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image being pulled: its place (`chain`), its blob, what it unpacks to (`diff_id`)."""

    chain: str
    parent: str
    diff_id: str
    blob: Descriptor

    @property
    def id(self) -> str:
        """As docker's progress lines name it."""
        return self.blob.digest.partition(":")[2][:12]


class Layers:
    """The jobs that run now, and the threads they unpack in."""

    def __init__(
        self, content: ContentStore, snapshots: OverlaySnapshotter | NativeSnapshotter, downloads: int, attempts: int
    ) -> None:
        self.content = content
        self.snapshots = snapshots
        self.attempts = attempts
        self.jobs: dict[str, LayerJob] = {}
        self.slots = asyncio.Semaphore(downloads)
        # Twice the downloads: layers whose blob is already here unpack beside those that are coming.
        self.threads = ThreadPoolExecutor(2 * downloads, thread_name_prefix="layer")
        self._unpackers = Unpackers()
        self._writeback = Writeback(snapshots.sync)
        self._pulls = 0
        self._blob_locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    @contextmanager
    def expected(self) -> Iterator[None]:
        """Layers will come, though nobody knows yet which: what unpacks them may get ready."""
        if not isinstance(self.snapshots, ErofsSnapshotter):
            self._unpackers.begin()
        self._pulls += 1
        try:
            yield
        finally:
            self._pulls -= 1
            self._rest()

    def _rest(self) -> None:
        if not self.jobs and not self._pulls:
            self._unpackers.rest()

    def recover(self) -> None:
        """After a crash: extractions that nobody finished."""
        for info in list(self.snapshots.walk()):
            if info.kind in ("active", "view") and info.name.startswith("extract-"):
                self.snapshots.remove(info.name)

    def blob_lock(self, digest: str) -> asyncio.Lock:
        """Held while a blob is downloaded: another chain with the same layer then finds it in the store."""
        return self._blob_locks.setdefault(digest, asyncio.Lock())

    async def join(self, layer: Layer, repository: Repository | None, report: Report) -> LayerJob:
        """The job of `layer`, begun now or by somebody else; `leave` it in any case.

        Without a repository (an import) the blob is in the store already."""
        while (job := self.jobs.get(layer.chain)) is not None and job.ending:
            await asyncio.wait({job.task})
        if job is None:
            job = self.jobs[layer.chain] = LayerJob(self, layer, repository)
            if layer.blob.size >= WORTH and not isinstance(self.snapshots, ErofsSnapshotter):
                self._unpackers.begin()
        job.listeners.append(report)
        if job.last is not None:
            report(job.last)
        return job

    def forget(self, job: LayerJob) -> None:
        """`job` has ended."""
        if self.jobs.get(job.layer.chain) is job:
            del self.jobs[job.layer.chain]
        self._rest()

    def unpack(self, source: Source, size: int, root: str) -> Unpacked:
        """In a thread: a layer whose blob has `size` bytes into directory `root`. InvalidArgument when it is none."""
        snapshots = self.snapshots
        if isinstance(snapshots, ErofsSnapshotter):
            return snapshots.unpack(source, root)
        kind = {"stacks": snapshots.stacks, "userxattr": snapshots.userxattr}
        with self._writeback.writing() if size >= WORTH else nullcontext():
            return self._unpackers.unpack(source, size, root, os.path.dirname(root), **kind)

    def unpack_stored(self, blob: Descriptor, root: str, moved: Callable[[int], None]) -> Unpacked:
        """In a thread: the same from the content store; `moved` hears how far it is. Error in docker's words."""
        with self.content.open(blob.digest) as file:
            try:
                return self.unpack(_Watched(file, moved), blob.size, root)
            except errors.InvalidArgument as error:
                raise errors.Error(f"failed to register layer: {error}") from error
            except OSError as error:
                raise _failed(error) from error

    async def close(self) -> None:
        for job in list(self.jobs.values()):
            job.listeners.clear()
            await job.end()
        self.threads.shutdown(wait=True)


class LayerJob:
    """`task` ends with the unpacked layer, which then lies in the active snapshot `key`."""

    def __init__(self, layers: Layers, layer: Layer, repository: Repository | None) -> None:
        self.layer = layer
        self.key = extraction_key(layer.chain)
        self.listeners: list[Report] = []
        self.last: Progress | None = None
        self.ending = False
        self._layers = layers
        self._repository = repository
        self._reported = 0.0
        self._has_slot = False
        self.task = asyncio.create_task(self._run(), name=f"layer {layer.id}")
        # A failure is told to whoever waits; when all have left, there is nobody to tell.
        self.task.add_done_callback(_forget)

    async def wait(self) -> Unpacked | None:
        """The result; cancelling the waiter leaves the job to its other waiters."""
        return await asyncio.shield(self.task)

    async def leave(self, report: Report) -> None:
        """One waiter less; the last one out stops it and throws away what was not committed."""
        if report in self.listeners:
            self.listeners.remove(report)
        if not self.listeners:
            await self.end()

    async def end(self) -> None:
        if self.ending:
            await asyncio.wait({self.task})
            return
        self.ending = True
        if not self.task.done():
            self.task.cancel()
            await asyncio.wait({self.task})
        self.discard()
        self._layers.forget(self)

    def discard(self) -> None:
        """Throw away what was unpacked, unless it was committed."""
        try:
            self._layers.snapshots.remove(self.key)
        except errors.NotFound:
            pass  # committed under its chain ID, or never begun

    def report(self, status: str, current: int = 0, total: int = 0) -> None:
        self.last = Progress(self.layer.id, status, current, total)
        for listener in list(self.listeners):
            listener(self.last)

    def _moving(self, status: str, current: int, total: int) -> None:
        """Like `report`, but not for every piece."""
        now = asyncio.get_running_loop().time()
        if now - self._reported >= _PROGRESS_EVERY or current >= total:
            self._reported = now
            self.report(status, current, total)

    async def _run(self) -> Unpacked | None:
        self.report("Pulling fs layer")
        if self._layers.slots.locked():
            self.report("Waiting")
        await self._layers.slots.acquire()
        self._has_slot = True
        try:
            async with self._layers.blob_lock(self.layer.blob.digest):
                if self._repository is not None and not self._layers.content.has(self.layer.blob.digest):
                    unpacked = await self._download(self._repository)
                else:
                    self.report("Download complete")
                    unpacked = await self._from_store()
        except OSError as error:
            raise _failed(error) from error
        finally:
            self._free_slot()
        if unpacked is not None:
            self.verify(unpacked)
        return unpacked

    def _free_slot(self) -> None:
        """The next layer may be downloaded: what is left to do here needs no network."""
        if self._has_slot:
            self._has_slot = False
            self._layers.slots.release()

    def verify(self, unpacked: Unpacked) -> None:
        """DataLoss unless the layer is what the image's config says."""
        if unpacked.diff_id != self.layer.diff_id:
            raise errors.DataLoss("layers from manifest don't match image configuration")

    async def _download(self, repository: Repository) -> Unpacked | None:
        """Fetch, verify, store and unpack; wrong bytes are fetched once more where somebody else may be to blame."""
        blob = self.layer.blob
        ingest = await self._thread(self._layers.content.writer, f"layer-{blob.digest}")
        if ingest.offset > blob.size:
            ingest.truncate()
        resumed = ingest.offset > 0
        while True:
            try:
                return await self._fetch_into(repository, ingest)
            except errors.DataLoss:
                # Bytes kept from before, or a mirror that has others than it should: each gets one chance.
                if not repository.distrust(blob.digest) and not resumed:
                    raise
            resumed = False
            self.discard()
            ingest = await self._thread(self._layers.content.writer, f"layer-{blob.digest}")
            await self._thread(ingest.truncate)

    async def _fetch_into(self, repository: Repository, ingest: BlobIngest) -> Unpacked | None:
        blob, pipe = self.layer.blob, Pipe()
        try:
            root = self._prepare()
        except BaseException:
            ingest.close()  # nobody else does, and what it holds goes on from here
            raise
        # Where a push may mount it from (containerd's label).
        source = repository.reference
        labels = {f"containerd.io/distribution.source.{source.domain}": source.path}
        working = asyncio.ensure_future(self._thread(self._receive, ingest, pipe, root, labels))
        try:
            await download(
                repository,
                blob,
                ingest.offset,
                pipe,
                lambda at: self._moving("Downloading", at, blob.size),
                lambda seconds: self.report(f"Retrying in {max(1, round(seconds))} second"),
                self._layers.attempts,
            )
            self._free_slot()
            self.report("Verifying Checksum")
            unpacked = await asyncio.shield(working)
        except Cut:
            # The thread failed first (a full disk): its error is the one to tell.
            return await working
        except BaseException:
            # The thread must have let go of the ingest before anybody resumes it.
            pipe.cut()
            await asyncio.wait({working})
            _forget(working)
            raise
        self.report("Download complete")
        self.report("Extracting", blob.size, blob.size)
        return unpacked

    def _prepare(self) -> str:
        """The directory to unpack into, "" when that comes later."""
        if not self._layers.snapshots.stacks:
            return ""
        self._layers.snapshots.prepare(self.key, "")
        return self._layers.snapshots.upper(self.key)

    def _receive(self, ingest: BlobIngest, pipe: Pipe, root: str, labels: Mapping[str, str]) -> Unpacked | None:
        """In a thread: record and unpack the stream, then commit the blob."""
        source = Recorded(ingest, pipe)
        unpacked: Unpacked | None = None
        failure: errors.InvalidArgument | None = None
        try:
            try:
                if root:
                    unpacked = self._layers.unpack(source, self.layer.blob.size, root)
            except errors.InvalidArgument as error:
                failure = error
            # Whether the bytes are wrong or the layer is, only the whole blob's digest can tell.
            while source.read(_DRAIN):
                pass
            self._commit(ingest, labels)
        except OSError as error:
            raise _failed(error) from error
        finally:
            ingest.close()
            pipe.leave()
        if failure is not None:
            raise errors.Error(f"failed to register layer: {failure}") from failure
        return unpacked

    def _commit(self, ingest: BlobIngest, labels: Mapping[str, str]) -> None:
        blob = self.layer.blob
        try:
            ingest.commit(blob.size, blob.digest, labels)
        except errors.AlreadyExists:
            pass
        except errors.DataLoss as error:
            raise errors.DataLoss(f"filesystem layer verification failed for digest {blob.digest}") from error

    async def _from_store(self) -> Unpacked | None:
        root = self._prepare()
        if not root:
            return None
        loop = asyncio.get_running_loop()

        def moved(at: int) -> None:
            loop.call_soon_threadsafe(self._moving, "Extracting", at, self.layer.blob.size)

        working = asyncio.ensure_future(self._thread(self._layers.unpack_stored, self.layer.blob, root, moved))
        try:
            return await asyncio.shield(working)
        except BaseException:
            # A thread cannot be stopped from outside: wait, so that its directory can be thrown away.
            await asyncio.wait({working})
            _forget(working)
            raise

    async def _thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._layers.threads, work, *arguments)


class _Watched:
    """A source that tells how far it is."""

    def __init__(self, source: Source, moved: Callable[[int], object]) -> None:
        self._source = source
        self._moved = moved
        self._at = 0

    def read(self, size: int, /) -> bytes:
        piece = self._source.read(size)
        self._at += len(piece)
        self._moved(self._at)
        return piece


def _failed(error: OSError) -> errors.Error:
    """The machine's trouble with a layer, a full disk above all, in docker's words."""
    place = f"write {error.filename}: " if error.filename else ""
    return errors.Error(f"failed to register layer: {place}{(error.strerror or str(error)).lower()}")


def _forget(future: asyncio.Future[Any]) -> None:
    """Its failure, if any, is not the one to tell."""
    if not future.cancelled():
        future.exception()
