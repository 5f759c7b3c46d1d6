"""--device and --privileged: device nodes and cgroup rules. Reads the host's /dev, nothing else."""

from __future__ import annotations

import os
from typing import Any

from sampan.api.docker.containers import DeviceMapping, HostConfig
from sampan.engine.containers.host import device_at, host_devices
from sampan.errors import Error, InvalidArgument


def resolve(host_config: HostConfig) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(runtime-spec `linux.devices`, rules for `linux.resources.devices`). Error, in Docker's words."""
    nodes: dict[str, dict[str, Any]] = {}
    rules: list[dict[str, Any]] = []
    if host_config.privileged:
        for path, kind, major, minor in host_devices():
            nodes[path] = _node(path, path, kind, major, minor)
    for mapping in host_config.devices:
        for source, destination in _expand(mapping):
            device = device_at(source, follow=True)
            if device is None:
                continue
            _, kind, major, minor = device
            nodes[destination] = _node(source, destination, kind, major, minor)
            access = mapping.cgroup_permissions or "rwm"
            rules.append({"allow": True, "type": kind, "major": major, "minor": minor, "access": access})
    return list(nodes.values()), rules


def check(host_config: HostConfig) -> None:
    """InvalidArgument for permissions that are not made of r, w and m."""
    for mapping in host_config.devices:
        if set(mapping.cgroup_permissions) - set("rwm"):
            raise InvalidArgument(f"invalid device mode: {mapping.cgroup_permissions}")
    if host_config.device_requests:
        drivers = [list(names) for request in host_config.device_requests for names in request.capabilities]
        listed = " ".join("[" + " ".join(names) + "]" for names in drivers)
        raise InvalidArgument(f'could not select device driver "" with capabilities: [{listed}]')


def _expand(mapping: DeviceMapping) -> list[tuple[str, str]]:
    """A node, or every node below a directory."""
    source, destination = mapping.path_on_host, mapping.path_in_container or mapping.path_on_host
    if device_at(source, follow=True) is not None:
        return [(source, destination)]
    if not os.path.isdir(source):
        reason = "not a device node" if os.path.exists(source) else "no such file or directory"
        raise Error(f'error gathering device information while adding custom device "{source}": {reason}')
    found = [(path, destination + path[len(source) :]) for path, _, _, _ in host_devices(source.rstrip("/"))]
    if not found:
        raise Error(f'error gathering device information while adding custom device "{source}": not a device node')
    return found


def _node(source: str, destination: str, kind: str, major: int, minor: int) -> dict[str, Any]:
    status = os.stat(source)
    return {
        "path": destination,
        "type": kind,
        "major": major,
        "minor": minor,
        "fileMode": status.st_mode & 0o7777,
        "uid": status.st_uid,
        "gid": status.st_gid,
    }
