"""What Go's encoding/json says about a text that is no JSON: clients and their tests match on its words.

Only the complaint is made here; reading is msgspec's. The words are those of Go's scanner (encoding/json/scanner.go):
what it met, and what it was looking for. Bytes are met one by one, so a character beyond ASCII is named by its first.
"""

from __future__ import annotations

import re

_SPACE = re.compile(rb"[ \t\r\n]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(rb"[0-9]*")
_ESCAPES = b'"\\/bfnrt'
_HEX = b"0123456789abcdefABCDEF"
_MAX_DEPTH = 10000


class SyntaxProblem(ValueError):
    """Where a text stops being JSON; its text is Go's."""


def end_of_value(data: bytes) -> int:
    """The offset behind the first JSON value in `data`.

    SyntaxProblem: "EOF" when there is nothing but space, "unexpected EOF" when it breaks off, and
    "invalid character 'x' looking for beginning of value" and its kin."""
    at = _SPACE.match(data).end()  # type: ignore[union-attr]
    if at == len(data):
        raise SyntaxProblem("EOF")
    # The brackets that are open, innermost last; a value has ended when none is.
    opened = bytearray()
    while True:
        at = _begin(data, at, opened)
        while True:
            if not opened:
                return at
            at, more = _after_value(data, at, opened)
            if more:
                break


def _begin(data: bytes, at: int, opened: bytearray) -> int:
    """Read up to the end of a scalar or an empty container, or to where a container's first value begins."""
    while True:
        at = _skip(data, at)
        byte = data[at : at + 1]
        if byte not in (b"{", b"["):
            return _scalar(data, at)
        if len(opened) == _MAX_DEPTH:
            raise SyntaxProblem("exceeded max depth")
        inner = _skip(data, at + 1)
        if data[inner : inner + 1] == (b"}" if byte == b"{" else b"]"):
            return inner + 1
        opened += byte
        at = _key(data, inner) if byte == b"{" else inner


def _after_value(data: bytes, at: int, opened: bytearray) -> tuple[int, bool]:
    """Behind a value in a container: the offset, and whether another value begins there."""
    at = _skip(data, at)
    of_object = opened[-1:] == b"{"
    byte = data[at : at + 1]
    if byte == b",":
        return (_key(data, _skip(data, at + 1)) if of_object else at + 1), True
    if byte != (b"}" if of_object else b"]"):
        raise _refusal(data, at, "after object key:value pair" if of_object else "after array element")
    opened.pop()
    return at + 1, False


def _key(data: bytes, at: int) -> int:
    if data[at : at + 1] != b'"':
        raise _refusal(data, at, "looking for beginning of object key string")
    at = _skip(data, _string(data, at + 1))
    if data[at : at + 1] != b":":
        raise _refusal(data, at, "after object key")
    return at + 1


def _scalar(data: bytes, at: int) -> int:
    byte = data[at : at + 1]
    if byte == b'"':
        return _string(data, at + 1)
    if byte == b"-" or byte.isdigit():
        return _number(data, at)
    for word in (b"true", b"false", b"null"):
        if byte == word[:1]:
            for place, wanted in enumerate(word):
                if data[at + place : at + place + 1] != word[place : place + 1]:
                    raise _refusal(data, at + place, f"in literal {word.decode()} (expecting {_quoted(wanted)})")
            return at + len(word)
    raise _refusal(data, at, "looking for beginning of value")


def _number(data: bytes, at: int) -> int:
    if data[at : at + 1] == b"-":
        at += 1
        if not data[at : at + 1].isdigit():
            raise _refusal(data, at, "in numeric literal")
    at = at + 1 if data[at : at + 1] == b"0" else _digits(data, at)
    if data[at : at + 1] == b".":
        at += 1
        if not data[at : at + 1].isdigit():
            raise _refusal(data, at, "after decimal point in numeric literal")
        at = _digits(data, at)
    if data[at : at + 1] in (b"e", b"E"):
        at += 1
        if data[at : at + 1] in (b"+", b"-"):
            at += 1
        if not data[at : at + 1].isdigit():
            raise _refusal(data, at, "in exponent of numeric literal")
        at = _digits(data, at)
    return at


def _digits(data: bytes, at: int) -> int:
    return _DIGITS.match(data, at).end()  # type: ignore[union-attr]


def _string(data: bytes, at: int) -> int:
    """The offset behind the closing quote of the string whose first character is at `at`."""
    while True:
        at = _PLAIN.match(data, at).end()  # type: ignore[union-attr]
        byte = data[at : at + 1]
        if byte == b'"':
            return at + 1
        if byte != b"\\":
            raise _refusal(data, at, "in string literal")
        at += 1
        if data[at : at + 1] == b"u":
            for _ in range(4):
                at += 1
                if at >= len(data) or data[at] not in _HEX:
                    raise _refusal(data, at, "in \\u hexadecimal character escape")
        elif at >= len(data) or data[at] not in _ESCAPES:
            raise _refusal(data, at, "in string escape code")
        at += 1


def _skip(data: bytes, at: int) -> int:
    return _SPACE.match(data, at).end()  # type: ignore[union-attr]


def _refusal(data: bytes, at: int, where: str) -> SyntaxProblem:
    if at >= len(data):
        return SyntaxProblem("unexpected EOF")
    return SyntaxProblem(f"invalid character {_quoted(data[at])} {where}")


def _quoted(byte: int) -> str:
    """A byte as Go's %q of a rune, with the two quotes the way Go's scanner has them."""
    if byte == ord("'"):
        return "'\\''"
    named = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 92: "\\"}.get(byte)
    if named:
        return f"'\\{named}'"
    if byte < 32 or byte == 127:
        return f"'\\x{byte:02x}'"
    text = chr(byte)
    return f"'{text}'" if text.isprintable() else f"'\\u{byte:04x}'"
