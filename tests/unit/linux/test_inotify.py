"""Event buffers as inotify(7) lays them out."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.linux import inotify

BUFFER = struct.pack("=iIII16s", 1, 0x100, 0, 16, b"name") + struct.pack("=iIII", 2, 0x8000, 5, 0)


def test_events_with_and_without_names_are_read() -> None:
    assert inotify.parse(BUFFER) == [(1, 0x100, 0, "name"), (2, 0x8000, 5, "")]
    assert inotify.parse(b"") == []


@pytest.mark.parametrize("size", [n for n in range(1, len(BUFFER)) if n != 32])
def test_a_cut_buffer_is_a_value_error(size: int) -> None:
    with pytest.raises(ValueError, match="cut at byte"):
        inotify.parse(BUFFER[:size])


@given(st.binary())
def test_garbage_is_a_value_error_or_events(data: bytes) -> None:
    try:
        inotify.parse(data)
    except ValueError:
        pass
