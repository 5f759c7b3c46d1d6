"""Docker's stream frames, in any pieces."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from fuzz.mutation import pieces
from sampan.wire import stdcopy

SEEDS = [stdcopy.frame(1, b"out\n") + stdcopy.frame(2, b"err\n") + stdcopy.frame(1, b""), stdcopy.frame(2, b"x" * 5000)]
ERRORS = (stdcopy.StreamError,)


def _read(parts: list[bytes]) -> Sequence[object]:
    reader = stdcopy.Demultiplexer()
    found: dict[int, bytes] = {}
    try:
        for part in parts:
            for stream, payload in reader.feed(part):
                found[stream] = found.get(stream, b"") + payload
        reader.close()
    except stdcopy.StreamError as refusal:
        return [str(refusal)]
    return sorted(found.items())


def feed(data: bytes, random: Random) -> None:
    """The same whatever the pieces."""
    assert _read([data]) == _read(list(pieces(data, random)))
