"""Digests as image-spec spells them ("algorithm:encoded", descriptor.md) and the chain IDs made of them (config.md)."""

from __future__ import annotations

import hashlib
import re

from sampan import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from hashlib import _Hash

# The registered algorithms (descriptor.md, "Registered algorithms"); the grammar allows others, which we cannot check.
HEX_LENGTH = {"sha256": 64, "sha512": 128}

_GRAMMAR = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[a-zA-Z0-9=_-]+\Z")
_REGISTERED = re.compile(r"(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})\Z")


def validate(digest: str) -> str:
    """`digest` itself when it is a well-formed sha256 or sha512 one; InvalidArgument otherwise."""
    if not _REGISTERED.match(digest):
        if _GRAMMAR.match(digest):
            algorithm, _, encoded = digest.partition(":")
            if algorithm not in HEX_LENGTH:
                raise errors.InvalidArgument("unsupported digest algorithm")
            if len(encoded) != HEX_LENGTH[algorithm]:
                raise errors.InvalidArgument("invalid checksum digest length")
        raise errors.InvalidArgument("invalid checksum digest format")
    return digest


def is_valid(digest: str) -> bool:
    return _REGISTERED.match(digest) is not None


def split(digest: str) -> tuple[str, str]:
    """(algorithm, hex) of a valid digest."""
    algorithm, _, encoded = validate(digest).partition(":")
    return algorithm, encoded


def hasher(algorithm: str = "sha256") -> _Hash:
    """A running hash; InvalidArgument for an algorithm that is not registered."""
    if algorithm not in HEX_LENGTH:
        raise errors.InvalidArgument("unsupported digest algorithm")
    return hashlib.new(algorithm, usedforsecurity=False)


def of(data: bytes | memoryview, algorithm: str = "sha256") -> str:
    running = hasher(algorithm)
    running.update(data)
    return f"{algorithm}:{running.hexdigest()}"


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain ID of each layer, lowest first (image-spec config.md, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain
