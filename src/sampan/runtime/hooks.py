"""Running a hook: the state on its standard input, its output for the error text, its timeout kept.

Source: runtime-spec config.md#posix-platform-hooks.
"""

from __future__ import annotations

import os
import select
import time
from _signal import strsignal  # type: ignore[import-not-found]

from sampan.linux import abi, process
from sampan.runtime.steps.situation import StepFailed, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_MAX_OUTPUT = 1 << 20


def run(hook: Mapping[str, Any], name: str, index: int, state: str, default_env: Mapping[str, str]) -> None:
    """Run hook number `index` of the list `name`, with the state JSON on stdin. Errors: StepFailed with runc's text."""
    what = f"error running {name} hook #{index}"
    path = str(hook["path"])
    argv = list(hook.get("args") or [path])
    entries = hook.get("env")
    env = dict(entry.partition("=")[::2] for entry in entries) if entries is not None else dict(default_env)
    stdin, feed = os.pipe2(os.O_CLOEXEC)
    out, stdout = os.pipe2(os.O_CLOEXEC)
    err, stderr = os.pipe2(os.O_CLOEXEC)
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((stdin, stdout, stderr))]
    try:
        # SIGPIPE back to its default: Python ignores it, and a hook's shell pipelines rely on it.
        pid = os.posix_spawn(path, argv, env, file_actions=actions, setsigdef=[13, 25])
    except OSError as error:
        for fd in (stdin, feed, out, stdout, err, stderr):
            os.close(fd)
        raise StepFailed(f"{what}: fork/exec {path}: {words(error)}") from None
    for fd in (stdin, stdout, stderr):
        os.close(fd)
    collected, timed_out = _converse(pid, feed, (out, err), state.encode(), hook.get("timeout"))
    _, status = os.waitpid(pid, 0)
    if timed_out:
        raise StepFailed(f"{what}: hook ran past specified timeout of {float(hook['timeout']):.1f}s")
    if status:
        code = os.waitstatus_to_exitcode(status)
        ended = f"exit status {code}" if code >= 0 else _signal_text(-code, os.WCOREDUMP(status))
        texts = [part.decode("utf-8", "replace") for part in collected]
        raise StepFailed(f"{what}: {ended}, stdout: {texts[0]}, stderr: {texts[1]}")


def _signal_text(number: int, dumped: bool) -> str:
    """As Go prints it: "signal: killed"."""
    return f"signal: {(strsignal(number) or str(number)).lower()}{' (core dumped)' if dumped else ''}"


def _converse(
    pid: int, feed: int, outputs: tuple[int, int], state: bytes, timeout: int | None
) -> tuple[list[bytes], bool]:
    """Feed the state, gather output until the hook's end; (output of each, whether the timeout struck)."""
    pidfd = process.pidfd_open(pid)
    deadline = None if not timeout else time.monotonic() + timeout
    poller = select.poll()
    os.set_blocking(feed, False)
    poller.register(feed, select.POLLOUT)
    for fd in (*outputs, pidfd):
        os.set_blocking(fd, False) if fd != pidfd else None
        poller.register(fd, select.POLLIN)
    gathered = dict.fromkeys(outputs, b"")
    ended = timed_out = False
    while not ended:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = poller.poll(left)
        if not ready and deadline is not None:
            process.pidfd_send_signal(pidfd, abi.SIGKILL)
            timed_out = True
            break
        for fd, _ in ready:
            if fd == pidfd:
                ended = True
            elif fd == feed:
                state = _feed(feed, state)
                if not state:
                    poller.unregister(feed)
                    os.close(feed)
            elif not _gather(fd, gathered):
                poller.unregister(fd)
    for fd in outputs:
        _gather(fd, gathered)
        os.close(fd)
    if state:
        os.close(feed)
    os.close(pidfd)
    return [gathered[fd] for fd in outputs], timed_out


def _feed(feed: int, state: bytes) -> bytes:
    try:
        return state[os.write(feed, state) :]
    except BlockingIOError:
        return state
    except OSError:
        return b""  # the hook does not read its state, as most do not


def _gather(fd: int, gathered: dict[int, bytes]) -> bool:
    """Read what waits; False at the end of the stream."""
    try:
        while part := os.read(fd, 65536):
            gathered[fd] = (gathered[fd] + part)[:_MAX_OUTPUT]
    except BlockingIOError:
        return True
    return False
