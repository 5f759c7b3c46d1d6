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

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sampan import errors

Fields = Callable[[Sequence[str]], str | None]
"""The value of a field path of one object, None when it is not present."""

_FIELD = re.compile(r"[A-Za-z0-9_]+")
_OPERATOR = re.compile(r"[=!~]+")
_VALUE = re.compile(r"[^,\s]+")
_QUOTES = '"/|'


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
            self._space()
            if self._at == len(self._text):
                return found
            self._expect(",")

    def _selector(self) -> Selector:
        path = [self._field()]
        while self._peek() == ".":
            self._at += 1
            path.append(self._field())
        self._space()
        if self._peek() in ("", ","):
            return Selector(tuple(path), "", "")
        start = self._at
        operator = self._token(_OPERATOR, 'expected an operator ("=="|"!="|"~=")')
        if operator not in ("==", "!=", "~="):
            self._at = start
            raise self._wrong(f'unsupported operator "{operator}"')
        value = self._value(operator == "~=")
        if operator != "~=":
            return Selector(tuple(path), operator, value)
        try:
            return Selector(tuple(path), operator, value, re.compile(value))
        except (re.error, RecursionError, OverflowError) as error:
            raise self._wrong(f"error parsing regexp: {error}") from error

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
            decoded: str = json.loads(f'"{inner}"')
            return decoded
        except ValueError:
            self._at = start
            raise self._wrong("unquoting failed") from None

    def _token(self, kind: re.Pattern[str], wanted: str) -> str:
        found = kind.match(self._text, self._at)
        if found is None:
            raise self._wrong(wanted)
        self._at = found.end()
        return found[0]

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            raise self._wrong(f'expected "{character}"')
        self._at += 1

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _space(self) -> None:
        while self._peek().isspace():
            self._at += 1

    def _wrong(self, what: str) -> errors.InvalidArgument:
        before, after = self._text[: self._at], self._text[self._at :]
        # Twice the kind: containerd's text, to which its edge adds the kind once more.
        return errors.InvalidArgument(
            f"filters: parse error: [{before} >|{after[:1]}|< {after[1:]}]: {what}: invalid argument: invalid argument"
        )
