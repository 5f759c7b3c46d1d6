"""One stream that flows out of a process: to the log, and to everybody attached.

    container --pipe or pty--> Output --> log file                (always, at once)
                                  \\--> Sink --> an attached client (bounded: above HIGH bytes the Output pauses)

The log gets a chunk before the sinks do, and what was read from the container is always written, so a client that
has stopped reading holds up the container (as dockerd's does) but loses no line. A sink whose reader is gone is
dropped.
"""

from __future__ import annotations

import errno
import os

from sampan.keeper.loop import ERROR, READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.keeper.logfile import LogFile
    from sampan.keeper.loop import Loop

CHUNK = 64 * 1024
HIGH = 1024 * 1024
"""Bytes waiting for one sink above which its Output stops reading."""
LOW = HIGH // 2
"""Bytes at which it goes on."""


class Sink:
    """A file descriptor that receives a copy of the output; owned from here on and closed at the end."""

    __slots__ = ("_closing", "_loop", "_waiting", "_watched", "fd", "held", "on_drained")

    def __init__(self, loop: Loop, fd: int) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.held = 0
        self.on_drained: Output | None = None
        self._loop = loop
        self._waiting: list[memoryview] = []
        self._watched = False
        self._closing = False

    def write(self, data: bytes) -> None:
        """Pass `data` on now, or keep what the reader does not take yet."""
        if self.fd < 0 or self._closing:
            return
        view = memoryview(data)
        if not self._waiting:
            view = view[self._push(view) :]
        if view and self.fd >= 0:
            self._waiting.append(view)
            self.held += len(view)
            if not self._watched:
                self._loop.add(self.fd, WRITE, self._writable)
                self._watched = True

    def finish(self) -> None:
        """Nothing more comes: close as soon as the reader has taken the rest."""
        if self._waiting:
            self._closing = True
        else:
            self.drop()

    def drop(self) -> None:
        """Close now, whatever is waiting."""
        if self.fd < 0:
            return
        if self._watched:
            self._loop.remove(self.fd)
        os.close(self.fd)
        self.fd = -1
        self.held = 0
        self._waiting.clear()
        self._tell()

    def _push(self, view: memoryview) -> int:
        try:
            return os.write(self.fd, view)
        except BlockingIOError:
            return 0
        except OSError:
            # The reader is gone, or its file system is full: an attached client's trouble is its own.
            self.drop()
            return 0

    def _writable(self, mask: int) -> None:
        if mask & ERROR and not mask & WRITE:
            self.drop()
            return
        while self._waiting and self.fd >= 0:
            view = self._waiting[0]
            done = self._push(view)
            self.held -= min(done, self.held)
            if done < len(view):
                if self.fd >= 0:
                    self._waiting[0] = view[done:]
                break
            self._waiting.pop(0)
        if self.fd < 0:
            return
        if not self._waiting:
            self._loop.remove(self.fd)
            self._watched = False
            if self._closing:
                self.drop()
        self._tell()

    def _tell(self) -> None:
        if self.on_drained is not None:
            self.on_drained.resume()


class Output:
    """One stream of a process: reads `fd`, writes the log, feeds the sinks."""

    def __init__(self, loop: Loop, fd: int, stream: str, log: LogFile | None) -> None:
        os.set_blocking(fd, False)
        self.fd = fd
        self.stream = stream
        self.log = log
        self.sinks: list[Sink] = []
        self._loop = loop
        self._reading = False
        self._started = False
        self._at_end = False

    def start(self) -> None:
        """Begin to read: what the process wrote before waits in its pipe."""
        if not self._started and self.fd >= 0:
            self._started = True
            self.resume()

    def attach(self, sink: Sink) -> None:
        """Copy from here on to `sink`; at once closed when the stream has ended."""
        if self.fd < 0:
            sink.finish()
            return
        self.sinks.append(sink)
        sink.on_drained = self

    def resume(self) -> None:
        """Read again, unless a sink still holds too much."""
        self.sinks = [sink for sink in self.sinks if sink.fd >= 0]
        if self._started and not self._reading and self.fd >= 0 and all(s.held <= LOW for s in self.sinks):
            self._loop.add(self.fd, READ, self._readable)
            self._reading = True

    def drain(self) -> None:
        """The process has ended: take what is in the pipe, whoever has stopped reading, and close everything.

        Not until the end of the stream: a process that was left behind may hold the other end for ever.
        """
        while self.fd >= 0 and self._read():
            pass
        self._end()

    def drop(self) -> None:
        """Close without reading: the process never came to run."""
        self._end()

    def _readable(self, mask: int) -> None:
        if not self._read():
            if self._at_end:
                self._end()
            return
        if any(sink.held > HIGH for sink in self.sinks):
            self._pause()

    def _read(self) -> bool:
        """Pass one chunk on; False when there is none now (or ever: then `_at_end`)."""
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return False
        except OSError as error:
            # EIO: every process has closed the slave side of the pty, which is its end of file.
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            self._at_end = True
            return False
        if self.log is not None:
            self.log.feed(self.stream, data)
        for sink in self.sinks:
            sink.write(data)
        return True

    def _pause(self) -> None:
        if self._reading:
            self._loop.remove(self.fd)
            self._reading = False

    def _end(self) -> None:
        if self.fd < 0:
            return
        self._pause()
        os.close(self.fd)
        self.fd = -1
        if self.log is not None:
            self.log.finish(self.stream)
        sinks, self.sinks = self.sinks, []
        for sink in sinks:
            sink.on_drained = None
            sink.finish()
