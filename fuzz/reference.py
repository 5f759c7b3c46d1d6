"""Image references: what is taken is printed as something that means the same."""

from __future__ import annotations

from random import Random

from sampan import errors
from sampan.oci import reference

SEEDS = [
    b"busybox", b"library/busybox:latest", b"localhost:5000/a/b_c.d-e:1.0",
    b"registry.example.org/x@sha256:" + b"0" * 64,
    b"docker.io/library/alpine:3.19@sha256:" + b"af" * 32, b"[::1]:5000/x:y",
    b"a" * 300, b"A/b", b"0123456789abcdef" * 4,
]  # fmt: skip
ERRORS = (errors.InvalidArgument,)


def feed(data: bytes, random: Random) -> None:
    """A familiar name is read to the same full one; a full one to itself."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = reference.parse_normalized(text)
    except errors.InvalidArgument:
        reference.parse(text)
        return
    assert str(reference.parse_normalized(str(found))) == str(found)
    first, slash, _ = found.path.partition("/")
    if found.domain == reference.DEFAULT_DOMAIN and slash and ("." in first or first == "localhost"):
        return  # Docker's own short form of docker.io/example.org/x is read as example.org/x
    assert str(reference.parse_normalized(found.familiar)) == str(found), found.familiar
