"""An `Engine` of only the rooms that a route file reads, served over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
from aiohttp import web
from tests.unit.engine.http.test_server import serving

from sampan.engine.compose import Engine

Routes = Callable[[Engine], list[web.RouteDef]]


@asynccontextmanager
async def tag(tmp_path: Path, routes: Routes, **rooms: Any) -> AsyncIterator[aiohttp.ClientSession]:
    # A route file reads attributes only, so that a stand-in with those is an engine to it.
    engine = cast(Engine, SimpleNamespace(**rooms))
    async with serving(tmp_path, *routes(engine)) as session:
        yield session
