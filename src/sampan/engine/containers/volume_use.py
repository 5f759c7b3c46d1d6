"""Volumes a container begins and ends to use, told as Docker's `volume mount` and `volume unmount` events."""

from __future__ import annotations

from sampan.engine.containers.model import Container
from sampan.engine.containers.room import Room


def begins(room: Room, record: Container) -> None:
    for mount in record.mounts:
        if mount.type == "volume":
            attributes = {
                "driver": mount.driver or "local",
                "container": record.id,
                "destination": mount.destination,
                "read/write": str(mount.rw).lower(),
                "propagation": mount.propagation,
            }
            room.events.publish("volume", "mount", mount.name, attributes)


def ends(room: Room, record: Container) -> None:
    """After the record says that it runs no more: a volume that was mounted for it goes with its last user."""
    for mount in record.mounts:
        if mount.type != "volume":
            continue
        room.events.publish(
            "volume", "unmount", mount.name, {"driver": mount.driver or "local", "container": record.id}
        )
        others = (other for other in room.store.all() if other.id != record.id and other.has_task)
        if not any(used.name == mount.name for other in others for used in other.mounts):
            room.volumes.unmount(mount.name)
