"""The client's half of the keeper's protocol as bytes: calls to packets, packets to answers and events. No I/O."""

from __future__ import annotations

import json

from sampan import errors
from sampan.api.keeper import messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Answer:
    """What came back for call `number`: `error`, or `result` (whole: parts are already joined)."""

    __slots__ = ("error", "number", "result")

    def __init__(self, number: int, result: dict[str, Any], error: Exception | None) -> None:
        self.number = number
        self.result = result
        self.error = error


class Event:
    """What the keeper tells unasked: `name` exit or oom, `fields` as in the table of events."""

    __slots__ = ("fields", "name")

    def __init__(self, name: str, fields: dict[str, Any]) -> None:
        self.name = name
        self.fields = fields


class Codec:
    """One connection's numbering of calls and joining of answers."""

    def __init__(self) -> None:
        self._last = 0
        self._parts: dict[int, dict[str, Any]] = {}

    def call(self, name: str, **fields: Any) -> tuple[int, bytes]:
        """(number, packet). InvalidArgument when the packet would be too large."""
        self._last += 1
        packet = json.dumps({"id": self._last, "call": name, **fields}, separators=(",", ":")).encode()
        if len(packet) > messages.MAX_PACKET:
            raise errors.InvalidArgument(f'call "{name}" is larger than {messages.MAX_PACKET} bytes')
        return self._last, packet

    def read(self, packet: bytes) -> Answer | Event | None:
        """What a packet means; None for a part of an answer. ValueError for what no keeper sends."""
        message = json.loads(packet)
        if not isinstance(message, dict):
            raise ValueError("not an object")
        if "event" in message:
            return Event(str(message.pop("event")), message)
        number = message.get("id")
        if not isinstance(number, int):
            raise ValueError(f"no call was answered: {message.get('error')}")
        if "error" in message:
            self._parts.pop(number, None)
            return Answer(number, {}, failure(message["error"]))
        result = message["ok"]
        if not isinstance(result, dict):
            raise ValueError("answer is not an object")
        before = self._parts.pop(number, None)
        if before is not None:
            result = join(before, result)
        if result.pop("more", False):
            self._parts[number] = result
            return None
        return Answer(number, result, None)


def join(before: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Two parts of an answer: lists one after the other, the rest from either."""
    joined = dict(before)
    for key, value in part.items():
        if isinstance(value, list) and isinstance(joined.get(key), list):
            joined[key] = joined[key] + value
        else:
            joined[key] = value
    return joined


def failure(error: dict[str, Any]) -> errors.Error:
    """The kind of `sampan.errors` that the keeper named, with its text."""
    kind = getattr(errors, str(error.get("kind")), None)
    if not (isinstance(kind, type) and issubclass(kind, errors.Error)):
        kind = errors.Error
    return kind(str(error.get("message", "")))
