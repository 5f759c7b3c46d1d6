"""A process's streams as containerd's clients give them: paths of FIFOs that the client has made, or of files.

    client --stdin FIFO--> StdinFeed --pipe or pty--> process
    process --keeper--> stdout, stderr FIFOs --> client

The keeper gets the FIFOs' own descriptors, so output passes by this process and goes on without it. Each is opened
for reading and writing (fifo(7)), after the client's reader is there: a client that goes away and comes back
(`ctr task attach`) neither ends the process by SIGPIPE nor loses what the FIFO and the keeper hold.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from sampan import errors
from sampan.linux import inotify

OPEN_TIMEOUT = 10.0
"""Seconds that a client has to open the reading side of a FIFO it named."""

DRAIN_TIMEOUT = 10.0
"""Seconds that a client has to read what an ended process left; containerd's shim waits as long."""

_IN_CLOSE_WRITE = 0x8
_CHUNK = 64 * 1024
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY


class StdioError(errors.Error):
    """A stream that cannot be had, in the words of containerd's shim: it is no error of the OCI runtime's."""


async def open_output(uri: str) -> int | None:
    """A descriptor to write a stream to, which is the caller's; None for "".

    `uri` is a path or `file:///path`; a path that is no FIFO is a file to append to. StdioError, Unimplemented,
    Unavailable (nobody reads the FIFO), OSError."""
    path = _path(uri)
    if not path:
        return None
    try:
        if not stat.S_ISFIFO(os.stat(path).st_mode):
            return os.open(path, _APPEND, 0o644)
    except FileNotFoundError:
        if not uri.startswith("file:"):
            raise StdioError(
                f'failed to start io pipe copy: unable to copy pipes: containerd-shim: opening file "{path}" failed:'
                f" open {path}: no such file or directory"
            ) from None
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        return os.open(path, _APPEND, 0o644)
    writer = await _opened_by_both(path)
    try:
        # Before the other writer is closed: a FIFO without any is at its end for who reads it.
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    finally:
        os.close(writer)


def is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False  # a URI, or gone meanwhile


async def _opened_by_both(path: str) -> int:
    """A writer of `path`, once somebody has it open for reading. Unavailable."""
    try:
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        pass  # ENXIO: nobody reads yet
    opening = asyncio.get_running_loop().run_in_executor(None, os.open, path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        async with asyncio.timeout(OPEN_TIMEOUT):
            return await asyncio.shield(opening)
    except BaseException as error:
        # The thread waits in open(2): a reader of our own lets it go on.
        release = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.close(await opening)
        os.close(release)
        if isinstance(error, TimeoutError):
            raise errors.Unavailable(f'nobody reads "{path}": unavailable') from error
        raise


def _path(uri: str) -> str:
    scheme = urlsplit(uri).scheme
    if scheme in ("", "fifo"):
        return uri.removeprefix("fifo://")
    if scheme == "file":
        return unquote(urlsplit(uri).path)
    if "stream" in scheme:
        raise errors.Unimplemented(f"stdio {scheme}:// is not offered: not implemented")
    raise StdioError(f"failed to create init process I/O: unknown STDIO scheme {scheme}")


class Outputs:
    """Knows when the keeper lets go of a FIFO, which is when its reader has taken everything."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._fd = inotify.init()
        self._watched: dict[int, asyncio.Event] = {}
        self._loop.add_reader(self._fd, self._readable)

    def watch(self, path: str) -> asyncio.Event:
        """Set once the next writer of `path` is closed: to be called when only the keeper has it open for writing."""
        event = asyncio.Event()
        self._watched[inotify.add_watch(self._fd, path, _IN_CLOSE_WRITE)] = event
        return event

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _readable(self) -> None:
        for watch, mask, _, _ in inotify.read(self._fd):
            if not mask & _IN_CLOSE_WRITE:
                self._watched.pop(watch, None)  # the FIFO is gone, and its watch with it
            elif watch in self._watched:
                self._watched[watch].set()


async def drained(path: str, closed: asyncio.Event) -> None:
    """Wait until the keeper has let go of `path`; when nobody reads it any more, its last bytes are thrown away."""
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT):
            await closed.wait()
        return
    except TimeoutError:
        pass
    try:
        source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # the client has removed it
    loop = asyncio.get_running_loop()
    loop.add_reader(source, lambda: _discard(source))
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT):
            await closed.wait()
    except TimeoutError:
        pass  # a process that was left behind still writes
    finally:
        loop.remove_reader(source)
        os.close(source)


def _discard(source: int) -> None:
    try:
        os.read(source, _CHUNK)
    except BlockingIOError:
        pass


class StdinFeed:
    """Copies what comes through the FIFO `path` to `target`, which is this object's own from here on.

    The stream ends when `close_io` was called and the last client has closed its side. `ended` is called then."""

    def __init__(self, path: str, target: int, ended: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        # While this writer is there, a client that closes its side does not end the stream.
        self._holder = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._target = target
        self._held = memoryview(b"")
        self._ended = ended
        os.set_blocking(target, False)
        self._loop.add_reader(self._source, self._readable)

    def close_io(self) -> None:
        """No further client will come: the stream ends with the bytes that are there."""
        if self._holder >= 0:
            os.close(self._holder)
            self._holder = -1

    def close(self) -> None:
        """Stop at once."""
        if self._source < 0:
            return
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._target)
        os.close(self._source)
        os.close(self._target)
        self._source = self._target = -1
        self.close_io()

    def _readable(self) -> None:
        try:
            data = os.read(self._source, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.close()
            self._ended()
            return
        self._held = memoryview(data)
        self._loop.remove_reader(self._source)
        self._writable()

    def _writable(self) -> None:
        """Write what is held; read on only after that."""
        try:
            while self._held:
                self._held = self._held[os.write(self._target, self._held) :]
        except BlockingIOError:
            self._loop.add_writer(self._target, self._writable)
            return
        except OSError:
            self.close()  # the process reads no more
            return
        self._loop.remove_writer(self._target)
        self._loop.add_reader(self._source, self._readable)
