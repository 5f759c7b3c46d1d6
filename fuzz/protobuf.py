"""Our small protobuf reader: any bytes are a message, or no message; what is a message is written and read the same."""

from __future__ import annotations

from random import Random

from sampan.wire import protobuf, ttrpc

TABLE = ttrpc._REQUEST
SEEDS = [
    protobuf.encode(TABLE, {"service": "s", "method": "m", "payload": b"x" * 200, "timeout": 1 << 40,
                            "metadata": [{"key": "k", "value": "v"}]}),
    b"\x08\x96\x01\x12\x07testing", b"\x0b\x0c", b"\xff" * 12,
]  # fmt: skip
ERRORS = (protobuf.ProtobufError,)


def feed(data: bytes, random: Random) -> None:
    """Unknown fields are left out of what is written again."""
    list(protobuf.fields(data))
    found = protobuf.decode(TABLE, data)
    assert protobuf.decode(TABLE, protobuf.encode(TABLE, found)) == found
