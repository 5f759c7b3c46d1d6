"""Protocol Buffers' wire format by table, for processes that are too small for Google's library (20 MB, 60 ms).

A message's type is a table {field number: (name, kind)}, its value a dict by name:

    TIMESTAMP = {1: ("seconds", INT), 2: ("nanos", INT)}
    PROCESS = {1: ("pid", INT), 2: ("started", TIMESTAMP), 3: ("names", [STRING]), 4: ("labels", MAP)}

A kind is one of the words below, a table (an embedded message; absent is None), a list of one kind (repeated), or MAP
(string to string). `encode` leaves out what has proto3's default; `decode` fills it in and passes over unknown fields.
Source: protobuf.dev, "Encoding". No I/O here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    Kind = Any
    Table = Mapping[int, tuple[str, Kind]]

INT, BOOL, STRING, BYTES, MAP = "int", "bool", "string", "bytes", "map"
"""INT is every varint that is not zigzag: int32, int64, uint32, uint64 and enumerations; as encoded, a negative number
has ten bytes. `decode` gives int64's sign to it, so a uint64 above 2**63 comes out negative: ask for UINT there."""
UINT = "uint"

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_ENTRY: Table = {1: ("key", STRING), 2: ("value", STRING)}
_DEFAULTS = {INT: 0, UINT: 0, BOOL: False, STRING: "", BYTES: b""}
_NUMBERS = (INT, UINT, BOOL)
_MASK = (1 << 64) - 1


class ProtobufError(ValueError):
    """The bytes are no message of the table."""


def encode(table: Table, value: Mapping[str, Any]) -> bytes:
    """The message's bytes. KeyError for a name that is not in the table, so that no field is lost by a slip."""
    left = dict(value)
    parts: list[bytes] = []
    for number, (name, kind) in table.items():
        if name in left:
            _put(parts, number, kind, left.pop(name))
    if left:
        raise KeyError(f"no such field: {', '.join(left)}")
    return b"".join(parts)


def decode(table: Table, data: bytes) -> dict[str, Any]:
    """Every field of the table by name. ProtobufError."""
    found: dict[str, Any] = {name: _default(kind) for name, kind in table.values()}
    for number, wire, raw in fields(data):
        if number not in table:
            continue
        name, kind = table[number]
        if isinstance(kind, list):
            _repeat(found[name], kind[0], wire, raw)
        elif kind == MAP:
            entry = decode(_ENTRY, _bytes(wire, raw))
            found[name][entry["key"]] = entry["value"]
        else:
            found[name] = _value(kind, wire, raw)
    return found


def fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """(field number, wire type, int or bytes) of each field as it stands. ProtobufError."""
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ProtobufError("field number 0")
        if wire == VARINT:
            value, at = read_varint(data, at)
            yield number, wire, value
            continue
        if wire == LENGTH:
            size, at = read_varint(data, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise ProtobufError(f"wire type {wire} of field {number}")
        if size > len(data) - at:
            raise ProtobufError(f"field {number} is cut off")
        yield number, wire, data[at : at + size]
        at += size


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number as its two's complement of 64 bits."""
    value &= _MASK
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, where the next byte is). ProtobufError when it is cut off or longer than ten bytes."""
    value = shift = 0
    while True:
        if at >= len(data):
            raise ProtobufError("number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _MASK, at
        shift += 7
        if shift >= 70:
            raise ProtobufError("number is longer than ten bytes")


def _put(parts: list[bytes], number: int, kind: Kind, value: Any) -> None:
    if isinstance(kind, list):
        for one in value:
            _put_one(parts, number, kind[0], one)
    elif kind == MAP:
        for key, one in value.items():
            _put_one(parts, number, _ENTRY, {"key": key, "value": one})
    elif value is not None and (not isinstance(kind, str) or value != _DEFAULTS[kind]):
        _put_one(parts, number, kind, value)


def _put_one(parts: list[bytes], number: int, kind: Kind, value: Any) -> None:
    if isinstance(kind, str) and kind in _NUMBERS:
        parts.append(varint(number << 3 | VARINT))
        parts.append(varint(int(value)))
        return
    parts.append(varint(number << 3 | LENGTH))
    if isinstance(kind, str):
        data = value.encode("utf-8", "surrogateescape") if kind == STRING else bytes(value)
    else:
        data = encode(kind, value)
    parts.append(varint(len(data)))
    parts.append(data)


def _default(kind: Kind) -> Any:
    if isinstance(kind, list):
        return []
    if kind == MAP:
        return {}
    return _DEFAULTS[kind] if isinstance(kind, str) else None


def _value(kind: Kind, wire: int, raw: Any) -> Any:
    if isinstance(kind, str) and kind in _NUMBERS:
        if wire != VARINT:
            raise ProtobufError(f"wire type {wire} for a number")
        if kind == BOOL:
            return bool(raw)
        return raw - (1 << 64) if kind == INT and raw >> 63 else raw
    data = _bytes(wire, raw)
    if kind == BYTES:
        return data
    if kind == STRING:
        return data.decode("utf-8", "surrogateescape")
    return decode(kind, data)


def _repeat(found: list[Any], kind: Kind, wire: int, raw: Any) -> None:
    """One more of a repeated field; numbers may also come packed."""
    if isinstance(kind, str) and kind in _NUMBERS and wire == LENGTH:
        at = 0
        while at < len(raw):
            one, at = read_varint(raw, at)
            found.append(_value(kind, VARINT, one))
        return
    found.append(_value(kind, wire, raw))


def _bytes(wire: int, raw: Any) -> bytes:
    if wire != LENGTH:
        raise ProtobufError(f"wire type {wire} for a field with a length")
    data: bytes = raw
    return data
