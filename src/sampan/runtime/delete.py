"""The verb `delete`: remove what is left of a container."""

from __future__ import annotations

import os

from sampan.errors import Conflict, DataLoss, NotFound
from sampan.runtime import cgroup, document, state
from sampan.runtime.steps.situation import StepFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def delete(root: str, container_id: str, force: bool = False) -> list[str]:
    """Remove a stopped or merely created container; with `force` also a running one, and no error for a missing one
    or one whose state file cannot be read: of that only the directory goes. What poststop hooks failed with.

    Errors: NotFound, Conflict, sampan.errors of the cgroup's removal.
    """
    try:
        found = state.load(root, container_id)
    except NotFound:
        # A directory without a state file is what an interrupted create leaves.
        if os.path.isdir(state.directory(root, container_id)):
            state.remove(root, container_id)
            if not force:
                raise
        if force:
            return []
        raise
    except DataLoss:
        if not force:
            raise
        state.remove(root, container_id)
        return []
    now = state.status(root, found)
    if now in ("running", "paused") and not force:
        raise Conflict(f"cannot delete container {container_id} that is not stopped: {now}")
    if now != "stopped":
        from sampan.runtime.kill import kill_and_wait

        kill_and_wait(found)
    return clean_up(root, found)


def clean_up(root: str, found: dict[str, Any], wait: bool = True) -> list[str]:
    """Kill what remains in its cgroups, remove them and the state directory, run the poststop hooks.

    The texts of hooks that failed: such a one stops nobody, config.md says to tell of it and go on.
    Without `wait` those run on in a process that becomes one more child for the caller to reap.
    """
    paths = found["cgroup_paths"]
    if not state.alive(found):
        cgroup.kill_left(paths)
    cgroup.remove(paths, found["config"].get("cgroups"))
    state.remove(root, found["id"])
    return _run_poststop(found, wait)


def _run_poststop(found: dict[str, Any], wait: bool) -> list[str]:
    wanted = found["spec"].get("hooks", {}).get("poststop", [])
    if not wanted:
        return []
    text = document.text_of(state.oci_state(found, "stopped"))
    if not wait:
        from sampan.runtime import hook_runner

        hook_runner.leave([("poststop", index, hook) for index, hook in enumerate(wanted)], text)
        return []
    from sampan.runtime import hooks

    problems: list[str] = []
    for index, hook in enumerate(wanted):
        try:
            hooks.run(hook, "poststop", index, text, {})
        except StepFailed as failure:
            problems.append(str(failure))
    return problems
