"""Whether mounts may travel between a bind's source and the container: only where the host's own mount lets them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sampan.errors import Error
from sampan.linux import mountinfo
from sampan.linux.mountinfo import Mount


def check(source: str, propagation: str) -> None:
    """Error in dockerd's words when `propagation` ("rshared", "slave", ...) asks for more than the source's mount has.

    mount_namespaces(7), SHARED SUBTREES. OSError is never raised: a mount table that cannot be read refuses nothing."""
    wanted = propagation.removeprefix("r")
    if wanted in ("shared", "slave"):
        try:
            mounts = mountinfo.read()
        except (OSError, ValueError):
            return
        refuse(os.path.realpath(source), wanted, mounts)


def refuse(path: str, wanted: str, mounts: Sequence[Mount]) -> None:
    """`check` on a mount table. Pure."""
    holding = _holding(path, mounts)
    marks = {mark.partition(":")[0] for mark in holding.propagation} if holding else set()
    allowed = {"shared": {"shared"}, "slave": {"shared", "master"}}[wanted]
    if holding and not marks & allowed:
        what = "shared" if wanted == "shared" else "shared or slave"
        raise Error(f"path {path} is mounted on {holding.mount_point} but it is not a {what} mount")


def _holding(path: str, mounts: Sequence[Mount]) -> Mount | None:
    """The mount that `path` is on: the deepest mount point, the last one mounted there."""
    found: Mount | None = None
    for mount in mounts:
        point = mount.mount_point.rstrip("/") + "/"
        if (path + "/").startswith(point) and (found is None or len(mount.mount_point) >= len(found.mount_point)):
            found = mount
    return found
