"""Platforms: OS[/ARCH[/VARIANT]]."""

from __future__ import annotations

from random import Random

from sampan import errors
from sampan.oci import platform

SEEDS = [b"linux/amd64", b"linux/arm64/v8", b"arm", b"windows", b"linux/arm/v7", b"linux(5.1)/386", b"darwin/x86_64"]
ERRORS = (errors.InvalidArgument,)


def feed(data: bytes, random: Random) -> None:
    """What is taken is printed as something that is read the same."""
    found = platform.parse(data.decode("utf-8", "surrogateescape"))
    assert platform.parse(platform.format(found)) == found
    platform.choose(found, [found, None, platform.host()])
