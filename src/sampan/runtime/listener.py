"""Handing a seccomp listener to the agent that the spec names. Source: config-linux.md#containerprocessstate."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

from sampan.linux import sockets
from sampan.runtime import document, state
from sampan.runtime.steps.situation import StepFailed, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def hand_over(container: dict[str, Any], pid: int, fd: int) -> None:
    """Send the notification descriptor `fd` of process `pid` to "listenerPath" and close it. Errors: StepFailed."""
    profile = container["spec"]["linux"]["seccomp"]
    path = profile.get("listenerPath", "")
    message = {
        "ociVersion": container["config"]["version"],
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": profile.get("listenerMetadata", ""),
        "state": state.oci_state(container, "creating"),
    }
    if not path:
        os.close(fd)
        raise StepFailed("listenerPath is not set")
    channel = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
    try:
        channel.connect(path)
        sockets.send_with_fds(channel, document.text_of(message).encode(), (fd,))
    except OSError as error:
        raise StepFailed(f'unable to set up seccomp notification to "{path}": {words(error)}') from None
    finally:
        channel.close()
        os.close(fd)
