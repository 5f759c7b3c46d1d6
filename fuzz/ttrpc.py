"""The frames between containerd and a shim, in any pieces."""

from __future__ import annotations

from random import Random

from fuzz.mutation import pieces
from sampan.wire import ttrpc

SEEDS = [
    ttrpc.send(ttrpc.Request(1, "containerd.task.v2.Task", "State", b"\x0a\x01x", 7, {"a": "b"})),
    ttrpc.send(ttrpc.Response(1, b"payload", 5, "not found")) * 3,
    b"\0\0\0\4" + b"\0\0\0\1" + b"\3\0" + b"data",
    b"\x7f\xff\xff\xff" + b"\0\0\0\1" + b"\1\0" + b"x" * 100,
]
ERRORS = (ttrpc.TtrpcError,)


def _read(parts: list[bytes]) -> list[str]:
    reader, found = ttrpc.Reader(), []
    try:
        for part in parts:
            reader.feed(part)
            while (event := reader.next_event()) is not None:
                found.append(type(event).__name__ + str(event.stream))
    except ttrpc.TtrpcError as refusal:
        found.append(str(refusal))
    return found


def feed(data: bytes, random: Random) -> None:
    """The same whatever the pieces."""
    assert _read([data]) == _read(list(pieces(data, random)))
