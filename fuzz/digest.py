"""Digests: ALGORITHM:HEX, part of paths."""

from __future__ import annotations

from random import Random

from sampan import errors
from sampan.oci import digest

SEEDS = [b"sha256:" + b"0123456789abcdef" * 4, b"sha512:" + b"ab" * 64, b"sha384:" + b"00" * 48, b"md5:00", b"sha256:"]
ERRORS = (errors.InvalidArgument,)


def feed(data: bytes, random: Random) -> None:
    """What is taken may be a file's name."""
    text = data.decode("utf-8", "surrogateescape")
    valid = digest.is_valid(text)
    found = digest.validate(text)
    assert valid
    algorithm, encoded = digest.split(found)
    assert (
        "/" not in found
        and "\n" not in found
        and encoded == encoded.lower()
        and algorithm in ("sha256", "sha384", "sha512")
    )
