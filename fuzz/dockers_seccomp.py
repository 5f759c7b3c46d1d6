"""Docker's form of a profile, as a client sends it with --security-opt seccomp=."""

from __future__ import annotations

import json
from random import Random

from fuzz.mutation import bytes_of_json as mutate
from sampan import errors
from sampan.engine.containers import seccomp

_SMALL = {**seccomp.default_profile(), "syscalls": list(seccomp.default_profile()["syscalls"])[1:]}
SEEDS = [
    json.dumps(_SMALL).encode(),
    b'{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","action":"SCMP_ACT_ERRNO"}]}',
]
ERRORS = (errors.InvalidArgument,)

__all__ = ["ERRORS", "SEEDS", "feed", "mutate"]


def feed(data: bytes, random: Random) -> None:
    """As `docker run` hands it over."""
    seccomp.parse(
        data.decode("utf-8", "surrogateescape"), random.choice(("x86_64", "aarch64")), (6, 1), ("CAP_SYS_ADMIN",)
    )
