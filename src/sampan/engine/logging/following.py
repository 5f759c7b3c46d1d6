"""Waking up when a log grows: inotify on its directory, so that rotation is seen too."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

from sampan.linux import abi, inotify


@contextmanager
def changes(directory: str) -> Iterator[asyncio.Event]:
    """An event that is set at every change of a file in `directory`; whoever waits clears it. OSError."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    fd = inotify.init()

    def ready() -> None:
        inotify.read(fd)
        event.set()

    try:
        inotify.add_watch(fd, directory, abi.IN_MODIFY | abi.IN_CREATE | abi.IN_MOVED_TO | abi.IN_MOVED_FROM)
        loop.add_reader(fd, ready)
        try:
            yield event
        finally:
            loop.remove_reader(fd)
    finally:
        os.close(fd)
