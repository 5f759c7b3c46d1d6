"""`criu swrk`: one process of CRIU for one request, and the conversation with it over a SEQPACKET socket.

    us                                        criu
    REQUEST type=DUMP, opts  ───────────────▶
                             ◀─────────────── RESPONSE type=NOTIFY, notify{script, pid}, perhaps with a descriptor
    REQUEST type=NOTIFY, notify_success ────▶ ... as many times as CRIU has something to say
                             ◀─────────────── RESPONSE type=DUMP, success, restore{pid}

CRIU finds the descriptors that options name (images_dir_fd, work_dir_fd) below /proc of the process that made the
socket: they are ours. What `inherit_fd` names is its own. Source: criu.org/RPC, criu.org/Action_scripts.
"""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_SEQPACKET, socketpair

from sampan.errors import Error, NotFound
from sampan.linux import process, sockets
from sampan.runtime.criu import codec, messages
from sampan.runtime.steps.situation import StepFailed, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Callable, Sequence
    from typing import Any

    Notify = Callable[[str, int, list[int]], None]
    """Takes the name of the script, the pid it is about (0 for none), and descriptors that are now the callee's."""

FIRST_EXTRA = 4
"""The number that the first of the `extra` descriptors has in CRIU, after the standard streams and its socket."""

_LARGEST = 1 << 16
_MOST_FDS = 4
_QUOTED = 5


def find(program: str) -> str:
    """The path of CRIU's executable, by PATH if `program` has no slash. Errors: NotFound in Go's words."""
    name = program or "criu"
    if "/" in name:
        return name
    for directory in os.environ.get("PATH", "").split(":"):
        path = f"{directory}/{name}"
        if directory and os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    raise NotFound(f'exec: "{name}": executable file not found in $PATH')


def version(program: str) -> int:
    """What CRIU says it is, 4.2.1 as 40201. Errors: Error."""
    try:
        found = converse(Worker(find(program)), {"type": messages.VERSION})["version"]
    except (Error, OSError, KeyError) as error:
        raise Error(f"CRIU version check failed: {error}") from None
    number = int(found["major_number"]) * 10000 + int(found["minor_number"]) * 100 + int(found.get("sublevel", 0))
    # A build between two releases counts as the next one.
    return number - number % 100 + 100 if found.get("gitid") else number


def check_version(number: int, least: int) -> None:
    """Errors: Error."""
    if number < least:
        raise Error(f"CRIU version {number} must be {least} or higher")


def check_feature(program: str, name: str) -> None:
    """That CRIU and the kernel have `name` of messages.FEATURES. Errors: Error in runc's words."""
    try:
        found = converse(Worker(find(program)), {"type": messages.FEATURE_CHECK, "features": {name: True}})
    except (Error, OSError) as error:
        raise Error(f"CRIU feature check failed: {error}") from None
    if not found.get("features", {}).get(name):
        raise Error(f"CRIU is missing features: [{name.title().replace('_', '')}]")


class Worker:
    """CRIU, started and waiting for its request; our child until `reap`."""

    __slots__ = ("_channel", "pid")

    def __init__(
        self,
        path: str,
        prepare: Callable[[], None] | None = None,
        stdio: tuple[int, int, int] = (0, 1, 2),
        extra: Sequence[int] = (),
    ) -> None:
        """Start the executable `path`. `prepare` runs in the child before; `extra` become 4, 5, ...

        The caller has no threads. Errors: Error, in Go's words, also with the text of a StepFailed of `prepare`.
        """
        self._channel, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        # safe because the caller has no threads, and the child ends in execve or _exit.
        self.pid = os.fork()
        if self.pid == 0:
            _become(path, prepare, stdio, [theirs.fileno(), *extra], writer)
        theirs.close()
        os.close(writer)
        with open(reader, "rb") as report:
            problem = report.read().decode("utf-8", "replace")
        if problem:
            self.reap()
            raise Error(problem)

    @property
    def channel(self) -> socket:
        return self._channel

    def reap(self) -> int:
        """Close the conversation, at which CRIU ends, and wait for that: its exit code."""
        self._channel.close()
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


def _become(
    path: str, prepare: Callable[[], None] | None, stdio: Sequence[int], descriptors: list[int], report: int
) -> None:
    """In the child: never returns."""
    try:
        from fcntl import F_DUPFD_CLOEXEC, fcntl

        if prepare:
            prepare()
        # First above all places that are given away, so that none is overwritten before it has been copied.
        top = 3 + len(descriptors)
        moved = [fcntl(fd, F_DUPFD_CLOEXEC, top) for fd in (*stdio, *descriptors)]
        for place, fd in enumerate(moved):
            os.dup2(fd, place, inheritable=True)
        process.default_signals()
        # safe because the path is the caller's own choice of CRIU and nothing of this process survives.
        os.execv(path, [path, "swrk", "3"])  # noqa: S606
    except StepFailed as failure:
        os.write(report, str(failure).encode("utf-8", "surrogateescape"))
    except OSError as error:
        os.write(report, f"fork/exec {path}: {words(error)}".encode("utf-8", "surrogateescape"))
    finally:
        os._exit(127)


def converse(worker: Worker, request: dict[str, Any], notify: Notify | None = None, log: str = "") -> dict[str, Any]:
    """Send the request, serve the notices, reap the worker: the response.

    `log` is the path of CRIU's log, for the text. Errors: Error in runc's words; whatever `notify` raises, after CRIU
    has ended, which undoes a restore that it cannot finish.
    """
    try:
        try:
            worker.channel.send(codec.encode(messages.REQUEST, request))
            found = _response(worker.channel, notify, log)
        except OSError as error:
            raise Error(_with_log(f"criu swrk: {words(error)}", log)) from None
    except BaseException:
        worker.reap()
        raise
    code = worker.reap()
    kind = found["type"]
    if not found["success"]:
        name = messages.TYPES.get(kind, str(kind))
        raise Error(_with_log(f"criu failed: type {name} errno {found.get('cr_errno', 0)}", log))
    if kind != request["type"]:
        raise Error(f"unable to parse the response of type {messages.TYPES.get(kind, kind)}")
    # After a pre-dump CRIU waits for the dump that follows it; that nobody asks for one is no failure.
    if code and kind in (messages.DUMP, messages.RESTORE):
        raise Error(_with_log(f"criu failed: exit status {code}", log))
    return found


def _response(channel: socket, notify: Notify | None, log: str) -> dict[str, Any]:
    while True:
        data, fds, truncated = sockets.recv_with_fds(channel, _LARGEST, _MOST_FDS)
        try:
            if not data:
                raise Error(_with_log("criu swrk: unexpected EOF", log))
            if truncated:
                raise Error("criu swrk: buffer is too small")
            found = codec.decode(messages.RESPONSE, data)
            if found["type"] != messages.NOTIFY or not found["success"]:
                return found
            notice = found.get("notify", {})
            if notify:
                given, fds = fds, []
                notify(notice.get("script", ""), notice.get("pid", 0), given)
        finally:
            for fd in fds:
                os.close(fd)
        answer = {"type": messages.NOTIFY, "notify_success": True}
        channel.send(codec.encode(messages.REQUEST, answer))


def _with_log(text: str, log: str) -> str:
    """The text, where CRIU's log is, as runc says it, and what that calls errors: the last is the outermost."""
    lines: list[str] = []
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip("\n") for line in file if ") Error (" in line]
    except OSError:
        pass  # it has come to no log
    return "\n".join([text, f"log file: {log}", *lines[-_QUOTED:]]) if log else text
