"""Layer compression: told apart by the bytes, undone in bounded pieces."""

from __future__ import annotations

import gzip
import io
import os

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan import errors
from sampan.containerd.diff.stream import decompressed

DATA = b"some text " * 30_000 + os.urandom(50_000)
ZSTD = zstandard.ZstdCompressor(level=3)


class Slow:
    """A source that gives little at a time, like a socket."""

    def __init__(self, data: bytes, step: int) -> None:
        self._file, self._step = io.BytesIO(data), step

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._step))


def whole(data: bytes, step: int = 1 << 20, size: int = 1 << 18) -> bytes:
    stream = decompressed(Slow(data, step))
    out = bytearray()
    while piece := stream.read(size):
        assert len(piece) <= size
        out += piece
    assert stream.read(size) == b""
    return bytes(out)


FORMS = {
    "plain": DATA,
    "gzip": gzip.compress(DATA),
    "gzip members": gzip.compress(DATA[:1000]) + gzip.compress(b"") + gzip.compress(DATA[1000:]),
    "gzip with padding": gzip.compress(DATA) + bytes(2000),
    "zstd": ZSTD.compress(DATA),
    "zstd frames": ZSTD.compress(DATA[:1000]) + ZSTD.compress(DATA[1000:]),
    "zstd behind a skippable frame": b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello" + ZSTD.compress(DATA),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("step", [1000, 1 << 20])
def test_every_form_gives_the_same_bytes(form, step):
    assert whole(form, step) == DATA


@pytest.mark.parametrize("form", ["plain", "gzip", "zstd"])
def test_one_byte_at_a_time(form):
    small = {"plain": b"hello" * 9, "gzip": gzip.compress(b"hello" * 9), "zstd": ZSTD.compress(b"hello" * 9)}[form]
    assert whole(small, 1, 7) == b"hello" * 9


@pytest.mark.parametrize("data", [b"", b"x", b"\x1f", b"\x28\xb5"])
def test_short_streams_are_plain(data):
    assert whole(data) == data


DAMAGED = {
    "cut gzip": gzip.compress(DATA)[:-20],
    "gzip checksum": gzip.compress(DATA)[:-8] + b"\0\0\0\0" + gzip.compress(DATA)[-4:],
    "garbage behind gzip": gzip.compress(DATA) + b"garbage, which is no gzip member",
    "gzip header only": b"\x1f\x8b\x08\0",
    "garbage behind zstd": ZSTD.compress(DATA) + b"garbage, which is no frame",
    "zstd garbage": b"\x28\xb5\x2f\xfd" + b"\xff" * 100,
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_streams_are_refused(data):
    with pytest.raises(errors.InvalidArgument):
        whole(data)


def test_a_bomb_comes_in_bounded_pieces():
    """64 MiB of zeros in a few kB: no call gives more than was asked for."""
    for bomb in (ZSTD.compress(bytes(1 << 26)), gzip.compress(bytes(1 << 26), 9)):
        stream = decompressed(io.BytesIO(bomb))
        assert len(stream.read(1 << 16)) <= 1 << 16
        assert len(stream.read(1 << 16)) <= 1 << 16


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x51\x2a\x4d\x18", b""]), st.binary(max_size=400))
def test_garbage_raises_only_invalid_argument(magic, data):
    try:
        whole(magic + data)
    except errors.InvalidArgument:
        pass
