"""GET /events (Engine API 1.51, SystemEvents): one JSON object an event, as long as the client listens."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from sampan.engine.compose import Engine
from sampan.engine.events import Subscription
from sampan.engine.filters import Filters
from sampan.engine.http.messages import JsonStream
from sampan.engine.timestamps import from_query
from sampan.errors import InvalidArgument


def routes(engine: Engine) -> list[web.RouteDef]:
    async def events(request: web.Request) -> web.StreamResponse:
        since, until = from_query(request.query.get("since")), from_query(request.query.get("until"))
        if since is not None and until is not None and since > until:
            raise InvalidArgument(
                f"`since` time ({request.query['since']}) cannot be after `until` time ({request.query['until']})"
            )
        filters = Filters.parse(request.query.get("filters"))
        stream = JsonStream(request, end=b"\n")
        with engine.events.subscribe(since, until, filters) as subscription:
            # The client waits for the headers before it acts on what it wants to hear about.
            await stream.open()
            for event in subscription.past:
                stream.put(event)
            await stream.drain()
            await _follow(stream, subscription, until)
        return await stream.close()

    return [web.get("/events", events, allow_head=False)]


async def _follow(stream: JsonStream, subscription: Subscription, until: int | None) -> None:
    if until is None:
        while True:
            stream.put(await subscription.next())
            await stream.drain()
    rest = until / 1e9 - time.time()
    if rest <= 0:
        return
    try:
        async with asyncio.timeout(rest):
            await _follow(stream, subscription, None)
    except TimeoutError:
        pass  # the time that the client asked for is over
