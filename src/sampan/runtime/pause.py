"""The verbs `pause` and `resume`: freeze and thaw all of a container's processes."""

from __future__ import annotations

from sampan.errors import Conflict
from sampan.runtime import cgroup, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def pause(root: str, found: dict[str, Any]) -> None:
    """Errors: Conflict unless it is created or running."""
    if state.status(root, found) not in ("created", "running"):
        raise Conflict("container not running")
    cgroup.freeze(found["cgroup_paths"], True)


def resume(root: str, found: dict[str, Any]) -> None:
    """Errors: Conflict unless it is paused."""
    if state.status(root, found) != "paused":
        raise Conflict("container not paused")
    cgroup.freeze(found["cgroup_paths"], False)
