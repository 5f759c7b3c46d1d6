"""Labels of any object: what clients may set, in containerd's words."""

from __future__ import annotations

from collections.abc import Mapping

from sampan import errors

LONGEST = 4096
"""Bytes of a key and its value together."""


def with_values(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that have a value: containerd stores no others."""
    return {key: value for key, value in labels.items() if value}


def checked_labels(labels: Mapping[str, str], where: str = "") -> dict[str, str]:
    """The labels as a dict. InvalidArgument for one that is too long; `where` is what containerd calls the field."""
    for key, value in labels.items():
        length = len(key.encode()) + len(value.encode())
        if length > LONGEST:
            raise errors.InvalidArgument(
                f"{where and where + ': '}label key and value length ({length} bytes) greater than maximum size"
                f" ({LONGEST} bytes), key: {key[:64]}: invalid argument"
            )
    return dict(labels)
