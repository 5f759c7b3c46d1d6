"""What a shim says: its log FIFO, line by line into ours."""

from __future__ import annotations

import asyncio
import logging
import os

log = logging.getLogger("sampan.containerd.shims")

_LONGEST = 16 * 1024


class Voice:
    """Reads the FIFO `path` until `close`. OSError when it is not there.

    It is held for writing too: then the shim never waits for a reader, and its end is not the end of the FIFO."""

    def __init__(self, path: str, container_id: str) -> None:
        self._container_id = container_id
        self._rest = b""
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._readable()
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            log.info("shim %s: %s", self._container_id, line.decode(errors="replace"))
