"""The steps that run hooks inside the container's namespaces."""

from __future__ import annotations

import os

from sampan.runtime import hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.runtime.steps.situation import Situation


def start_hooks(init: Situation) -> None:
    for index, hook in enumerate(init.hooks.get("startContainer", [])):
        hooks.run(hook, "startContainer", index, init.states["startContainer"], init.env)


def hook(init: Situation, name: str, index: int, hook: dict[str, object]) -> None:
    os.fchdir(init.root)  # where runc, too, has them begin
    hooks.run(hook, name, index, init.states[name], {})
