"""D-Bus messages as bytes: marshalling, the eight header fields, a reader that is fed. No I/O.

    encode(Message(METHOD_CALL, ...), serial) -> bytes
    reader.feed(bytes); reader.next_message() -> Message | None

Values: y n q i u x t are int, b is bool, d float, s o g str, arrays are lists ("ay" is bytes), structs tuples, dict
entries make a dict, and a variant is the pair (signature, value). Source: the D-Bus specification, "Message Protocol".
"""

from __future__ import annotations

import struct

from sampan.errors import DataLoss, InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
NO_AUTO_START = 2

MAX_MESSAGE = 1 << 27
MAX_ARRAY = 1 << 26
_MAX_DEPTH = 32

# type: (struct format, alignment, which is also the size)
_FIXED = {"y": ("B", 1), "n": ("h", 2), "q": ("H", 2), "i": ("i", 4), "u": ("I", 4), "x": ("q", 8), "t": ("Q", 8),
          "d": ("d", 8), "b": ("I", 4), "h": ("I", 4)}  # fmt: skip
_ALIGNMENT = {**{kind: size for kind, (_, size) in _FIXED.items()}, "s": 4, "o": 4, "g": 1, "a": 4, "(": 8, "{": 8,
              "v": 1}  # fmt: skip
_BASIC = "ynqiuxtdbsogh"

# header field: (code, signature)
_FIELDS = {"path": (1, "o"), "interface": (2, "s"), "member": (3, "s"), "error_name": (4, "s"),
           "reply_serial": (5, "u"), "destination": (6, "s"), "sender": (7, "s"), "signature": (8, "g")}  # fmt: skip
_FIELD_NAMES = {code: name for name, (code, _) in _FIELDS.items()}


class Message:
    """One message; what a kind does not carry is "" (or 0, for numbers). `body` has a value for each type."""

    __slots__ = (
        "body", "destination", "error_name", "flags", "interface", "kind", "member", "path", "reply_serial", "sender",
        "serial", "signature",
    )  # fmt: skip

    def __init__(
        self,
        kind: int,
        *,
        flags: int = 0,
        serial: int = 0,
        reply_serial: int = 0,
        path: str = "",
        interface: str = "",
        member: str = "",
        error_name: str = "",
        destination: str = "",
        sender: str = "",
        signature: str = "",
        body: Sequence[Any] = (),
    ) -> None:
        self.kind = kind
        self.flags = flags
        self.serial = serial
        self.reply_serial = reply_serial
        self.path = path
        self.interface = interface
        self.member = member
        self.error_name = error_name
        self.destination = destination
        self.sender = sender
        self.signature = signature
        self.body = list(body)


def complete_types(signature: str) -> list[str]:
    """The single complete types that a signature is made of. Errors: InvalidArgument."""
    found: list[str] = []
    place = 0
    while place < len(signature):
        end = _type_end(signature, place, 0)
        found.append(signature[place:end])
        place = end
    return found


def _type_end(signature: str, place: int, depth: int, in_array: bool = False) -> int:
    kind = signature[place : place + 1]
    if depth > _MAX_DEPTH or len(signature) > 255:
        raise InvalidArgument("a D-Bus signature is nested too deeply or too long")
    if kind and kind in _BASIC + "v":
        return place + 1
    if kind == "a":
        return _type_end(signature, place + 1, depth + 1, True)
    if kind == "(":
        place += 1
        if signature[place : place + 1] == ")":
            raise InvalidArgument(f"not a D-Bus signature: {signature!r}")
        while signature[place : place + 1] != ")":
            place = _type_end(signature, place, depth + 1)
        return place + 1
    if kind == "{" and in_array and signature[place + 1 : place + 2] in tuple(_BASIC):
        end = _type_end(signature, place + 2, depth + 1)
        if signature[end : end + 1] == "}":
            return end + 1
    raise InvalidArgument(f"not a D-Bus signature: {signature!r}")


def encode(message: Message, serial: int) -> bytes:
    """The bytes of a message, little-endian. Errors: InvalidArgument for a value that is not of its type."""
    types = complete_types(message.signature)
    if len(types) != len(message.body):
        raise InvalidArgument(f"{len(message.body)} values for the signature {message.signature!r}")
    body = bytearray()
    for kind, value in zip(types, message.body, strict=True):
        _put(body, kind, value)
    fields = [
        (code, (signature, getattr(message, name)))
        for name, (code, signature) in _FIELDS.items()
        if getattr(message, name)
    ]
    header = bytearray(struct.pack("<cBBBII", b"l", message.kind, message.flags, 1, len(body), serial))
    _put(header, "a(yv)", fields)
    _pad(header, 8)
    if len(header) + len(body) > MAX_MESSAGE:
        raise InvalidArgument("a D-Bus message is too long")
    return bytes(header + body)


def marshal(signature: str, values: Sequence[Any]) -> bytes:
    """The values alone, as at the begin of a body. Errors: InvalidArgument."""
    out = bytearray()
    for kind, value in zip(complete_types(signature), values, strict=True):
        _put(out, kind, value)
    return bytes(out)


def _pad(out: bytearray, alignment: int) -> None:
    out += bytes(-len(out) % alignment)


def _put(out: bytearray, kind: str, value: Any) -> None:
    first = kind[0]
    _pad(out, _ALIGNMENT[first])
    try:
        if first in _FIXED:
            out += struct.pack("<" + _FIXED[first][0], value)
        elif first in "so":
            data = value.encode()
            out += struct.pack("<I", len(data)) + data + b"\0"
        elif first == "g":
            data = value.encode("ascii")
            out += bytes([len(data)]) + data + b"\0"
        elif first == "a":
            _put_array(out, kind[1:], value)
        elif first == "v":
            signature, inner = value
            if len(complete_types(signature)) != 1:
                raise InvalidArgument(f"not the signature of one value: {signature!r}")
            _put(out, "g", signature)
            _put(out, signature, inner)
        else:
            for one, inner in zip(complete_types(kind[1:-1]), value, strict=True):
                _put(out, one, inner)
    except (struct.error, AttributeError, TypeError, ValueError):
        raise InvalidArgument(f"{value!r} is not of the D-Bus type {kind!r}") from None


def _put_array(out: bytearray, kind: str, value: Any) -> None:
    place = len(out)
    out += bytes(4)
    # The length does not count the padding before the first element.
    _pad(out, _ALIGNMENT[kind[0]])
    start = len(out)
    if kind == "y":
        out += bytes(value)
    elif kind[0] == "{":
        for entry in value.items():
            _pad(out, 8)
            for one, inner in zip(complete_types(kind[1:-1]), entry, strict=True):
                _put(out, one, inner)
    else:
        for inner in value:
            _put(out, kind, inner)
    struct.pack_into("<I", out, place, len(out) - start)


class Reader:
    """The receiving end of a connection. Errors of `next_message`: DataLoss; nothing can be read after it."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next_message(self) -> Message | None:
        """The next whole message, None while some of it is missing."""
        if len(self._buffer) < 16:
            return None
        order = {0x6C: "<", 0x42: ">"}.get(self._buffer[0], "")
        if not order or self._buffer[3] != 1:
            raise DataLoss("not a D-Bus message")
        body_length, _, fields_length = struct.unpack_from(order + "III", self._buffer, 4)
        start = 16 + fields_length + (-fields_length % 8)
        if start + body_length > MAX_MESSAGE or fields_length > MAX_ARRAY:
            raise DataLoss("a D-Bus message is too long")
        if len(self._buffer) < start + body_length:
            return None
        data = bytes(self._buffer[: start + body_length])
        del self._buffer[: start + body_length]
        return _decode(data, order, start)


def _decode(data: bytes, order: str, start: int) -> Message:
    found = Message(data[1], flags=data[2], serial=struct.unpack_from(order + "I", data, 8)[0])
    for code, (signature, value) in _Cursor(data[:start], order, 12).value("a(yv)", 0):
        name = _FIELD_NAMES.get(code)
        if name is None:
            continue  # "unknown fields must be ignored"
        if signature != _FIELDS[name][1]:
            raise DataLoss(f"a D-Bus message whose {name} is of type {signature!r}")
        setattr(found, name, value)
    cursor = _Cursor(data[start:], order, 0)
    try:
        types = complete_types(found.signature)
    except InvalidArgument as error:
        raise DataLoss(str(error)) from None
    found.body = [cursor.value(kind, 0) for kind in types]
    return found


class _Cursor:
    __slots__ = ("data", "order", "place")

    def __init__(self, data: bytes, order: str, place: int) -> None:
        self.data = data
        self.order = order
        self.place = place

    def take(self, count: int) -> bytes:
        found = self.data[self.place : self.place + count]
        if len(found) < count:
            raise DataLoss("a D-Bus message ends early")
        self.place += count
        return found

    def align(self, alignment: int) -> None:
        if any(self.take(-self.place % alignment)):
            raise DataLoss("a D-Bus message whose padding is not zero")

    def number(self, kind: str) -> Any:
        letter, size = _FIXED[kind]
        self.align(size)
        return struct.unpack(self.order + letter, self.take(size))[0]

    def text(self, length: int) -> str:
        data = self.take(length + 1)
        if data[-1] or 0 in data[:-1]:
            raise DataLoss("a D-Bus string that does not end where it says")
        try:
            return data[:-1].decode()
        except UnicodeDecodeError:
            raise DataLoss("a D-Bus string that is not UTF-8") from None

    def value(self, kind: str, depth: int) -> Any:
        first = kind[0]
        if depth > 2 * _MAX_DEPTH:
            raise DataLoss("a D-Bus value is nested too deeply")
        if first == "b":
            number = self.number("b")
            if number > 1:
                raise DataLoss(f"a D-Bus boolean is {number}")
            return bool(number)
        if first in _FIXED:
            return self.number(first)
        if first in "so":
            return self.text(self.number("u"))
        if first == "g":
            return self.text(self.take(1)[0])
        if first == "a":
            return self.array(kind[1:], depth)
        if first == "v":
            signature = self.text(self.take(1)[0])
            try:
                single = len(complete_types(signature)) == 1
            except InvalidArgument as error:
                raise DataLoss(str(error)) from None
            if not single:
                raise DataLoss(f"a D-Bus variant of the signature {signature!r}")
            return signature, self.value(signature, depth + 1)
        self.align(8)
        return tuple(self.value(one, depth + 1) for one in complete_types(kind[1:-1]))

    def array(self, kind: str, depth: int) -> Any:
        length = self.number("u")
        if length > MAX_ARRAY:
            raise DataLoss("a D-Bus array is too long")
        self.align(_ALIGNMENT[kind[0]])
        if kind == "y":
            return self.take(length)
        end = self.place + length
        found: list[Any] = []
        while self.place < end:
            if kind[0] == "{":
                self.align(8)
                key, value = complete_types(kind[1:-1])
                found.append((self.value(key, depth + 1), self.value(value, depth + 1)))
            else:
                found.append(self.value(kind, depth + 1))
        if self.place != end:
            raise DataLoss("a D-Bus array that does not end where it says")
        return dict(found) if kind[0] == "{" else found
