"""The standard streams of one process: pipes or a terminal, the log, and the clients attached.

output.py: container --> log and sinks       input.py: clients --> container
"""

from __future__ import annotations

import os

from sampan.keeper.input import Feed, Input
from sampan.keeper.output import Output, Sink
from sampan.linux import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from sampan.keeper.logfile import LogFile
    from sampan.keeper.loop import Loop


class Streams:
    """Made when the first client attaches or the process is made, whichever comes first.

    `configure` says what the process wants; then `open_pipes` gives the three file descriptors for it, or `console`
    takes the master of its terminal. `start` when it runs, `drain` when it has ended, `drop` when it never ran.
    """

    def __init__(self, loop: Loop) -> None:
        self.terminal = False
        self._loop = loop
        self._configured = False
        self._ended = False
        self._stdin = True
        self._once = True
        self._log: LogFile | None = None
        self._master = -1
        self._child_fds: tuple[int, int, int] | None = None
        self._input: Input | None = None
        self._outputs: list[Output] = []
        self._waiting: list[tuple[str, Sink]] = []
        self._feed: Feed | None = None
        self._when_closed: list[Callable[[], None]] = []

    def configure(self, terminal: bool, stdin: bool, once: bool, log: LogFile | None) -> None:
        """What the process's streams are; `once`: the end of the first client's input is the end of its input."""
        self.terminal = terminal
        self._log = log
        self._stdin = stdin
        self._once = once
        self._configured = True
        if not stdin and self._input is not None:
            self._input.close()
            self._input = None
        if stdin and not terminal and self._input is None:
            self._input = Input(once)

    def open_pipes(self, uid: int, gid: int) -> tuple[int, int, int]:
        """The three file descriptors for the process; `close_child` after it was started.

        They belong to the container's user, so that it may open /dev/stdout again: opening a pipe asks for its mode.
        """
        if self._input is not None:
            stdin = self._input.child
            os.fchown(stdin, uid, gid)
        else:
            stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        writers: list[int] = []
        for stream in ("stdout", "stderr"):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            os.fchown(writer, uid, gid)
            writers.append(writer)
            self._add_output(reader, stream)
        self._child_fds = (stdin, writers[0], writers[1])
        return self._child_fds

    def close_child(self) -> None:
        """Close the keeper's copies of what the process now holds itself."""
        if self._child_fds is None:
            return
        stdin, stdout, stderr = self._child_fds
        self._child_fds = None
        if self._input is not None:
            self._input.close_child()
        else:
            os.close(stdin)
        os.close(stdout)
        os.close(stderr)

    def console(self, master: int) -> None:
        """The master of the process's terminal has arrived; it belongs to this object now."""
        os.set_blocking(master, False)
        self._master = master
        self._add_output(os.dup(master), "stdout")
        if self._input is not None:
            # A client attached before the terminal existed: what it writes is carried over.
            self._feed = Feed(self._loop, self._input.take_child(), os.dup(master))
            self._input.close()
            self._input = None

    def when_closed(self, call: Callable[[], None]) -> None:
        """Call once when everything is closed, or now; sinks may still hold bytes that their readers have not taken."""
        if self._ended:
            call()
        else:
            self._when_closed.append(call)

    def start(self) -> None:
        """The process is about to run: begin to read."""
        for _, sink in self._waiting:
            sink.finish()  # a terminal has no stderr
        self._waiting.clear()
        for output in self._outputs:
            output.start()

    def attach_output(self, stream: str, fd: int) -> None:
        """Copy `stream` (stdout or stderr; a terminal has only the first) to `fd`, which is taken over."""
        sink = Sink(self._loop, fd)
        for output in self._outputs:
            if output.stream == stream:
                output.attach(sink)
                return
        if self._ended or self._outputs:
            sink.finish()
        else:
            self._waiting.append((stream, sink))

    def attach_input(self) -> int | None:
        """A file descriptor for a client to write to, which it closes; None when the process takes no input."""
        if self._ended or not self._stdin:
            return None
        if self._master >= 0:
            return os.dup(self._master)
        if self._input is None and not self._configured:
            self._input = Input(self._once)
        return self._input.open_writer() if self._input is not None else None

    def close_input(self) -> None:
        """The process shall see the end of its input once the clients' writers are closed; a terminal never does."""
        if self._input is not None:
            self._input.close_writer()

    def resize(self, rows: int, columns: int) -> bool:
        """Set the terminal's size in characters; False when there is no terminal."""
        if self._master < 0:
            return False
        tty.set_winsize(self._master, rows, columns)
        return True

    def drain(self) -> None:
        """The process has ended: pass on what is left, then close everything."""
        for output in self._outputs:
            output.drain()
        self._close()

    def drop(self) -> None:
        """The process never ran: close everything, tell the clients nothing."""
        for output in self._outputs:
            output.drop()
        self._close()

    def _add_output(self, fd: int, stream: str) -> None:
        output = Output(self._loop, fd, stream, self._log)
        self._outputs.append(output)
        for name, sink in self._waiting:
            if name == stream:
                output.attach(sink)
        self._waiting = [pair for pair in self._waiting if pair[0] != stream]

    def _close(self) -> None:
        self._ended = True
        self.close_child()
        for _, sink in self._waiting:
            sink.finish()
        self._waiting.clear()
        if self._feed is not None:
            self._feed.close()
            self._feed = None
        if self._input is not None:
            self._input.close()
            self._input = None
        if self._master >= 0:
            os.close(self._master)
            self._master = -1
        if self._log is not None:
            self._log.close()
            self._log = None
        waiting, self._when_closed = self._when_closed, []
        for call in waiting:
            call()
