"""Protocol Buffers (proto2), as far as CRIU's messages go: a message is a dict, a table says what its keys are.

    FIELDS = {"type": (1, INT32, REQUIRED), "opts": (2, {...}, OPTIONAL), "external": (37, STRING, REPEATED)}

A field is (number, kind, label); the kind of an embedded message is its own table. Values are int, bool, str, dict, and
lists of them where the label is REPEATED; a key that is missing or None is not sent. Unknown fields are passed over, as
the format demands, so that a newer CRIU is understood. Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from sampan.errors import DataLoss

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Fields = dict[str, tuple[int, Any, str]]
    """The kind is one of the four names below or a table of this very type, which mypy cannot say."""

INT32, UINT32, BOOL, STRING = "int32", "uint32", "bool", "string"
OPTIONAL, REQUIRED, REPEATED = "optional", "required", "repeated"

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_LONGEST_VARINT = 10
_NUMBERS = (INT32, UINT32, BOOL)


class MalformedMessage(DataLoss):
    """Bytes that are not a message of the table."""


def encode(fields: Fields, message: dict[str, Any]) -> bytes:
    """The bytes of a message. Errors: KeyError for a key that the table has not: the caller's mistake."""
    out = bytearray()
    for key, value in message.items():
        number, kind, label = fields[key]
        if value is None:
            continue
        for one in value if label == REPEATED else (value,):
            if isinstance(kind, dict):
                _put(out, number, encode(kind, one))
            elif kind == STRING:
                _put(out, number, one.encode("utf-8", "surrogateescape"))
            else:
                out += _varint(number << 3 | _VARINT)
                # A negative int32 is sent as the 64 bits of its two's complement.
                out += _varint(int(one) & (1 << 64) - 1)
    return bytes(out)


def _put(out: bytearray, number: int, content: bytes) -> None:
    out += _varint(number << 3 | _LENGTH)
    out += _varint(len(content))
    out += content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(fields: Fields, data: bytes) -> dict[str, Any]:
    """The message that `data` is. Errors: MalformedMessage, also for a required field that is missing."""
    by_number = {number: (key, kind, label) for key, (number, kind, label) in fields.items()}
    found: dict[str, Any] = {}
    place = 0
    while place < len(data):
        tag, place = _read_varint(data, place)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise MalformedMessage("a field without a number")
        raw, place = _read_value(data, place, wire)
        if number not in by_number:
            continue
        key, kind, label = by_number[number]
        value = _value(key, kind, raw)
        if label == REPEATED:
            found.setdefault(key, []).append(value)
        else:
            found[key] = value
    for key, (_, _, label) in fields.items():
        if label == REQUIRED and key not in found:
            raise MalformedMessage(f'the field "{key}" is missing')
    return found


def _read_value(data: bytes, place: int, wire: int) -> tuple[int | bytes, int]:
    if wire == _VARINT:
        return _read_varint(data, place)
    if wire == _LENGTH:
        size, place = _read_varint(data, place)
    elif wire in (_EIGHT_BYTES, _FOUR_BYTES):
        size = 8 if wire == _EIGHT_BYTES else 4
    else:
        raise MalformedMessage(f"wire type {wire}")
    if size > len(data) - place:
        raise MalformedMessage("a field that is longer than the message")
    return data[place : place + size], place + size


def _read_varint(data: bytes, place: int) -> tuple[int, int]:
    value = 0
    for index in range(_LONGEST_VARINT):
        if place + index >= len(data):
            raise MalformedMessage("the message ends in a number")
        byte = data[place + index]
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value & (1 << 64) - 1, place + index + 1
    raise MalformedMessage("a number of more than ten bytes")


def _value(key: str, kind: Any, raw: int | bytes) -> Any:
    if isinstance(raw, int) != (kind in _NUMBERS if isinstance(kind, str) else False):
        raise MalformedMessage(f'the field "{key}" is of another kind')
    if isinstance(raw, bytes):
        if isinstance(kind, dict):
            return decode(kind, raw)
        # A path need not be UTF-8, and goes back to the system as the bytes that it was.
        return raw.decode("utf-8", "surrogateescape")
    if kind == BOOL:
        return bool(raw)
    low = raw & (1 << 32) - 1
    return low - (1 << 32) if kind == INT32 and low >> 31 else low
