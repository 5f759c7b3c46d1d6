"""GVariant text, as annotations `org.systemd.property.*` carry it, into a D-Bus variant: (signature, value). Pure.

    uint64 5   'text'   true   3.5   ['a', 'b']   [byte 1, 2]   {'k': <'v'>}   @as []   (1, 'x')   b'bytes'

A bare integer is an "i". Source: GLib's "GVariant Text Format".
"""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.runtime.cgroup.dbus import complete_types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Variant = tuple[str, Any]

_KEYWORDS = {
    "boolean": "b", "byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "handle": "h", "int64": "x",
    "uint64": "t", "double": "d", "string": "s", "objectpath": "o", "signature": "g",
}  # fmt: skip
_RANGES = {
    "y": (0, 8), "n": (1, 15), "q": (0, 16), "i": (1, 31), "u": (0, 32), "x": (1, 63), "t": (0, 64), "h": (1, 31),
}  # fmt: skip
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
_NUMERIC = frozenset("0123456789abcdefABCDEFxX.+-pinfPINF")
_MAX_DEPTH = 32


def parse(text: str) -> Variant:
    """Errors: InvalidArgument for what is no such text."""
    reader = _Reader(text)
    found = reader.value("", 0)
    reader.space()
    if reader.place != len(text):
        raise reader.wrong()
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def wrong(self) -> InvalidArgument:
        rest = self.text[self.place : self.place + 20]
        return InvalidArgument(f"unexpected {rest!r}" if rest else "unexpected end of the value")

    def space(self) -> None:
        while self.peek() in (" ", "\t", "\n"):
            self.place += 1

    def peek(self) -> str:
        return self.text[self.place : self.place + 1]

    def take(self, wanted: str) -> bool:
        self.space()
        if self.text.startswith(wanted, self.place):
            self.place += len(wanted)
            return True
        return False

    def word(self) -> str:
        """The lower-case word that begins here, not taken."""
        end = self.place
        while end < len(self.text) and (self.text[end] in _LETTERS or (end > self.place and self.text[end].isdigit())):
            end += 1
        return self.text[self.place : end]

    def value(self, wanted: str, depth: int) -> Variant:
        """A value of the signature `wanted`, or of the one that it shows itself when that is ""."""
        self.space()
        if depth > _MAX_DEPTH:
            raise InvalidArgument("the value is nested too deeply")
        if self.take("@"):
            return self._annotated(wanted, depth)
        word = self.word()
        if word in _KEYWORDS:
            self.place += len(word)
            return self.value(_agree(wanted, _KEYWORDS[word]), depth + 1)
        if word in ("true", "false"):
            self.place += len(word)
            return _agree(wanted, "b"), word == "true"
        first = self.peek()
        if first in ("'", '"') and first:
            kind = wanted if wanted in ("s", "o", "g") else _agree(wanted, "s")
            return kind, self._string()
        if word == "b" and self.text[self.place + 1 : self.place + 2] in ("'", '"'):
            self.place += 1
            # A byte string is C's, with its end.
            return _agree(wanted, "ay"), self._string().encode("utf-8") + b"\0"
        if first == "[":
            return self._array(wanted, depth)
        if first == "{":
            return self._dictionary(wanted, depth)
        if first == "(":
            return self._tuple(wanted, depth)
        if first == "<":
            self.place += 1
            inner = self.value("", depth + 1)
            self._close(">")
            return _agree(wanted, "v"), inner
        return self._number(wanted)

    def _annotated(self, wanted: str, depth: int) -> Variant:
        end = self.place
        while end < len(self.text) and self.text[end] not in " \t\n":
            end += 1
        signature = self.text[self.place : end]
        if len(complete_types(signature)) != 1:
            raise InvalidArgument(f"not the signature of one value: {signature!r}")
        self.place = end
        return self.value(_agree(wanted, signature), depth + 1)

    def _close(self, end: str) -> None:
        if not self.take(end):
            raise self.wrong()

    def _array(self, wanted: str, depth: int) -> Variant:
        self._close("[")
        if wanted and not (wanted.startswith("a") and not wanted.startswith("a{")):
            raise InvalidArgument(f"an array where {wanted!r} is expected")
        kind = wanted[1:]
        found: list[Any] = []
        while not self.take("]"):
            if found:
                self._close(",")
            kind, one = self.value(kind, depth + 1)
            found.append(one)
        if not kind:
            raise InvalidArgument("the type of an empty array must be given")
        return "a" + kind, bytes(found) if kind == "y" else found

    def _dictionary(self, wanted: str, depth: int) -> Variant:
        self._close("{")
        if wanted and not wanted.startswith("a{"):
            raise InvalidArgument(f"a dictionary where {wanted!r} is expected")
        key, kind = complete_types(wanted[2:-1]) if wanted else ("", "")
        found: dict[Any, Any] = {}
        while not self.take("}"):
            if found:
                self._close(",")
            key, name = self.value(key, depth + 1)
            self._close(":")
            kind, one = self.value(kind, depth + 1)
            if len(key) != 1 or key == "v":
                raise InvalidArgument(f"a dictionary's key of type {key!r}")
            found[name] = one
        if not kind:
            raise InvalidArgument("the type of an empty dictionary must be given")
        return f"a{{{key}{kind}}}", found

    def _tuple(self, wanted: str, depth: int) -> Variant:
        self._close("(")
        if wanted and not wanted.startswith("("):
            raise InvalidArgument(f"a tuple where {wanted!r} is expected")
        kinds = complete_types(wanted[1:-1]) if wanted else None
        signature = ""
        found: list[Any] = []
        while not self.take(")"):
            if found:
                self._close(",")
                if self.take(")"):
                    break
            if kinds is not None and len(found) == len(kinds):
                raise self.wrong()
            kind, one = self.value(kinds[len(found)] if kinds is not None else "", depth + 1)
            signature += kind
            found.append(one)
        if not found or (kinds is not None and len(found) != len(kinds)):
            raise self.wrong()
        return f"({signature})", tuple(found)

    def _string(self) -> str:
        quote = self.peek()
        self.place += 1
        found = ""
        while True:
            letter = self.peek()
            self.place += 1
            if not letter:
                raise self.wrong()
            if letter == quote:
                return found
            if letter == "\\":
                letter = self.peek()
                self.place += 1
                if letter in ("u", "U"):
                    letter = self._code_point(4 if letter == "u" else 8)
                else:
                    letter = _ESCAPES.get(letter, letter)
            if letter == "\0":
                raise InvalidArgument("a string with a NUL in it")
            found += letter

    def _code_point(self, digits: int) -> str:
        text = self.text[self.place : self.place + digits]
        self.place += digits
        try:
            letter = chr(int(text, 16))
            letter.encode()
        except (ValueError, OverflowError):
            raise InvalidArgument(f"not a character: {text!r}") from None
        return letter

    def _number(self, wanted: str) -> Variant:
        end = self.place
        while end < len(self.text) and self.text[end] in _NUMERIC:
            end += 1
        text = self.text[self.place : end]
        try:
            number = _integer(text)
        except ValueError:
            try:
                found = float(text)
            except ValueError:
                raise self.wrong() from None
            self.place = end
            return _agree(wanted, "d"), found
        self.place = end
        if wanted == "d":
            return "d", float(number)
        kind = wanted or "i"
        if kind not in _RANGES:
            raise InvalidArgument(f"a number where {wanted!r} is expected")
        signed, bits = _RANGES[kind]
        if not (-(1 << bits) if signed else 0) <= number < 1 << bits:
            raise InvalidArgument(f"the number {text} is out of the range of {kind!r}")
        return kind, number


def _integer(text: str) -> int:
    """As strtol(3) reads it: hexadecimal after 0x, octal after 0. Errors: ValueError."""
    digits = text.lstrip("+-")
    if digits[:2].lower() == "0x":
        return int(text, 16)
    return int(text, 8) if len(digits) > 1 and digits[0] == "0" else int(text)


def _agree(wanted: str, found: str) -> str:
    if wanted and wanted != found:
        raise InvalidArgument(f"a value of type {found!r} where {wanted!r} is expected")
    return found
