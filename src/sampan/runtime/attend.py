"""A one-shot's wait: from a `Launch` to the process's exit code, with its signals, terminal and messages on the way."""

from __future__ import annotations

import gc
import os
from _signal import (  # type: ignore[import-not-found]
    SIG_IGN,
    SIGCHLD,
    SIGHUP,
    SIGINT,
    SIGQUIT,
    SIGTERM,
    SIGTTIN,
    SIGTTOU,
    SIGUSR1,
    SIGUSR2,
    SIGWINCH,
    set_wakeup_fd,
    signal,
)

from sampan import errors
from sampan.linux import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.runtime.console import Terminal
    from sampan.runtime.conversation import Launch
    from sampan.runtime.notify import Notices
    from sampan.runtime.restore import Restored

_FORWARDED = (SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2)


def until_ready(launched: Launch, console_socket: str) -> Terminal | None:
    """Wait until init is ready; a terminal's master goes to `console_socket`, or is returned joined to ours.

    Errors: the kind that init named, with its text; the process has been reaped then.
    """
    terminal: Terminal | None = None
    import select  # a shared object: it is loaded while init is at work on the other processor

    poller = select.poll()
    poller.register(launched.channel, select.POLLIN)
    while True:
        poller.poll()
        event = launched.step()
        if event is None:
            continue
        if event[0] == "console":
            from sampan.runtime.console import Terminal, send_master

            if console_socket:
                send_master(console_socket, "/dev/ptmx", event[1])
            else:
                terminal = Terminal(event[1])
        elif event[0] == "ready":
            return terminal
        elif event[0] == "failed":
            if terminal:
                terminal.close()
            launched.discard()
            reap(launched.pidfd)
            raise getattr(errors, event[1], errors.Error)(event[2])


def until_running(launched: Launch | Restored) -> None:
    """Wait until the program runs and its poststart hooks have. Errors: Error."""
    import select

    poller = select.poll()
    poller.register(launched.channel, select.POLLIN)
    event = None
    while event is None:
        poller.poll()
        event = launched.step()
    _check(event)


def _check(event: tuple[Any, ...]) -> None:
    if event[0] == "failed":
        raise getattr(errors, event[1], errors.Error)(event[2])


def reap(pidfd: int) -> int:
    """Wait for the end of our child: its exit code, or 128 plus the signal that ended it."""
    found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    if found is None:
        return 0
    return found.si_status if found.si_code == os.CLD_EXITED else 128 + found.si_status


def until_exit(launched: Launch | Restored, terminal: Terminal | None, notices: Notices | None = None) -> int:
    """Tell init to go on, pass signals, terminal input and notices; the exit code. Errors: Error of a hook."""
    import select

    wake, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    set_wakeup_fd(woken)
    for number in (*_FORWARDED, SIGWINCH):
        signal(number, _nothing)
    for number in (SIGTTIN, SIGTTOU):
        signal(number, SIG_IGN)
    poller = select.poll()
    for fd in (launched.channel, launched.pidfd, wake):
        if fd >= 0:  # one that was restored has nothing to say
            poller.register(fd, select.POLLIN)
    if terminal:
        poller.register(terminal.master, select.POLLIN)
        poller.register(0, select.POLLIN)
    if notices:
        poller.register(notices.fd, select.POLLIN)
    launched.proceed()
    gc.enable()  # it was off for the start
    channel = launched.channel
    while True:
        for fd, _ in poller.poll():
            if fd == channel:
                event = launched.step()
                if event:
                    poller.unregister(channel)
                    if terminal and event[0] == "failed":
                        terminal.close()
                    _check(event)
            elif fd == wake:
                _pass_on(os.read(wake, 64), launched.pidfd, terminal)
            elif fd == launched.pidfd:
                if launched.hooks.get("poststart") and launched.channel >= 0:
                    until_running(launched)
                code = reap(launched.pidfd)
                if terminal:
                    terminal.close()
                return code
            elif notices and fd == notices.fd:
                if notices.pass_on(0):
                    poller.unregister(fd)
            elif terminal and fd == terminal.master:
                if not terminal.output():
                    poller.unregister(fd)
            elif terminal:
                terminal.input()
                if not terminal.reading:
                    poller.unregister(0)


def _nothing(number: int, frame: object) -> None:
    """The number also arrives through the wake-up pipe, where the loop reads it."""


def _pass_on(numbers: bytes, pidfd: int, terminal: Terminal | None) -> None:
    for number in numbers:
        if number == SIGWINCH:
            if terminal:
                terminal.resize()
        elif number != SIGCHLD:
            try:
                process.pidfd_send_signal(pidfd, number)
            except ProcessLookupError:
                pass  # it has ended, and its pidfd is about to say so
