"""How a request's JSON becomes a document: as Go's encoding/json reads it, which is what clients are written against.

A key counts in any case ("image" is Image), an unknown key is nobody's, a `null` leaves a field at its zero value, and
what is wrong is said in Go's words. The document types (msgspec structs) say the rest.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from sampan.wire import gojson

T = TypeVar("T", bound=msgspec.Struct)
Shaping = Callable[[Any], Any]

_PLACE = re.compile(r"Expected `([a-z]+)[^`]*`, got `([a-z]+)`(?: - at `\$\.?(.*)`)?$")
_GO_TYPES = {"str": "string", "int": "int64", "array": "[]string", "object": "map[string]string", "float": "float64"}
_GO_KINDS = {"str": "string", "int": "number", "float": "number"}


def parse(data: bytes, kind: type[T]) -> T:
    """The JSON body `data` as the document `kind`; nothing and null are an empty document.

    msgspec.DecodeError with the text that follows "invalid JSON: " in Docker's answer, or, for something behind the
    document, TrailingContent."""
    try:
        plain = msgspec.json.decode(data or b"{}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        plain = _decoded_slowly(data)
    try:
        return msgspec.convert(_shaping(kind)({} if plain is None else plain), kind, strict=True)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(_in_words_of_go(str(error), kind)) from None


class TrailingContent(msgspec.DecodeError):
    """More than one JSON value."""


def _decoded_slowly(data: bytes) -> Any:
    """What msgspec did not take, either because it is no JSON or because Go is more generous with invalid UTF-8."""
    try:
        end = gojson.end_of_value(data)
    except gojson.SyntaxProblem as error:
        text = "got EOF while reading request body" if str(error) == "EOF" else str(error)
        raise msgspec.DecodeError(text) from None
    # Go asks its decoder for more, and a closing bracket is no more.
    if data[end:].lstrip(b" \t\r\n")[:1] not in (b"", b"]", b"}"):
        raise TrailingContent("unexpected content after JSON")
    try:
        return msgspec.json.decode(data[:end].decode(errors="replace"))
    except RecursionError:
        raise msgspec.DecodeError("exceeded max depth") from None


def _in_words_of_go(text: str, kind: type) -> str:
    """ "Expected `int`, got `str` - at `$.Memory`" as Go's UnmarshalTypeError; other complaints as they are."""
    found = _PLACE.match(text)
    if found is None:
        return text
    wanted, got, place = found.groups()
    field = re.sub(r"\[[^]]*\]", "", place or "")
    into = f"Go struct field {kind.__name__}.{field} of type {_GO_TYPES.get(wanted, wanted)}"
    if not field:
        into = f"Go value of type {kind.__name__}"
    return f"json: cannot unmarshal {_GO_KINDS.get(got, got)} into {into}"


@functools.cache
def _shaping(kind: type[Any]) -> Shaping:
    return _shape(inspect.type_info(kind)) or (lambda value: value)


def _shape(kind: inspect.Type) -> Shaping | None:
    """What makes a decoded value one that msgspec takes as `kind`; None when any decoded value is as good as it is."""
    if isinstance(kind, inspect.StructType):
        return _struct({field.encode_name: _shape(field.type) for field in kind.fields})
    if isinstance(kind, inspect.DictType):
        return _map(_shape(kind.value_type), _zero(kind.value_type))
    if isinstance(kind, inspect.ListType):
        return _list(_shape(kind.item_type))
    if isinstance(kind, inspect.UnionType):
        return next((shaping for member in kind.types if (shaping := _shape(member)) is not None), None)
    return None


def _zero(kind: inspect.Type) -> Any:
    """What a null in a map means."""
    if isinstance(kind, inspect.StructType | inspect.DictType):
        return {}
    if isinstance(kind, inspect.ListType):
        return []
    return "" if isinstance(kind, inspect.StrType) else None


def _struct(fields: dict[str, Shaping | None]) -> Shaping:
    spelled = {name.lower(): name for name in fields}

    def shaped(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        found = {}
        for key, item in value.items():
            name = key if key in fields else spelled.get(key.lower())
            if name is not None and item is not None:
                shape = fields[name]
                found[name] = item if shape is None else shape(item)
        return found

    return shaped


def _map(shape: Shaping | None, zero: Any) -> Shaping:
    def shaped(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: zero if item is None else shape(item) if shape else item for key, item in value.items()}

    return shaped


def _list(shape: Shaping | None) -> Shaping:
    def shaped(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [shape(item) if shape else item for item in value if item is not None]

    return shaped
