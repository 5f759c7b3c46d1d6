"""The init that --init puts before the command: found on the host, bound over /sbin/docker-init.

docs/decisions/init.md says why it is a binary of its own and not our interpreter.
"""

from __future__ import annotations

import shutil

from sampan.errors import Error

# tini under the names that Debian, Docker and others give it; the static one works in every image.
_NAMES = ("tini-static", "docker-init", "tini")


def path(state: str, machine: str) -> str:
    """The host's path of an init that speaks tini's command line. Error in Docker's words when there is none."""
    for name in _NAMES:
        found = shutil.which(name)
        if found:
            return found
    raise Error('exec: "docker-init": executable file not found in $PATH')
