"""The verb `list`: every container under a state root."""

from __future__ import annotations

import os

from sampan.errors import Error
from sampan.runtime import state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEADER = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")
_MIN_WIDTH, _PADDING = 12, 3


def containers(root: str) -> list[dict[str, Any]]:
    """What `state` says of each, ordered by id; a directory that holds none is passed over."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    found: list[dict[str, Any]] = []
    for name in names:
        try:
            one = state.described(root, state.load(root, name))
        except Error:
            continue
        one["owner"] = owner_name(os.stat(f"{root}/{name}").st_uid)
        found.append(one)
    return found


def owner_name(uid: int) -> str:
    """The user's name, "#UID" when there is none."""
    try:
        with open("/etc/passwd", encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.split(":")
                if len(fields) > 2 and fields[2] == str(uid):
                    return fields[0]
    except OSError:
        pass
    return f"#{uid}"


def table(found: list[dict[str, Any]]) -> str:
    """The containers as columns, as Go's tabwriter lays them out for runc."""
    rows = [_HEADER] + [
        (one["id"], str(one["pid"]), one["status"], one["bundle"], one["created"], one["owner"]) for one in found
    ]
    widths = [max(_MIN_WIDTH, max(len(row[i]) for row in rows) + _PADDING) for i in range(len(_HEADER) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("".join(cells) + row[-1])
    return "".join(f"{line}\n" for line in lines)
