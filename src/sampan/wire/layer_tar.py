"""A streaming reader for the tar of an image layer: bytes in, entries and their data out, no I/O.

    reader = LayerTar()
    for event in reader.feed(data):       # repeatedly, cut anywhere
        Entry                             the next member; what follows belongs to it
        memoryview                        its next bytes, in order
        (offset, memoryview)              of a sparse member: bytes at an offset, holes in between
    reader.finish()                       the stream ended; TarError when it ended inside something

Formats: v7, ustar, PAX (extended headers; global ones are read over, as Go's reader does), GNU (long names, base-256
numbers), sparse files of GNU's old kind and PAX 0.0, 0.1 and 1.0. Names are bytes, as the kernel takes them; whether
they are acceptable is the caller's question. Sources: pax(1), tar(5), GNU tar manual "Tar Internals".
Any other input raises TarError and nothing else; memory used is bounded by META_LIMIT and the size of what is fed.
"""

from __future__ import annotations

import functools
import struct
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Event: TypeAlias = "Entry | memoryview | tuple[int, memoryview]"

BLOCK = 512
# Of one extended header, long name or sparse map. Go's reader has the same bound.
META_LIMIT = 1 << 20
_MAX_SIZE = (1 << 63) - 1

FILE, LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"

_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK, _SPARSE = b"x", b"g", b"L", b"K", b"S"
_DATA_MAP = b"m"  # no type of tar: a sparse map inside the data
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_ZERO = bytes(BLOCK)
# Header types that carry no data, whatever their size field says (Go's isHeaderOnly).
_NO_DATA = frozenset((LINK, SYMLINK, CHAR, BLOCK_DEVICE, DIRECTORY, FIFO))
_XATTR = b"SCHILY.xattr."


class TarError(ValueError):
    """The bytes are no tar that a layer may be."""


class Entry:
    """One member. `kind` is one of the constants above; `size` in bytes (of the file, holes included); times in ns.

    `offset` is where its data begins in the archive, known as soon as the first of it was handed out."""

    __slots__ = (
        "atime",
        "gid",
        "kind",
        "linkname",
        "major",
        "minor",
        "mode",
        "mtime",
        "name",
        "offset",
        "size",
        "sparse",
        "uid",
        "xattrs",
    )

    def __init__(self, name: bytes, kind: bytes) -> None:
        self.name = name
        self.kind = kind
        self.linkname = b""
        self.mode = 0
        self.uid = 0
        self.gid = 0
        self.offset = 0
        self.size = 0
        self.mtime = 0
        self.atime: int | None = None
        self.major = 0
        self.minor = 0
        self.xattrs: dict[str, bytes] = {}
        self.sparse = False

    def __repr__(self) -> str:
        return f"Entry({self.name!r}, {self.kind!r}, size={self.size})"


class LayerTar:
    """See the module. One reader reads one archive."""

    def __init__(self) -> None:
        self._taken = 0  # bytes of the archive before what is being fed
        self._fresh: Entry | None = None  # the present member while none of its data was handed out
        self._rest = b""  # the start of a block that is not whole yet
        self._data = 0  # bytes of the present member still to come
        self._skip = 0  # bytes to read over: padding
        self._meta: bytearray | None = None  # a payload being gathered
        self._meta_left = 0
        self._meta_kind = b""
        self._pax: list[tuple[bytes, bytes]] = []
        self._long_name = b""
        self._long_link = b""
        self._map: list[tuple[int, int]] | None = None  # extents of a sparse member still to fill, the next one last
        self._extents: list[tuple[int, int]] = []
        self._real_size = 0
        self._map_text = bytearray()
        self._map_lines = self._map_newlines = 0
        self._zeros = 0
        self._ended = False

    def feed(self, data: bytes | memoryview) -> list[Event]:
        """Take the next bytes; what became known. The memoryviews are only good until `data` is reused."""
        events: list[Event] = []
        if self._rest:
            data = self._rest + bytes(data)
            self._rest = b""
        view = memoryview(data)
        at, end = 0, len(view)
        while at < end:
            if self._meta is not None:
                at = self._gather(view, at)
            elif self._data:
                take = min(self._data, end - at)
                if self._fresh is not None:
                    self._fresh.offset, self._fresh = self._taken + at, None
                self._emit(view[at : at + take], events)
                at += take
            elif self._skip:
                take = min(self._skip, end - at)
                self._skip -= take
                at += take
            elif self._ended:
                break
            elif end - at < BLOCK:
                self._rest = bytes(view[at:])
                break
            else:
                self._header(bytes(view[at : at + BLOCK]), events)
                at += BLOCK
        self._taken += at
        return events

    def finish(self) -> None:
        """Raise TarError unless the stream may end here; a missing end-of-archive mark is forgiven, as Go does."""
        if self._ended:
            return
        if self._rest or self._data or self._skip or self._meta is not None:
            raise TarError("unexpected EOF")
        if self._pax or self._long_name or self._long_link:
            raise TarError("unexpected EOF: an extended header without its member")

    def _emit(self, piece: memoryview, events: list[Event]) -> None:
        """Hand out data; of a sparse member, cut at its extents."""
        self._data -= len(piece)
        if self._map is None:
            events.append(piece)
            return
        while piece:
            offset, length = self._map.pop()
            events.append((offset, piece[:length]))
            if length > len(piece):
                self._map.append((offset + len(piece), length - len(piece)))
            piece = piece[length:]

    def _expect(self, kind: bytes, size: int) -> None:
        """Gather `size` bytes before anything else."""
        if size > META_LIMIT:
            raise TarError("header is too large")
        self._meta, self._meta_left, self._meta_kind = (bytearray(), size, kind) if size else (None, 0, b"")

    def _gather(self, view: memoryview, at: int) -> int:
        """Go on gathering an extended header, a long name or a block of a sparse map; where to go on after it."""
        assert self._meta is not None
        take = min(self._meta_left, len(view) - at)
        self._meta += view[at : at + take]
        self._meta_left -= take
        if self._meta_left == 0:
            payload, self._meta = bytes(self._meta), None
            if self._meta_kind == _PAX:
                self._pax = _pax_records(payload)
            elif self._meta_kind == _LONG_NAME:
                self._long_name = payload.partition(b"\0")[0]
            elif self._meta_kind == _LONG_LINK:
                self._long_link = payload.partition(b"\0")[0]
            elif self._meta_kind == _SPARSE:
                self._old_sparse_map(payload[:504], payload[504])
            else:
                self._data_sparse_map(payload)
        return at + take

    def _header(self, block: bytes, events: list[Event]) -> None:
        if block == _ZERO:
            self._zeros += 1
            self._ended = self._zeros == 2
            return
        if self._zeros:
            raise TarError("invalid tar header")
        (
            name,
            mode,
            uid,
            gid,
            size_field,
            mtime,
            checksum,
            kind,
            linkname,
            magic,
            _version,
            _,
            _,
            major,
            minor,
            prefix,
        ) = _HEADER.unpack(block)
        if zlib.adler32(block) & 0xFFFF != _adler(checksum):
            signed = sum(b - 256 if b > 127 else b for b in block[:148] + block[156:]) + 8 * 32
            if _number(checksum) != signed:
                raise TarError("invalid tar header")
        size = _number(size_field)
        if size < 0 or size > _MAX_SIZE:
            raise TarError("invalid tar header: size")
        if kind in (_PAX, _LONG_NAME, _LONG_LINK):
            self._expect(kind, size)
            self._skip = -size % BLOCK
            return
        if kind == _PAX_GLOBAL:
            self._skip = size + -size % BLOCK
            return
        entry = Entry(name.partition(b"\0")[0], kind)
        entry.linkname = linkname.partition(b"\0")[0]
        entry.mode, entry.uid, entry.gid = _number(mode), _number(uid), _number(gid)
        entry.mtime = _number(mtime) * 10**9
        entry.size = size
        if magic == b"ustar\0":
            if block[508:] == b"tar\0":  # Schilling's star keeps times behind a shorter prefix
                prefix = prefix[:131]
            prefix = prefix.partition(b"\0")[0]
            if prefix:
                entry.name = prefix + b"/" + entry.name
        if magic[:5] == b"ustar":
            entry.major, entry.minor = _number(major), _number(minor)
        self._member(entry, block, events)

    def _member(self, entry: Entry, block: bytes, events: list[Event]) -> None:
        """Apply what came before the header, settle the type, and expect the data."""
        self._map = None
        stored, sparse = entry.size, _SparseRecords()
        if self._pax:
            sparse = _apply_pax(entry, self._pax)
            stored = entry.size
            self._pax = []
        if self._long_name:
            entry.name, self._long_name = self._long_name, b""
        if self._long_link:
            entry.linkname, self._long_link = self._long_link, b""
        kind = entry.kind
        if kind in (FILE, b"\0", b"7", _SPARSE):
            if entry.name.endswith(b"/"):
                kind = DIRECTORY
            entry.kind = DIRECTORY if kind == DIRECTORY else FILE
        elif kind not in _NO_DATA:
            raise TarError(f"unhandled tar header type {kind[0]}")
        if entry.kind in _NO_DATA:
            stored = entry.size = 0
        for value in (entry.uid, entry.gid):
            if not 0 <= value < 1 << 32:
                raise TarError("invalid tar header: owner")
        # Of more, mknod(2) would take the lower bits: another device than the header says.
        if kind in (CHAR, BLOCK_DEVICE) and not (0 <= entry.major < 1 << 12 and 0 <= entry.minor < 1 << 20):
            raise TarError("invalid tar header: device")
        events.append(entry)
        self._fresh = entry
        self._data = stored
        self._skip = -stored % BLOCK
        if entry.kind != FILE:
            return
        if kind == _SPARSE:
            entry.size = _number(block[483:495])
            if not 0 <= entry.size <= _MAX_SIZE:
                raise TarError("invalid tar header: size")
            self._start_sparse(entry, [])
            self._old_sparse_map(block[386:482], block[482])
        elif sparse.present:
            entry.size = sparse.real_size
            self._start_sparse(entry, sparse.extents)
            if not sparse.in_data:
                self._settle_map()
            elif stored < BLOCK:
                raise TarError("invalid sparse map")
            else:
                self._map_text, self._map_lines, self._map_newlines = bytearray(), 0, 0
                self._expect(_DATA_MAP, BLOCK)

    def _start_sparse(self, entry: Entry, extents: list[tuple[int, int]]) -> None:
        entry.sparse = True
        self._real_size, self._extents = entry.size, extents

    def _old_sparse_map(self, table: bytes, extended: int) -> None:
        """GNU's old format: extents in the header itself and, while `extended`, in blocks behind it."""
        for i in range(0, len(table), 24):
            if table[i] == 0:
                extended = 0
                break
            self._extents.append((_number(table[i : i + 12]), _number(table[i + 12 : i + 24])))
        if len(self._extents) * 24 > META_LIMIT:
            raise TarError("header is too large")
        if extended:
            self._expect(_SPARSE, BLOCK)
        else:
            self._settle_map()

    def _data_sparse_map(self, block: bytes) -> None:
        """PAX 1.0: the map begins the data as decimal lines (count, then offset and length each), in whole blocks."""
        self._data -= BLOCK
        self._map_text += block
        if not self._map_lines:
            first, newline, _ = self._map_text.partition(b"\n")
            self._map_lines = 2 * _decimal(first) + 1 if newline else 0
        self._map_newlines += block.count(b"\n")
        if self._map_lines and self._map_newlines >= self._map_lines:
            numbers = [_bounded(line) for line in self._map_text.split(b"\n", self._map_lines)[1:-1]]
            self._extents = list(zip(numbers[::2], numbers[1::2], strict=True))
            self._settle_map()
            return
        if len(self._map_text) > META_LIMIT or self._data < BLOCK:
            raise TarError("invalid sparse map")
        self._expect(_DATA_MAP, BLOCK)

    def _settle_map(self) -> None:
        """Check the extents against the sizes; the data may come."""
        reached = total = 0
        for offset, length in self._extents:
            if offset < reached or length < 0 or offset + length > self._real_size:
                raise TarError("invalid sparse map")
            reached, total = offset + length, total + length
        if total != self._data:
            raise TarError("invalid sparse map")
        self._map = [extent for extent in reversed(self._extents) if extent[1]]


class _SparseRecords:
    """What PAX records say about a sparse member."""

    def __init__(self) -> None:
        self.present = False
        self.in_data = False
        self.real_size = 0
        self.extents: list[tuple[int, int]] = []


# Modes, owners, times and sizes are the same few over and over.
@functools.lru_cache(1024)
def _number(field: bytes) -> int:
    """An octal or base-256 header number."""
    if field[0] & 0x80:
        return int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big") if field[0] != 0xFF else -1
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if not digits.isdigit():
        raise TarError("invalid tar header: number")
    try:
        return int(digits, 8)
    except ValueError:
        raise TarError("invalid tar header: number") from None


@functools.lru_cache(1024)
def _adler(checksum: bytes) -> int:
    """What a header with this field has for the lower half of its Adler-32.

    The field is the sum of all bytes with itself as blanks. Adler-32's lower half is the sum of all bytes (modulo a
    prime just below 2**16, plus one) and comes 20 times faster than adding up in Python."""
    return (_number(checksum) + sum(checksum) - 8 * 32 + 1) % 65521


def settable(time: int) -> int:
    """A time as Docker and containerd set it: 1970 for one before that, or beyond what nanoseconds in 64 bits count."""
    return time if 0 <= time < 1 << 63 else 0


def _decimal(text: bytes | bytearray) -> int:
    if not text.isdigit() or len(text) > 20:
        raise TarError("invalid decimal number in a header")
    return int(text)


def _pax_records(payload: bytes) -> list[tuple[bytes, bytes]]:
    """[(key, value)] of an extended header: "LENGTH KEY=VALUE\\n", the length counting itself. pax(1)."""
    records = []
    at = 0
    while at < len(payload):
        space = payload.find(b" ", at, at + 21)
        if space <= at:
            raise TarError("invalid extended header")
        length = _decimal(payload[at:space])
        record = payload[space + 1 : at + length]
        key, equals, value = record[:-1].partition(b"=")
        if length <= space + 1 - at or at + length > len(payload) or record[-1:] != b"\n" or not equals or not key:
            raise TarError("invalid extended header")
        if b"\0" in key or (b"\0" in value and not key.startswith(_XATTR)):
            raise TarError("invalid extended header")
        records.append((key, value))
        at += length
    return records


def _apply_pax(entry: Entry, records: list[tuple[bytes, bytes]]) -> _SparseRecords:
    sparse = _SparseRecords()
    seen = dict(records)
    for key, value in seen.items():
        if key.startswith(_XATTR):
            entry.xattrs[_xattr_name(key)] = value
        elif not value:
            continue  # an empty value takes back what a global header said, which is never applied here
        elif key == b"path":
            entry.name = value
        elif key == b"linkpath":
            entry.linkname = value
        elif key == b"size":
            entry.size = _bounded(value)
        elif key == b"uid":
            entry.uid = _bounded(value)
        elif key == b"gid":
            entry.gid = _bounded(value)
        elif key == b"mtime":
            entry.mtime = _time(value)
        elif key == b"atime":
            entry.atime = _time(value)
    if b"GNU.sparse.major" in seen or b"GNU.sparse.size" in seen or b"GNU.sparse.map" in seen:
        _sparse_from_pax(entry, records, seen, sparse)
    return sparse


def _sparse_from_pax(
    entry: Entry, records: list[tuple[bytes, bytes]], seen: dict[bytes, bytes], sparse: _SparseRecords
) -> None:
    """Versions 0.0 (repeated offset and numbytes), 0.1 (one map) and 1.0 (the map in the data)."""
    sparse.present = True
    version = (seen.get(b"GNU.sparse.major", b"0"), seen.get(b"GNU.sparse.minor", b"0"))
    if version not in ((b"1", b"0"), (b"0", b"0"), (b"0", b"1")):
        raise TarError("unknown sparse format")
    entry.name = seen.get(b"GNU.sparse.name") or entry.name
    sparse.real_size = _bounded(seen.get(b"GNU.sparse.realsize") or seen.get(b"GNU.sparse.size") or b"0")
    if version == (b"1", b"0"):
        sparse.in_data = True
        return
    if b"GNU.sparse.map" in seen:
        numbers = [_bounded(text) for text in seen[b"GNU.sparse.map"].split(b",") if text]
    else:
        numbers = [_bounded(v) for k, v in records if k in (b"GNU.sparse.offset", b"GNU.sparse.numbytes")]
    if len(numbers) % 2:
        raise TarError("invalid sparse map")
    sparse.extents = list(zip(numbers[::2], numbers[1::2], strict=True))


def _xattr_name(key: bytes) -> str:
    try:
        return key[len(_XATTR) :].decode()
    except UnicodeDecodeError:
        raise TarError("invalid extended header") from None


def _bounded(text: bytes | bytearray) -> int:
    value = _decimal(text)
    if value > _MAX_SIZE:
        raise TarError("invalid decimal number in a header")
    return value


def _time(text: bytes) -> int:
    """Decimal seconds with a fraction, perhaps negative, as nanoseconds."""
    sign = -1 if text.startswith(b"-") else 1
    whole, dot, fraction = text.lstrip(b"-").partition(b".")
    if dot and fraction and not fraction.isdigit():
        raise TarError("invalid time in a header")
    return sign * (_decimal(whole) * 10**9 + int((fraction[:9].ljust(9, b"0")) if fraction else b"0"))
