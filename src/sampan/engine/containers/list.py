"""GET /containers/json: Docker's list and all of its filters."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from sampan.api.docker.containers import NetworkSettings, Port, document
from sampan.engine.containers import inspect, links
from sampan.engine.containers.model import Container, mount_point
from sampan.engine.containers.room import Room
from sampan.engine.filters import Filters
from sampan.errors import Error, InvalidArgument, NotFound

FILTERS = frozenset(
    (
        "ancestor",
        "before",
        "exited",
        "expose",
        "health",
        "id",
        "is-task",
        "isolation",
        "label",
        "name",
        "network",
        "publish",
        "since",
        "status",
        "volume",
    )
)

_STATUSES = frozenset(("created", "running", "paused", "restarting", "removing", "exited", "dead"))
_HEALTH = frozenset(("starting", "healthy", "unhealthy", "none"))


def list_containers(
    room: Room, filters: Filters, *, everything: bool = False, limit: int = 0, size: bool = False
) -> list[dict[str, Any]]:
    """ContainerSummary documents, newest first. InvalidArgument; NotFound for the container of before or since."""
    _check(filters)
    records = _window(room, filters)
    linked = links.names(room.store.all())
    shown = []
    for record in records:
        if not _listed(record, filters, everything or bool(limit)):
            continue
        settings = _settings(room, record)
        if _matches(room, record, settings, filters):
            shown.append(_summary(room, record, settings, size))
            if record.id in linked:
                shown[-1]["Names"] = sorted([*shown[-1]["Names"], *linked[record.id]])
            if limit and len(shown) >= limit:
                break
    return shown


def _check(filters: Filters) -> None:
    for value in filters.get("status"):
        if value not in _STATUSES:
            raise InvalidArgument(f"invalid filter 'status={value}'")
    for value in filters.get("health"):
        if value not in _HEALTH:
            raise InvalidArgument(f"Unrecognised filter value for health: {value}")
    for value in filters.get("exited"):
        if not re.fullmatch(r"-?[0-9]+", value):
            raise InvalidArgument(f"invalid filter 'exited={value}': strconv.Atoi: parsing \"{value}\": invalid syntax")
    filters.boolean("is-task")
    for name in ("publish", "expose"):
        for value in filters.get(name):
            _check_ports(name, value)


def _window(room: Room, filters: Filters) -> Sequence[Container]:
    """Those made before and since the given ones."""
    records = room.store.all()
    for value in filters.get("before"):
        bound = room.store.get(value).created_at
        records = [record for record in records if record.created_at < bound]
    for value in filters.get("since"):
        bound = room.store.get(value).created_at
        records = [record for record in records if record.created_at > bound]
    return records


def _listed(record: Container, filters: Filters, everything: bool) -> bool:
    """Only what runs, unless all are asked for or a filter names states of those that do not."""
    if "status" in filters:
        return record.status in filters.get("status")
    return everything or "exited" in filters or record.is_running


def _matches(room: Room, record: Container, settings: NetworkSettings | None, filters: Filters) -> bool:
    name_matches = filters.search("name", record.name) or filters.search("name", f"/{record.name}")
    if not name_matches or not filters.prefix("id", record.id) or not filters.labels(record.config.labels):
        return False
    if "exited" in filters:
        # A container that never ran has no exit code.
        if record.is_running or (not record.started_at and not record.error):
            return False
        if str(record.exit_code) not in filters.get("exited"):
            return False
    if filters.boolean("is-task"):
        return False  # those are swarm's
    if "health" in filters and (record.health.status if record.health else "none") not in filters.get("health"):
        return False
    if "volume" in filters and not _mounts(record, filters.get("volume")):
        return False
    if "ancestor" in filters and not _descends(room, record, filters.get("ancestor")):
        return False
    if "network" in filters and not _joined(settings, filters.get("network")):
        return False
    if "publish" in filters and not _has_port(_published(record, settings), filters.get("publish")):
        return False
    return "expose" not in filters or _has_port(list(record.config.exposed_ports), filters.get("expose"))


def _mounts(record: Container, wanted: Sequence[str]) -> bool:
    return any(value in (mount.name, mount.destination, mount.source) for mount in record.mounts for value in wanted)


def _descends(room: Room, record: Container, wanted: Sequence[str]) -> bool:
    for value in wanted:
        if record.config.image == value:
            return True
        try:
            image = room.images.resolve(value)
        except (NotFound, InvalidArgument):
            continue
        if image.id == record.image_id or _stands_on(room, record.parent, image.parent):
            return True
    return False


def _stands_on(room: Room, snapshot: str, ancestor: str) -> bool:
    """Whether `ancestor` is in the chain of `snapshot`."""
    try:
        while snapshot and ancestor:
            if snapshot == ancestor:
                return True
            snapshot = room.core.snapshots.stat(snapshot).parent
    except NotFound:
        return False
    return False


def _joined(settings: NetworkSettings | None, wanted: Sequence[str]) -> bool:
    if settings is None:
        return False
    return any(
        value == name or (endpoint.network_id and endpoint.network_id.startswith(value))
        for name, endpoint in settings.networks.items()
        for value in wanted
    )


def _check_ports(name: str, value: str) -> None:
    first, _, last = value.partition("/")[0].partition("-")
    for part in (first, last or first):
        if not part.isdigit():
            raise InvalidArgument(
                f'error while looking up for {name} {value}: strconv.ParseUint: parsing "{part}": invalid syntax'
            )


def _has_port(ports: Sequence[str], wanted: Sequence[str]) -> bool:
    """`wanted`: "80", "80/tcp", "8000-8010/udp"."""
    for value in wanted:
        numbers, _, protocol = value.partition("/")
        first, _, last = numbers.partition("-")
        for port in ports:
            number, _, kind = port.partition("/")
            if kind == (protocol or "tcp") and int(first) <= int(number.partition("-")[0]) <= int(last or first):
                return True
    return False


def _published(record: Container, settings: NetworkSettings | None) -> list[str]:
    """Published container ports, and the host's ports they are published on: Docker's filter takes either."""
    found = list(record.host_config.port_bindings)
    for port, bindings in (settings.ports if settings else {}).items():
        if bindings:
            found.append(port)
            found += [f"{binding.host_port}/{port.partition('/')[2]}" for binding in bindings]
    return found


def _settings(room: Room, record: Container) -> NetworkSettings | None:
    try:
        settings = room.networks.settings(record.id)
        return settings if record.has_task else inspect.without_addresses(settings)
    except Error:
        # The list must not fail because one container's network is gone.
        return None


def _summary(room: Room, record: Container, settings: NetworkSettings | None, size: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Id": record.id,
        "Names": [f"/{record.name}"],
        "Image": record.config.image,
        "ImageID": record.image_id,
        "Command": command(record),
        "Created": record.created_at // 10**9,
        "Ports": [msgspec.to_builtins(port) for port in _ports(settings)],
        "Labels": dict(record.config.labels),
        "State": record.status,
        "Status": status_text(record),
        "HostConfig": {"NetworkMode": record.host_config.network_mode},
        "NetworkSettings": {
            "Networks": {name: msgspec.to_builtins(e) for name, e in (settings.networks if settings else {}).items()}
        },
        "Mounts": [document(mount_point(mount)) for mount in record.mounts],
    }
    if size:
        found["SizeRw"], found["SizeRootFs"] = inspect.sizes(room, record)
    return found


def command(record: Container) -> str:
    """As `docker ps` shows it: words that need it are quoted."""
    words = [record.path, *(f"'{word}'" if " " in word else word for word in record.args)]
    return " ".join(words)


def _ports(settings: NetworkSettings | None) -> list[Port]:
    found = []
    for name, bindings in (settings.ports if settings else {}).items():
        number, _, protocol = name.partition("/")
        if not bindings:
            found.append(Port(private_port=int(number), type=protocol))
            continue
        for binding in bindings:
            found.append(
                Port(
                    ip=binding.host_ip,
                    private_port=int(number),
                    public_port=int(binding.host_port or 0),
                    type=protocol,
                )
            )
    return found


def status_text(record: Container, now: int | None = None) -> str:
    """ "Up 5 minutes (healthy)", "Exited (0) 2 hours ago": Docker's Status column."""
    now = time.time_ns() if now is None else now
    if record.status in ("running", "paused"):
        text = f"Up {duration(now - record.started_at)}"
        if record.status == "paused":
            return f"{text} (Paused)"
        if record.health is not None:
            status = record.health.status
            return f"{text} ({'health: starting' if status == 'starting' else status})"
        return text
    if record.status == "restarting":
        return f"Restarting ({record.exit_code}) {duration(now - record.finished_at)} ago"
    if record.status == "removing":
        return "Removal In Progress"
    if record.status == "dead":
        return "Dead"
    if not record.started_at:
        return "Created"
    return f"Exited ({record.exit_code}) {duration(now - record.finished_at)} ago"


# (below so many seconds, seconds of the unit, words): Docker's go-units HumanDuration.
_HOUR, _DAY = 3600, 86400


def duration(nanoseconds: int) -> str:
    """ "Less than a second", "About a minute", "3 weeks", ..."""
    seconds = max(0, nanoseconds) // 10**9
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    minutes = seconds // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = (seconds + _HOUR // 2) // _HOUR
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"
