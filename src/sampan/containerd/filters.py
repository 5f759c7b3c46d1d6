"""containerd's filter grammar, as clients send it to every List and to Subscribe.

    filter   = selector *( "," selector )          every selector must match
    selector = fieldpath [ operator value ]        without an operator: the field is present
    fieldpath = field *( "." field )               field: letters, digits and "_", or quoted
    operator = "==" | "!=" | "~="                  ~= is a regular expression, found anywhere in the value
    value    = quoted | characters without space and ","

Quotes are "..." and, after ~=, also /.../ and |...|. A list of filters matches when any of them does; an empty list
or an empty filter matches everything. An absent field has the value "": it never equals, and always differs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sampan import errors
from sampan.containerd.patterns import pattern

Fields = Callable[[Sequence[str]], str | None]
"""The value of a field path of one object, None when it is not present."""

_FIELD = re.compile(r"[A-Za-z0-9_]+")
_OPERATOR = re.compile(r"[=!~]+")
_VALUE = re.compile(r"[^,\s]+")
_QUOTES = '"/|'
# Go's escapes in a quoted string; anything else behind a backslash is an error.
_ESCAPE = re.compile(r"""\\(?:([abfnrtv\\'"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|)""")
_CONTROLS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


@dataclass(frozen=True, slots=True)
class Selector:
    path: tuple[str, ...]
    operator: str
    value: str
    pattern: re.Pattern[str] | None = None

    def matches(self, fields: Fields) -> bool:
        found = fields(self.path)
        if not self.operator:
            return found is not None
        if self.operator == "==":
            return found == self.value
        if self.operator == "!=":
            return (found or "") != self.value
        # A pattern that is none is no error in containerd: it matches nothing.
        return self.pattern is not None and self.pattern.search(found or "") is not None


class Filter:
    """Any of several filters, each all of its selectors."""

    def __init__(self, alternatives: Sequence[Sequence[Selector]]) -> None:
        self._alternatives = alternatives

    def matches(self, fields: Fields) -> bool:
        return not self._alternatives or any(
            all(selector.matches(fields) for selector in selectors) for selectors in self._alternatives
        )


def parse(filters: Iterable[str]) -> Filter:
    """InvalidArgument for what the grammar does not know."""
    return Filter([_Parser(text).selectors() for text in filters])


def labels(path: Sequence[str], found: Mapping[str, str]) -> str | None:
    """The label that the rest of a field path names: its parts joined by "." again."""
    return found.get(".".join(path))


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def selectors(self) -> list[Selector]:
        found: list[Selector] = []
        if not self._text:
            return found
        while True:
            found.append(self._selector())
            if self._at == len(self._text):
                return found
            if self._peek() != ",":
                raise self._wrong(f"unexpected input: {self._peek()}")
            self._at += 1

    def _selector(self) -> Selector:
        path = [self._field()]
        while self._peek() == ".":
            self._at += 1
            path.append(self._field())
        if self._peek() in ("", ","):
            return Selector(tuple(path), "", "")
        self._space()
        start = self._at
        if self._peek() in ("/", "|", '"'):
            # Read as a quoted string, and only then found to be no operator.
            self._quoted(True)
            self._at = start
        operator = self._token(_OPERATOR, 'expected an operator ("=="|"!="|"~=")')
        if operator not in ("==", "!=", "~="):
            self._at = start
            raise self._wrong(f'unsupported operator "{operator}"')
        value = self._value(operator == "~=")
        return Selector(tuple(path), operator, value, pattern(value) if operator == "~=" else None)

    def _field(self) -> str:
        self._space()
        if self._peek() == '"':
            return self._quoted(False)
        return self._token(_FIELD, "expected field or quoted")

    def _value(self, alternative_quotes: bool) -> str:
        self._space()
        if self._peek() and self._peek() in _QUOTES:
            return self._quoted(alternative_quotes)
        return self._token(_VALUE, "expected value or quoted")

    def _quoted(self, alternative_quotes: bool) -> str:
        quote, start = self._peek(), self._at
        end = start + 1
        while end < len(self._text) and self._text[end] != quote:
            end += 2 if self._text[end] == "\\" else 1
        if end >= len(self._text):
            raise self._wrong("quoted literal not terminated")
        if quote != '"' and not alternative_quotes:
            raise self._wrong("invalid quote encountered")
        inner = self._text[start + 1 : end]
        self._at = end + 1
        if quote != '"':
            return inner.replace("\\" + quote, quote)
        try:
            return _ESCAPE.sub(_unescaped, inner)
        except ValueError:
            self._at = start
            raise self._wrong("unquoting failed") from None

    def _token(self, kind: re.Pattern[str], wanted: str) -> str:
        found = kind.match(self._text, self._at)
        if found is None:
            raise self._wrong(wanted)
        self._at = found.end()
        return found[0]

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _space(self) -> None:
        while self._peek().isspace():
            self._at += 1

    def _wrong(self, what: str) -> errors.InvalidArgument:
        before, after = self._text[: self._at], self._text[self._at :]
        place = f"{before} >|{after[:1]}|< {after[1:]}" if after else before
        # Twice the kind: containerd's text, to which its edge adds the kind once more.
        return errors.InvalidArgument(f"filters: parse error: [{place}]: {what}: invalid argument: invalid argument")


def _unescaped(found: re.Match[str]) -> str:
    """ValueError for what is no escape."""
    letter, *numbers, octal = found.groups()
    if letter:
        return _CONTROLS.get(letter, letter)
    for number in numbers:
        if number:
            return chr(int(number, 16))
    if octal:
        return chr(int(octal, 8))
    raise ValueError(found[0])
