"""The composition root: settings in, a wired `Engine` out. The only module that knows every room.

Rooms are opened in the order of their needs (core, networks, volumes, images, containers) and closed in reverse.
Imports of rooms are inside the functions: route files import this module for the name `Engine` alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sampan.containerd.services import Core
from sampan.engine.settings import Settings

if TYPE_CHECKING:
    from aiohttp import web

    from sampan.engine.events import EventLog
    from sampan.engine.system import System


@dataclass(frozen=True, slots=True)
class Engine:
    """The rooms of one running engine, each by the name its routes use."""

    settings: Settings
    core: Core
    events: EventLog
    images: Any
    volumes: Any
    networks: Any
    containers: Any
    execs: Any
    system: System


# The API's tags in the order of their use, so that hot paths stand first in the router's tables.
TAGS = ("containers", "exec", "streams", "images", "networks", "volumes", "events", "system", "distribution", "auth")


def route_tables(engine: Engine) -> list[list[web.RouteDef]]:
    """One table per tag, from `engine/http/<tag>.py`."""
    tables = []
    for tag in TAGS:
        name = f"sampan.engine.http.{tag}"
        if importlib.util.find_spec(name) and hasattr(importlib.import_module(name), "routes"):
            tables.append(importlib.import_module(name).routes(engine))
    return tables


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[Engine]:
    """Open every room; closes them in reverse. Error with dockerd-like words when one cannot be opened."""
    from sampan.engine.events import EventLog
    from sampan.engine.system import System

    for path, mode in ((settings.root, 0o711), (settings.state, 0o711)):
        os.makedirs(path, mode=mode, exist_ok=True)
    with closing(_open_database(f"{settings.root}/engine.db")):
        events = EventLog()
        empty = _NoContainers()
        system = System(settings, images=empty, containers=empty, events=events, driver="overlayfs")
        yield Engine(settings, None, events, None, None, None, None, None, system)  # type: ignore[arg-type]


class _NoContainers:
    def count(self) -> int:
        return 0

    def counts(self) -> dict[str, int]:
        return {}

    def using_image(self, image_id: str) -> list[tuple[str, bool]]:
        return []

    def using_volume(self, name: str) -> list[str]:
        return []


def _open_database(path: str) -> sqlite3.Connection:
    """engine.db: WAL, so that a commit is one append; NORMAL, since no answer promises more than a crash of ours."""
    connection = sqlite3.connect(path)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = normal")
    connection.execute("pragma foreign_keys = on")
    return connection
