"""/proc/PID/stat and status: the name in them is the process's own choice."""

from __future__ import annotations

from random import Random

from sampan.linux import procfs

SEEDS = [
    b"71 (a) b) (c) S 1 71 71 0 -1 4194560 120 0 0 0 0 0 0 0 20 0 1 0 12345 2 3 4\n",
    b"Name:\tsleep\nState:\tS (sleeping)\nNSpid:\t71\t1\nCapEff:\t0000000000000000\nSeccomp:\t2\n",
]
ERRORS = (ValueError,)


def feed(data: bytes, random: Random) -> None:
    """As a line of the one and as the fields of the other."""
    text = data.decode("utf-8", "surrogateescape")
    procfs.parse_status(text)
    letter, parent, start = procfs.parse_stat(text)
    assert isinstance(letter, str) and isinstance(parent, int) and isinstance(start, int)
