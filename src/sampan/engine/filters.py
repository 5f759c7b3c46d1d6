"""The `filters` query parameter of the list, prune and events calls (Engine API, every version).

Two shapes are accepted: {"name": ["value", ...]} and, from API 1.22 on, {"name": {"value": true}}.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec.json

from sampan.engine import timestamps
from sampan.errors import InvalidArgument


class Filters:
    """Parsed filters: name to its values. Values of one name are alternatives; names must all match."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, Iterable[str]] | None = None) -> None:
        self._fields: dict[str, tuple[str, ...]] = {
            name: tuple(dict.fromkeys(values)) for name, values in (fields or {}).items()
        }

    @classmethod
    def parse(cls, text: str | None, accepted: Iterable[str] | None = None) -> Filters:
        """From the query parameter's text ("" and None: no filter).

        InvalidArgument `invalid filter` for malformed text, `invalid filter 'NAME'` for one not in `accepted`."""
        if not text:
            return cls()
        try:
            document = msgspec.json.decode(text)
        except msgspec.DecodeError:
            raise InvalidArgument("invalid filter") from None
        if document is None:
            return cls()
        if not isinstance(document, dict):
            raise InvalidArgument("invalid filter")
        found = cls({name: _values(value) for name, value in document.items()})
        if accepted is not None:
            known = frozenset(accepted)
            for name in found._fields:
                if name not in known:
                    raise InvalidArgument(f"invalid filter '{name}'")
        return found

    def __bool__(self) -> bool:
        return any(self._fields.values())

    def __contains__(self, name: str) -> bool:
        return bool(self._fields.get(name))

    def fields(self) -> dict[str, tuple[str, ...]]:
        """A copy of all of them."""
        return dict(self._fields)

    def get(self, name: str) -> tuple[str, ...]:
        return self._fields.get(name, ())

    def boolean(self, name: str, default: bool = False) -> bool:
        """A single true/false filter (dangling). InvalidArgument `invalid filter 'NAME=[...]'`."""
        values = self.get(name)
        if not values:
            return default
        if set(values) <= {"1", "true"}:
            return True
        if set(values) <= {"0", "false"}:
            return False
        raise InvalidArgument(f"invalid filter '{name}=[{' '.join(values)}]'")

    def until(self) -> int | None:
        """The `until` of a prune in nanoseconds since the epoch, None without. InvalidArgument for two, or no time."""
        values = self.get("until")
        if len(values) > 1:
            raise InvalidArgument("more than one until filter specified")
        return timestamps.from_query(values[0]) if values else None

    def exact(self, name: str, source: str) -> bool:
        """No such filter, or one value equals `source`."""
        values = self.get(name)
        return not values or source in values

    def prefix(self, name: str, source: str) -> bool:
        """No such filter, or `source` begins with one value."""
        values = self.get(name)
        return not values or source.startswith(values)

    def search(self, name: str, source: str) -> bool:
        """No such filter, or one value, as a regular expression, is found in `source` (Docker's name filters)."""
        values = self.get(name)
        return not values or source in values or any(_found(value, source) for value in values)

    def labels(self, labels: Mapping[str, str] | None, name: str = "label") -> bool:
        """Every value (KEY or KEY=VALUE) holds for `labels`; no such filter holds."""
        return all(_label_holds(value, labels or {}) for value in self.get(name))

    def without_labels(self, labels: Mapping[str, str] | None) -> bool:
        """False when a `label!` value (prune) holds for `labels`."""
        return not any(_label_holds(value, labels or {}) for value in self.get("label!"))


def _values(value: Any) -> list[str]:
    if isinstance(value, dict) and all(isinstance(wanted, bool) for wanted in value.values()):
        # Docker's sets count every key, one that is said to be false too.
        return list(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise InvalidArgument("invalid filter")


def _found(pattern: str, source: str) -> bool:
    try:
        return re.search(pattern, source) is not None
    except re.error:
        return False


def _label_holds(wanted: str, labels: Mapping[str, str]) -> bool:
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)
