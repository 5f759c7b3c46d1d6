"""The text of a config.json: any bytes are a spec, or refused by the reader or by the check."""

from __future__ import annotations

from random import Random

from fuzz.documents import texts
from fuzz.mutation import bytes_of_json
from sampan import errors
from sampan.oci import spec
from sampan.runtime import document

SEEDS = [*texts(), b"[" * 100_000, b'{"a":' * 100_000, b'{"a":1,"a":2}', b"1e999", b"9" * 5000, b'"\\ud800"', b"nan"]
ERRORS = (errors.DataLoss, errors.InvalidArgument)


def mutate(data: bytes, random: Random) -> bytes:
    """Values of the good documents, bytes of the others."""
    from fuzz.mutation import of_bytes

    return (
        bytes_of_json(data, random)
        if data[:2] == b'{"' and len(data) < 50_000 and b"root" in data
        else of_bytes(data, random)
    )


def feed(data: bytes, random: Random) -> None:
    """As `create` reads it."""
    spec.validate(document.parse(data.decode("utf-8", "replace"), "config.json"))
