"""GET /containers/{id}/json."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from sampan.api.docker.containers import State, document
from sampan.api.docker.networks import NetworkSettings
from sampan.engine.containers import links
from sampan.engine.containers.model import Container, mount_point, time_text
from sampan.engine.containers.room import Room
from sampan.engine.logging import drivers
from sampan.errors import Error


def inspect(room: Room, reference: str, size: bool = False) -> dict[str, Any]:
    """The ContainerInspectResponse. NotFound."""
    record = room.store.get(reference)
    config = document(record.config)
    config["Labels"] = dict(record.config.labels)
    found: dict[str, Any] = {
        "Id": record.id,
        "Created": time_text(record.created_at),
        "Path": record.path,
        "Args": record.args,
        "State": state(record),
        "Image": record.image_id,
        "ResolvConfPath": f"{room.directory(record.id)}/resolv.conf" if record.started_at else "",
        "HostnamePath": f"{room.directory(record.id)}/hostname" if record.started_at else "",
        "HostsPath": f"{room.directory(record.id)}/hosts" if record.started_at else "",
        "LogPath": room.log_path(record.id) if drivers.can_read(record.host_config.log_config) else "",
        "Name": f"/{record.name}",
        "RestartCount": record.restart_count,
        "Driver": room.core.snapshots.name,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": sorted(room.live.of(record.id).execs) or None,
        "HostConfig": {**document(record.host_config), "Links": links.shown(room.store, record)},
        "GraphDriver": {"Data": None, "Name": room.core.snapshots.name},
        "Mounts": [_mount(record, number) for number in range(len(record.mounts))],
        "Config": config,
        "NetworkSettings": _network_settings(room, record),
    }
    if size:
        found["SizeRw"], found["SizeRootFs"] = sizes(room, record)
    return found


def _mount(record: Container, number: int) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(mount_point(record.mounts[number]))
    for key in ("Name", "Driver"):
        if not plain[key]:
            del plain[key]
    return plain


def _file_bytes(top: str) -> int:
    """Sizes of the regular files, an inode with several names once."""
    total, seen, pending = 0, set(), [top]
    while pending:
        try:
            entries = os.scandir(pending.pop())
        except OSError:
            continue  # removed while we walk, or deeper than a path can say
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    continue
                if not entry.is_file(follow_symlinks=False):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if status.st_ino not in seen:
                    seen.add(status.st_ino)
                    total += status.st_size
    return total


def without_addresses(settings: NetworkSettings) -> NetworkSettings:
    """What is left when a container has ended, also while its network is still being taken apart."""
    networks = {
        name: msgspec.structs.replace(
            endpoint, endpoint_id="", gateway="", ip_address="", ip_prefix_len=0, mac_address=""
        )
        for name, endpoint in settings.networks.items()
    }
    return NetworkSettings(networks=networks)


def _network_settings(room: Room, record: Container) -> Any:
    try:
        settings = room.networks.settings(record.id)
        return msgspec.to_builtins(settings if record.has_task else without_addresses(settings))
    except Error:
        # A container of an earlier version or one whose network is gone still has the rest to show.
        return {"Networks": {}, "Ports": {}}


def state(record: Container) -> dict[str, Any]:
    """The State document."""
    return document(
        State(
            status=record.status,
            running=record.is_running,
            paused=record.status == "paused",
            restarting=record.status == "restarting",
            oom_killed=record.oom_killed,
            dead=record.status == "dead",
            pid=record.pid,
            exit_code=record.exit_code,
            error=record.error,
            started_at=time_text(record.started_at),
            finished_at=time_text(record.finished_at),
            health=record.health,
        )
    )


def sizes(room: Room, record: Container) -> tuple[int, int]:
    """(bytes of the files in the writable layer, bytes of all layers). Mount points and marks count nothing."""
    snapshots = room.core.snapshots
    try:
        own = _file_bytes(snapshots.upper(record.id))
        total = own
        parent = snapshots.stat(record.id).parent
        while parent:
            total += snapshots.usage(parent).size
            parent = snapshots.stat(parent).parent
    except Error:
        return 0, 0
    return own, total
