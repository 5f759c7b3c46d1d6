"""The composition root: settings in, a wired `Engine` out. The only module that knows every room.

Rooms are opened in the order of their needs (core, networks, volumes, images, containers) and closed in reverse.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web

from sampan.containerd.services import Core
from sampan.engine.settings import Settings

if TYPE_CHECKING:
    from sampan.engine.events import EventLog
    from sampan.engine.images.store import ImageStore
    from sampan.engine.system import System
    from sampan.engine.volumes.local import LocalVolumes


@dataclass(frozen=True, slots=True)
class Engine:
    """The rooms of one running engine, each by the name its routes use."""

    settings: Settings
    core: Core
    events: EventLog
    images: ImageStore
    volumes: LocalVolumes
    networks: Any
    containers: Any
    execs: Any
    system: System
