"""What may be asked of a task in which status, and what becomes of it: one table, and nothing decides beside it.

creating --ready--> created --start--> starting --running--> running <--resume/pause--> paused
    any of them --exit--> stopped --delete--> deleting
"""

from __future__ import annotations

from sampan.errors import Conflict

TRANSITIONS: dict[tuple[str, str], str] = {
    ("creating", "ready"): "created",
    ("creating", "exit"): "stopped",
    ("created", "start"): "starting",
    ("created", "exec"): "created",
    ("created", "attach"): "created",
    ("created", "close_stdin"): "created",
    ("created", "resize"): "created",
    ("created", "kill"): "created",
    ("created", "update"): "created",
    ("created", "stats"): "created",
    ("created", "pids"): "created",
    ("created", "exit"): "stopped",
    ("created", "delete"): "deleting",
    ("starting", "running"): "running",
    ("starting", "attach"): "starting",
    ("starting", "close_stdin"): "starting",
    ("starting", "resize"): "starting",
    ("starting", "kill"): "starting",
    ("starting", "pids"): "starting",
    ("starting", "stats"): "starting",
    ("starting", "exit"): "stopped",
    ("running", "exec"): "running",
    ("running", "attach"): "running",
    ("running", "close_stdin"): "running",
    ("running", "resize"): "running",
    ("running", "kill"): "running",
    ("running", "pause"): "paused",
    ("running", "update"): "running",
    ("running", "checkpoint"): "running",
    ("running", "stats"): "running",
    ("running", "pids"): "running",
    ("running", "exit"): "stopped",
    ("paused", "attach"): "paused",
    ("paused", "close_stdin"): "paused",
    ("paused", "resize"): "paused",
    ("paused", "kill"): "paused",
    ("paused", "resume"): "running",
    ("paused", "update"): "paused",
    ("paused", "checkpoint"): "paused",
    ("paused", "stats"): "paused",
    ("paused", "pids"): "paused",
    ("paused", "exit"): "stopped",
    ("stopped", "close_stdin"): "stopped",
    ("stopped", "delete"): "deleting",
    ("deleting", "exit"): "deleting",
}
"""(status, verb) -> the next status. `ready`, `running` and `exit` are what happens, the others what is asked."""

PUBLIC = {"creating": "created", "starting": "created", "deleting": "stopped"}
"""Statuses between two, as `list` shows them."""


def after(container_id: str, status: str, verb: str) -> str:
    """The status after `verb`. Conflict, naming both, for a pair that is not in the table."""
    following = TRANSITIONS.get((status, verb))
    if following is None:
        raise Conflict(f'cannot {verb} container "{container_id}": it is {PUBLIC.get(status, status)}')
    return following
