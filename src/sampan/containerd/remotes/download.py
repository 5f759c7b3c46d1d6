"""Bringing one blob's bytes from the loop, where the network is, to the thread that stores and unpacks them."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable

from sampan import errors
from sampan.containerd.content import BlobIngest
from sampan.containerd.remotes import wording
from sampan.containerd.remotes.late import aiohttp
from sampan.containerd.remotes.registry import Repository
from sampan.containerd.remotes.wording import Refusal
from sampan.oci.image import Descriptor

# Pieces on their way; each is at most a socket's buffer, so this bounds memory per download to a few MB.
_DEPTH = 8
_FIRST_WAIT = 0.25


class Cut(Exception):
    """The other side gave up: the thread that reads or the coroutine that writes stops as well."""


class Pipe:
    """Bytes from a coroutine (`put`, `end`, `cut`) to one thread (`read`, `leave`)."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(_DEPTH)
        self._left = False
        self._cut = threading.Event()
        self._rest: bytes | None = b""

    async def put(self, piece: bytes) -> None:
        """Waits while the thread is behind. Cut when it has left (its own failure says why)."""
        await self._room.acquire()
        if self._left:
            raise Cut
        self._pieces.put(piece)

    def end(self) -> None:
        self._pieces.put(None)

    def cut(self) -> None:
        self._cut.set()
        self._pieces.put(None)

    def read(self, size: int, /) -> bytes:
        """b"" at the end. Cut."""
        if self._rest == b"":
            self._rest = self._pieces.get()
            self._loop.call_soon_threadsafe(self._room.release)
        if self._cut.is_set():
            raise Cut
        if self._rest is None:
            return b""
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def leave(self) -> None:
        """The thread reads no more; a coroutine that waits for room goes on."""

        def left() -> None:
            self._left = True
            for _ in range(_DEPTH):
                self._room.release()

        self._loop.call_soon_threadsafe(left)


class Recorded:
    """A source that replays what the ingest already has, then reads from the pipe and writes that to the ingest."""

    def __init__(self, ingest: BlobIngest, pipe: Pipe) -> None:
        self._ingest = ingest
        self._pipe = pipe
        self._replayed = 0
        self._kept = ingest.offset

    def read(self, size: int, /) -> bytes:
        if self._replayed < self._kept:
            piece = self._ingest.read(self._replayed, min(size, self._kept - self._replayed))
            self._replayed += len(piece)
            return piece
        piece = self._pipe.read(size)
        if piece:
            self._ingest.write(piece)
        return piece


async def download(
    repository: Repository,
    blob: Descriptor,
    offset: int,
    pipe: Pipe,
    progress: Callable[[int], None],
    retrying: Callable[[float], None],
    attempts: int,
) -> None:
    """Put the bytes of `blob` from `offset` on into the pipe, resuming at the byte where a connection broke.

    Unavailable when it broke `attempts` times without a byte in between; DataLoss when there is more than the
    descriptor says. The pipe is ended on success only."""
    at, failures, wait = offset, 0, _FIRST_WAIT
    while at < blob.size:
        before = at
        broken: BaseException | None = None
        try:
            async with repository.get_blob(blob.digest, at) as (begins, pieces):
                async for piece in pieces:
                    fresh = piece[at - begins :] if begins < at else piece
                    begins += len(piece)
                    if not fresh:
                        continue
                    at += len(fresh)
                    if at > blob.size:
                        raise errors.DataLoss(f"filesystem layer verification failed for digest {blob.digest}")
                    await pipe.put(fresh)
                    progress(at)
        except Refusal as refused:
            raise wording.pull_error(refused, repository.reference) from refused
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            broken = error
        if at >= blob.size:
            break
        if at > before:
            if broken is None:
                continue  # some servers answer a range in parts
            failures, wait = 0, _FIRST_WAIT
        failures += 1
        if failures >= attempts:
            raise wording.unreachable(
                "GET", repository.url(f"blobs/{blob.digest}"), broken or aiohttp.ClientPayloadError()
            )
        retrying(wait)
        await asyncio.sleep(wait)
        wait *= 2
    pipe.end()
