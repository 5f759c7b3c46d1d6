"""The new process: it performs the steps of its plan, one after another, and becomes the container's program.

What must hold from the first step on: one thread; nothing is imported, for the next import would search the
container's files; no Python object of the parent is torn down, for the descriptors behind it may be other ones by now.
So `main` never returns and never unwinds: it ends in execve or in os._exit.
"""

from __future__ import annotations

import os
import sys
from _signal import set_wakeup_fd  # type: ignore[import-not-found]

from sampan.linux import fds
from sampan.runtime import handshake
from sampan.runtime.plan import READY
from sampan.runtime.steps.situation import Situation, StepFailed, detailed

_MAKING, _FINISHING, _PROCEEDING = range(3)
"""Where a step fails decides how runc words it: while the container is made, while the process is made out of init
(from the step in _PHASES on), and when nobody waits for an answer any more."""
_PHASES = {"close_descriptors": _FINISHING}

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from sampan.runtime.plan.step import Step
    from sampan.runtime.steps.table import Perform


def main(steps: list[Step], perform: dict[str, Perform], init: Situation, keep: list[int]) -> NoReturn:
    """Perform `steps` by the functions of `steps.table.resolve`; `keep` are descriptors to leave open."""
    phase = _MAKING
    cause = ""
    try:
        close_the_door()
        _own_descriptors(init, keep)
        for step in steps:
            cause = step.cause
            phase = _PHASES.get(step.do, phase)
            # Not once all is ready: the filter may forbid it, and nobody listens.
            if init.narrate and phase != _PROCEEDING:
                handshake.send(init.channel, handshake.STEP, str(step))
            perform[step.do](init, **step.with_)
            if step.do == READY:
                phase = _PROCEEDING
    except StepFailed as failure:
        _fail(init, phase, failure.kind, str(failure), cause)
    except OSError as error:
        _fail(init, phase, "Error", detailed(error), cause)
    except BaseException as error:
        _fail(init, phase, "Error", f"{type(error).__name__}: {error}", cause)
    os._exit(1)


def close_the_door() -> None:
    """From here on nothing can be imported: there is nowhere to look and nobody to look."""
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()


def _own_descriptors(init: Situation, keep: list[int]) -> None:
    """Close what belongs to the parent's other containers and put the standard streams in place."""
    set_wakeup_fd(-1)  # a keeper's, whose number is soon another file's
    fds.close_all_except([0, 1, 2, *keep, *(init.stdio or ())])
    if init.stdio is None:
        return
    # A stream's own number may be the place of another, so each is first moved out of 0..2.
    moved = []
    for fd in init.stdio:
        while fd < 3:
            fd = os.dup(fd)
        moved.append(fd)
    for number, fd in enumerate(moved):
        os.dup2(fd, number, inheritable=True)
    for fd in set(moved):
        os.close(fd)


def _fail(init: Situation, phase: int, kind: str, text: str, cause: str) -> NoReturn:
    if phase == _PROCEEDING:
        os.write(2, f"{text}\n".encode("utf-8", "surrogateescape"))
        os._exit(1)
    if phase == _MAKING:
        text = f"error during container init: {text}"
        # runc does not say which field of the spec it was; behind its own text that harms no reader of it.
        text += f" [{cause}]" if cause.endswith("]") else ""
    try:
        handshake.send(init.channel, handshake.FAILED, f"{kind}\0unable to start container process: {text}")
    except OSError:
        pass  # the parent has gone
    os._exit(1)
