"""Events: published with a topic in a containerd namespace, handed to every subscriber in the order of publication.

A subscriber that reads slowly has its own queue and misses nothing. What a payload means is the publisher's:
here it is bytes with a type.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sampan import errors
from sampan.containerd import filters, identifiers
from sampan.containerd.metadata import now


@dataclass(frozen=True, slots=True)
class Event:
    """`type_url` and `value` as in protobuf's Any; `fields` are the payload's, for filters on `event.NAME`.
    `timestamp` in nanoseconds since the epoch."""

    namespace: str
    topic: str
    type_url: str
    value: bytes
    fields: Mapping[str, str] = field(default_factory=dict)
    timestamp: int = 0

    def field(self, path: Sequence[str]) -> str | None:
        if path[0] == "namespace":
            return self.namespace
        if path[0] == "topic":
            return self.topic
        return self.fields.get(".".join(path[1:])) if path[0] == "event" else None


class Exchange:
    """One for the whole core: subscribers may ask for any namespace by a filter."""

    def __init__(self) -> None:
        self._subscribers: dict[asyncio.Queue[Event], filters.Filter] = {}

    def publish(self, event: Event) -> None:
        """InvalidArgument for a topic or namespace that is none."""
        try:
            identifiers.validate(event.namespace)
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument(f"event envelope has invalid namespace: {error}") from error
        validate_topic(event.topic)
        if not event.timestamp:
            event = Event(event.namespace, event.topic, event.type_url, event.value, event.fields, now())
        for queue, wanted in self._subscribers.items():
            if wanted.matches(event.field):
                queue.put_nowait(event)

    def subscribe(self, wanted: Iterable[str]) -> AsyncIterator[Event]:
        """Everything published from now on that one of the filters matches, without end. InvalidArgument."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._subscribers[queue] = filters.parse(wanted)
        return self._follow(queue)

    async def _follow(self, queue: asyncio.Queue[Event]) -> AsyncIterator[Event]:
        try:
            while True:
                yield await queue.get()
        finally:
            self._subscribers.pop(queue, None)


def validate_topic(topic: str) -> None:
    """ "/" and identifiers with "/" between them. InvalidArgument."""
    failed = f'envelope topic "{topic}": '
    if not topic:
        raise errors.InvalidArgument(f"{failed}must not be empty: invalid argument")
    if topic[0] != "/":
        raise errors.InvalidArgument(f"{failed}must start with '/': invalid argument")
    if len(topic) == 1:
        raise errors.InvalidArgument(f"{failed}must have at least one component: invalid argument")
    for component in topic[1:].split("/"):
        try:
            identifiers.validate(component)
        except errors.InvalidArgument as error:
            raise errors.InvalidArgument(f'{failed}failed validation on component "{component}": {error}') from error
