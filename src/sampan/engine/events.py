"""What happened in the engine: published by every room, kept for a while, streamed to whoever listens.

log.publish("container", "start", id, {"name": "web", "image": "busybox"})
with log.subscribe(since=..., filters=...) as subscription:
    for event in subscription.past: ...
    event = await subscription.next()
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping

from sampan.api.docker.system import Actor, Event
from sampan.engine.filters import Filters

HISTORY = 1024
# A listener that does not read for so many events loses the oldest; it must not hold the engine's memory.
BACKLOG = 4096


class Subscription:
    """One listener: what it missed (`past`) and what comes (`next`). A context manager that unsubscribes."""

    def __init__(self, log: EventLog, past: list[Event], filters: Filters) -> None:
        self.past = past
        self._log = log
        self._filters = filters
        self._queue: deque[Event] = deque(maxlen=BACKLOG)
        self._wake = asyncio.Event()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.unsubscribe(self)

    def offer(self, event: Event) -> None:
        if matches(event, self._filters):
            self._queue.append(event)
            self._wake.set()

    async def next(self) -> Event:
        while not self._queue:
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft()


class EventLog:
    """engine.services.Events: a bounded history and its listeners, all on the event loop's thread."""

    def __init__(self) -> None:
        self._history: deque[Event] = deque(maxlen=HISTORY)
        self._listeners: set[Subscription] = set()

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def publish(self, kind: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
        """Record an event of now and hand it to the listeners. Never waits, never fails."""
        moment = time.time_ns()
        legacy = kind in ("container", "image")
        event = Event(
            status=action if legacy else "",
            id=actor_id if legacy else "",
            origin=attributes.get("image", "") if kind == "container" else "",
            Type=kind,
            Action=action,
            Actor=Actor(ID=actor_id, Attributes=dict(attributes)),
            scope="local",
            time=moment // 10**9,
            timeNano=moment,
        )
        self._history.append(event)
        for listener in self._listeners:
            listener.offer(event)

    def subscribe(self, since: int | None, until: int | None, filters: Filters) -> Subscription:
        """Listen from now on; with a bound given, what the history has between them comes first. Nanoseconds."""
        past: list[Event] = []
        if since is not None or until is not None:
            past = [
                event
                for event in self._history
                if (since is None or event.timeNano >= since)
                and (until is None or event.timeNano <= until)
                and matches(event, filters)
            ]
        subscription = Subscription(self, past, filters)
        self._listeners.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._listeners.discard(subscription)


def matches(event: Event, filters: Filters) -> bool:
    """Whether `event` passes (Engine API, SystemEvents): names are matched by prefix, images without their tag too."""
    if not filters:
        return True
    return (
        _action(event, filters)
        and filters.exact("type", event.Type)
        and filters.exact("scope", event.scope)
        and all(_names(event, filters, kind) for kind in ("container", "network", "volume", "daemon", "plugin"))
        and _image(event, filters)
        and filters.labels(event.Actor.Attributes)
    )


def _action(event: Event, filters: Filters) -> bool:
    # "exec_create: sh -c x" and "health_status: healthy" carry their detail in the action.
    return filters.exact("event", event.Action) or (":" in event.Action and filters.prefix("event", event.Action))


def _names(event: Event, filters: Filters, kind: str) -> bool:
    if kind not in filters:
        return True
    if event.Type != kind and kind in event.Actor.Attributes:
        # A network's connect event names its container in an attribute.
        return filters.prefix(kind, event.Actor.Attributes[kind])
    if event.Type != kind:
        return False
    return filters.prefix(kind, event.Actor.ID) or filters.prefix(kind, event.Actor.Attributes.get("name", ""))


def _image(event: Event, filters: Filters) -> bool:
    if "image" not in filters:
        return True
    name = event.Actor.Attributes.get("name" if event.Type == "image" else "image", "")
    identity = event.Actor.ID
    return any(filters.exact("image", text) for text in (identity, name, _untagged(identity), _untagged(name)))


def _untagged(name: str) -> str:
    head, colon, tail = name.rpartition(":")
    return head if colon and "/" not in tail else name
