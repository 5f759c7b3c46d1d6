"""Exec instances: what was asked for and how it went. In memory, as in Docker: they end with their container's task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from sampan.api.docker.containers import ExecCreateRequest
from sampan.errors import NotFound


@dataclass(slots=True)
class Exec:
    """`exit_code` is None until it ended; `pid` 0 until it runs. `ended` is set at its exit."""

    id: str
    container_id: str
    request: ExecCreateRequest
    command: list[str]
    detach_keys: str
    running: bool = False
    started: bool = False
    pid: int = 0
    exit_code: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    ended_at: float = 0.0

    def end(self, exit_code: int | None = None) -> None:
        """It runs no more; the first exit code stays."""
        if self.exit_code is None:
            self.exit_code = exit_code
        self.running, self.pid = False, 0
        self.ended_at = time.monotonic()
        self.ended.set()


KEPT = 300.0
"""Seconds that an ended instance can still be inspected, as in Docker."""


class ExecTable:
    def __init__(self) -> None:
        self._entries: dict[str, Exec] = {}

    def add(self, entry: Exec) -> None:
        bound = time.monotonic() - KEPT
        for old in [found for found in self._entries.values() if found.ended.is_set() and found.ended_at < bound]:
            del self._entries[old.id]
        self._entries[entry.id] = entry

    def get(self, exec_id: str) -> Exec:
        """By id or unique prefix. NotFound `No such exec instance: x`."""
        found = self._entries.get(exec_id)
        if found is None:
            matches = [entry for entry in self._entries.values() if exec_id and entry.id.startswith(exec_id)]
            if len(matches) != 1:
                raise NotFound(f"No such exec instance: {exec_id}")
            found = matches[0]
        return found

    def find(self, exec_id: str) -> Exec | None:
        return self._entries.get(exec_id)

    def of(self, container_id: str) -> Iterator[Exec]:
        return (entry for entry in self._entries.values() if entry.container_id == container_id)

    def drop(self, exec_id: str) -> None:
        self._entries.pop(exec_id, None)

    def forget(self, container_id: str) -> None:
        for entry in list(self.of(container_id)):
            del self._entries[entry.id]
