"""Docker's copy-up: what the image has at the mount point fills a volume that is still empty."""

from __future__ import annotations

import os
from collections.abc import Sequence

from sampan.containerd.services import Mount as LayerMount
from sampan.engine.containers import archive, layers
from sampan.engine.containers.model import Container
from sampan.engine.containers.room import Room
from sampan.errors import InvalidArgument


def copy_up(room: Room, record: Container, mounts: Sequence[LayerMount]) -> None:
    """Fill the record's volumes, in a worker thread: it may copy much. OSError, InvalidArgument (a file in the way)."""
    stack = layers.directories(mounts)
    for mount in record.mounts:
        if not mount.copy_up:
            continue
        kind = layers.kind(stack, mount.destination) if stack is not None else "directory"
        if kind == "file" and mount.anonymous:
            raise InvalidArgument(f"cannot mount volume over existing file, file exists {mount.destination}")
        if kind != "directory":
            continue
        with archive.rootfs(mounts) as root:
            source = archive.open_directory(root, mount.destination)
            if source is None:
                continue
            try:
                room.volumes.populate(mount.name, source)
            finally:
                os.close(source)
