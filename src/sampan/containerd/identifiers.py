"""Names of namespaces, containers, leases and execs, as containerd's `identifiers` package allows them."""

from __future__ import annotations

import re

from sampan import errors

_PATTERN = re.compile(r"[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*\Z")
_LONGEST = 76


def validate(name: str) -> str:
    """`name` itself; InvalidArgument."""
    if not name:
        raise errors.InvalidArgument("identifier must not be empty: invalid argument")
    if len(name) > _LONGEST:
        raise errors.InvalidArgument(
            f'identifier "{name}" greater than maximum length ({_LONGEST} characters): invalid argument'
        )
    if not _PATTERN.match(name):
        raise errors.InvalidArgument(
            f'identifier "{name}" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument'
        )
    return name
