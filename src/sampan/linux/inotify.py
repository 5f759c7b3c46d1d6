"""Watching files for changes. Source: inotify(7)."""

from __future__ import annotations

import os
import struct

from sampan.linux.call import call, cstring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.linux.call import Path

# struct inotify_event without its name: wd, mask, cookie, len.
_EVENT = struct.Struct("=iIII")


def init(flags: int = os.O_NONBLOCK | os.O_CLOEXEC) -> int:
    """A fd from which events are read. Errors: EMFILE when the user has too many. inotify_init1(2)."""
    return call("inotify_init1", flags)


def add_watch(fd: int, path: Path, mask: int) -> int:
    """Watch `path` for the IN_* events of `mask`; return the watch's number. inotify_add_watch(2)."""
    return call("inotify_add_watch", fd, cstring("inotify_add_watch", path), mask, path=path)


def rm_watch(fd: int, watch: int) -> None:
    """End a watch; an IN_IGNORED event follows. inotify_rm_watch(2)."""
    call("inotify_rm_watch", fd, watch)


def parse(data: bytes) -> list[tuple[int, int, int, str]]:
    """The events in what one read gave: (watch, mask, cookie, name), name "" for the watched object itself.

    The kernel never splits an event between reads. Errors: ValueError for a cut one.
    """
    events: list[tuple[int, int, int, str]] = []
    at = 0
    while at < len(data):
        if len(data) - at < _EVENT.size:
            raise ValueError(f"inotify event cut at byte {at}")
        watch, mask, cookie, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        if len(data) - at < length:
            raise ValueError(f"inotify name cut at byte {at}")
        events.append((watch, mask, cookie, os.fsdecode(data[at : at + length].rstrip(b"\0"))))
        at += length
    return events


def read(fd: int, size: int = 65536) -> list[tuple[int, int, int, str]]:
    """The events that wait, as `parse` gives them; none is [] on a non-blocking fd."""
    try:
        return parse(os.read(fd, size))
    except BlockingIOError:
        return []
