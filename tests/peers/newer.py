"""Peers that Debian stable has only in a version that is too old: `scripts/peers` unpacks them from sid.

Each is in a directory of its own, named after its package; what is there is started by its path alone, so that the
machine's own peers stay what they are.
"""

from __future__ import annotations

import os

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "sampan-tests", "newer")


def directory(package: str) -> str:
    """The directory of the package's commands, to go before others in PATH."""
    return f"{CACHE}/{package}/bin"


def environment(*packages: str) -> dict[str, str]:
    """A PATH on which these packages' commands go before the machine's own."""
    return {"PATH": ":".join([*map(directory, packages), os.environ["PATH"]])}


def command(name: str, package: str = "") -> str | None:
    """The path of the command, of the package of its name or of another; None where `scripts/peers` has not run."""
    path = f"{directory(package or name)}/{name}"
    return path if os.access(path, os.X_OK) else None
