"""Layer bytes as they travel into layer bytes as they are hashed: gzip, zstd or plain, told apart by their first bytes.

A blob's media type is not believed: registries are full of layers whose type and compression differ, and containerd
looks at the bytes as well. Output per call is bounded whatever the input, so a bomb costs time and not memory.
"""

from __future__ import annotations

import re
from typing import Protocol

import zstandard
from isal import igzip_lib

from sampan import errors

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"  # after a byte 0x50..0x5f: a zstd frame to read over (zstd:chunked begins so)
# What tar(1) knows and image-spec does not; each mark is longer than a file name would come by it.
_OTHERS = (("bzip2", re.compile(rb"BZh[1-9]1AY&SY")), ("xz", re.compile(rb"\xfd7zXZ\0")))
_LONGEST_MARK = 10
_INPUT = 1 << 18
# What zstd's own command accepts without --memory; larger windows would be memory chosen by the sender.
_ZSTD_WINDOW = 1 << 27


class Source(Protocol):
    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, b"" at the end."""


def decompressed(source: Source) -> Source:
    """`source` without its compression. Its `read` raises InvalidArgument for damaged data, this for another kind.

    Truncated gzip is damaged; truncated zstd just ends early, which the tar reader and the DiffID notice."""
    head = b""
    while len(head) < _LONGEST_MARK:
        more = source.read(_INPUT)
        if not more:
            break
        head += more
    joined = _Joined(head, source)
    if head.startswith(_GZIP):
        return _Gzip(joined)
    if head.startswith(_ZSTD) or (head[1:4] == _SKIPPABLE and head[0] & 0xF0 == 0x50):
        return _Zstd(joined)
    for name, pattern in _OTHERS:
        if pattern.match(head):
            raise errors.InvalidArgument(f"unsupported compression: {name}")
    return joined


class _Joined:
    """Bytes read ahead, then the rest."""

    def __init__(self, head: bytes, source: Source) -> None:
        self._head = head
        self._source = source

    def read(self, size: int, /) -> bytes:
        if self._head:
            taken, self._head = self._head[:size], self._head[size:]
            return taken
        return self._source.read(size)


class _Gzip:
    """One or more gzip members (estargz has one per file); zero padding after the last is read over. RFC 1952."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        self._input = b""

    def read(self, size: int, /) -> bytes:
        try:
            while True:
                if self._member.eof and not self._next_member():
                    return b""
                if self._member.needs_input and not self._input:
                    self._input = self._source.read(_INPUT)
                    if not self._input:
                        raise errors.InvalidArgument("gzip: unexpected EOF")
                data, self._input = self._input, b""
                output: bytes = self._member.decompress(data, size)
                if output:
                    return output
        except igzip_lib.IsalError as error:  # type: ignore[misc]
            raise errors.InvalidArgument(f"gzip: invalid data: {error}") from error

    def _next_member(self) -> bool:
        rest = self._member.unused_data + self._input
        while True:
            rest = rest.lstrip(b"\0")
            if rest:
                break
            rest = self._source.read(_INPUT)
            if not rest:
                return False
        self._input = rest
        self._member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        return True


class _Zstd:
    """One or more zstd frames. RFC 8878."""

    def __init__(self, source: Source) -> None:
        context = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._reader = context.stream_reader(_Readable(source), read_size=_INPUT, read_across_frames=True)  # type: ignore[arg-type]

    def read(self, size: int, /) -> bytes:
        try:
            return self._reader.read(size)
        except (zstandard.ZstdError, MemoryError) as error:
            raise errors.InvalidArgument(f"zstd: invalid data: {error}") from error


class _Readable:
    """A source as zstandard's reader wants one: with a default size."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, size: int = -1, /) -> bytes:
        return self._source.read(_INPUT if size < 0 else size)
