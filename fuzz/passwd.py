"""/etc/passwd of an image."""

from __future__ import annotations

import os
import shutil
import tempfile
from random import Random

from sampan.runtime import passwd

SEEDS = [
    b"root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000::/home/sailor:/bin/sh\n",
    b":::::\n\n\0\n",
    b"x:x:0:0:" + b"a" * 5000,
]
ERRORS = ()


def feed(data: bytes, random: Random) -> None:
    """A home directory, "/" when there is none."""
    root = tempfile.mkdtemp(prefix="sampan-fuzz-")
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        os.mkdir(f"{root}/etc")
        with open(f"{root}/etc/passwd", "wb") as file:
            file.write(data)
        assert passwd.home_of(fd, random.choice((0, 1000, 4242)))
    finally:
        os.close(fd)
        shutil.rmtree(root)
