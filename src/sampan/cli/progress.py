"""The progress of a pull or push: a line per layer, redrawn in place on a terminal, one line a step elsewhere."""

from __future__ import annotations

import os
import sys

from sampan.cli.connection import ApiError
from sampan.cli.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO

_BAR = 50


def _detail(detail: dict[str, Any]) -> str:
    current, total = detail.get("current") or 0, detail.get("total") or 0
    if not total:
        return f" {human_size(current)}" if current else ""
    filled = min(_BAR, current * _BAR // total)
    bar = "=" * filled + (">" if filled < _BAR else "") + " " * max(0, _BAR - filled - 1)
    return f" [{bar}]  {human_size(current)}/{human_size(total)}"


class Lines:
    """The block of lines being redrawn: id -> its distance from the top."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.live = os.isatty(out.fileno())
        self.order: list[str] = []
        self.last: dict[str, str] = {}

    def show(self, step: dict[str, Any]) -> None:
        name, status = step.get("id") or "", step.get("status") or ""
        text = f"{name}: {status}" if name else status
        if not self.live:
            # A bar that moves is for terminals alone.
            if not step.get("progressDetail") and self.last.get(name) != status:
                self.out.write(text + "\n")
                self.last[name] = status
            return
        if not name:
            self.order.clear()
            self.out.write(text + "\r\n")
        else:
            self._redraw(name, text + _detail(step.get("progressDetail") or {}))
        self.out.flush()

    def _redraw(self, name: str, text: str) -> None:
        if name not in self.order:
            self.order.append(name)
            self.out.write(f"{text}\r\n")
            return
        up = len(self.order) - self.order.index(name)
        self.out.write(f"\x1b[{up}A\x1b[2K\r{text}\r\x1b[{up}B")


def follow(steps: Iterable[dict[str, Any]], out: TextIO | None = None) -> None:
    """Show the steps as they come. ApiError when the stream reports a failure."""
    lines = Lines(out or sys.stdout)
    for step in steps:
        if "error" in step or "errorDetail" in step:
            raise ApiError(500, (step.get("errorDetail") or {}).get("message") or str(step.get("error")))
        if "status" in step:
            lines.show(step)
        elif "stream" in step:
            lines.out.write(step["stream"])
