"""Legacy links (`--link NAME:ALIAS`) on the default bridge: a line of /etc/hosts and variables for each of them.

The link is found out at create and kept by id, so that it follows renames of both; it is a name too: ALIAS of WEB is
"/WEB/ALIAS". Addresses are those of the moment of the start; when a linked container starts anew, the hosts files of
those who call it follow. On a user-defined network `EndpointSettings.Links` count instead (`networks/resolver.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from sampan.api.docker.containers import HostConfig
from sampan.engine.containers.model import Container, Link
from sampan.engine.containers.store import Store
from sampan.engine.networks.records import Plan
from sampan.errors import Conflict, Error, InvalidArgument, NotFound

if TYPE_CHECKING:
    from sampan.engine.containers.room import Room

_BRIDGE = "bridge"
_WITH_HOST = (
    "conflicting options: host type networking can't be used with links. This would result in undefined behavior"
)


class Linked(NamedTuple):
    """A linked container as it is now: the alias, its record and its address on the default bridge."""

    alias: str
    child: Container
    address: str


def collect(store: Store, host_config: HostConfig) -> list[Link]:
    """HostConfig.Links of a new container, found out; none but on the default bridge. InvalidArgument."""
    mode = host_config.network_mode
    if not host_config.links or (mode not in ("", "default", _BRIDGE, "none", "host") and ":" not in mode):
        return []
    found: dict[str, Link] = {}
    for text in host_config.links:
        name, colon, alias = text.partition(":")
        if ":" in alias or (colon and not alias) or not text:
            raise InvalidArgument(f"bad format for links: {text}")
        try:
            child = store.get(name)
            while child.host_config.network_mode.startswith("container:"):
                child = store.get(child.host_config.network_mode.partition(":")[2])
        except (NotFound, InvalidArgument) as error:
            raise InvalidArgument(f"could not get container for {name}: {error}") from None
        if "host" in (mode, child.host_config.network_mode):
            raise InvalidArgument(_WITH_HOST)
        alias = (alias or name).removeprefix("/")
        found.setdefault(alias, Link(alias=alias, container_id=child.id, name=child.name))
    return list(found.values())


def linked(room: Room, record: Container, plan: Plan) -> list[Linked]:
    """Those that a start on the default bridge needs. Error in Docker's words when one cannot be called."""
    if not any(endpoint.network_name == _BRIDGE for endpoint in plan.endpoints):
        return []
    found = []
    for link in record.links:
        child = room.store.find(link.container_id)
        if child is None or not child.is_running:
            name = child.name if child else link.name
            raise Error(f"Cannot link to a non running container: /{name} AS /{record.name}/{link.alias}")
        address = _address(room, child)
        if not address:
            raise Error(f"Cannot link to /{child.name}, as it does not belong to the default network")
        found.append(Linked(link.alias, child, address))
    return found


def with_hosts(plan: Plan, found: Iterable[Linked]) -> Plan:
    """`plan` with the lines that lead to the linked containers."""
    lines = [(one.address, _called(one)) for one in found]
    return msgspec.structs.replace(plan, hosts=[*lines, *plan.hosts]) if lines else plan


def now(room: Room, record: Container) -> list[Linked]:
    """Those that a running container can call at this moment."""
    return [
        Linked(link.alias, child, address)
        for link in record.links
        if (child := room.store.find(link.container_id)) and child.is_running and (address := _address(room, child))
    ]


def variables(name: str, found: Iterable[Linked]) -> list[str]:
    """Docker's variables, in its order, for the container `name`: ports of each linked container, its variables."""
    text: list[str] = []
    for alias, child, address in found:
        prefix = alias.upper().replace("-", "_")
        ports = _ports(child.config.exposed_ports)
        if ports:
            number, protocol = ports[0]
            text.append(f"{prefix}_PORT={protocol}://{address}:{number}")
        text += _ranges(prefix, address, ports)
        for number, protocol in ports:
            port = f"{prefix}_PORT_{number}_{protocol.upper()}"
            text += [f"{port}={protocol}://{address}:{number}", f"{port}_ADDR={address}", f"{port}_PORT={number}",
                     f"{port}_PROTO={protocol}"]  # fmt: skip
        text.append(f"{prefix}_NAME=/{name}/{alias}")
        text += [
            f"{prefix}_ENV_{entry}"
            for entry in child.config.env
            if "=" in entry and entry.partition("=")[0] not in ("HOME", "PATH")
        ]
    return text


def names(records: Iterable[Container]) -> Mapping[str, list[str]]:
    """The further names of linked containers, as `docker ps` lists them, by id."""
    found: dict[str, list[str]] = {}
    for record in records:
        for link in record.links:
            found.setdefault(link.container_id, []).append(f"/{record.name}/{link.alias}")
    return found


def shown(store: Store, record: Container) -> list[str] | None:
    """HostConfig.Links of an inspect: "/CHILD:/PARENT/ALIAS"."""
    found = []
    for link in record.links:
        child = store.find(link.container_id)
        found.append(f"/{child.name if child else link.name}:/{record.name}/{link.alias}")
    return found or None


def remove(store: Store, reference: str) -> None:
    """`docker rm --link PARENT/ALIAS`. NotFound, Conflict in Docker's words."""
    parent, slash, alias = reference.removeprefix("/").partition("/")
    record = store.get(parent)
    if not slash:
        raise Conflict("Conflict, cannot remove the default link name of the container")
    left = [link for link in record.links if link.alias != alias]
    if len(left) == len(record.links):
        raise NotFound(f"No such container: {reference}")
    store.put(msgspec.structs.replace(record, links=left))


def started(room: Room, child: Container) -> None:
    """`child` runs, perhaps at another address: the hosts files of those that call it follow. OSError."""
    for parent, link in room.store.callers(child.id):
        if parent.is_running and (address := _address(room, child)):
            wanted = " ".join(_called(Linked(link.alias, child, address)))
            path = f"{room.directory(parent.id)}/hosts"
            with open(path, "r+", encoding="utf-8", errors="surrogateescape") as file:
                lines = [
                    f"{address}\t{wanted}\n" if line.rstrip("\n").partition("\t")[2] == wanted else line
                    for line in file
                ]
                # In place: the container has this very file mounted.
                file.seek(0)
                file.writelines(lines)
                file.truncate()


def _called(one: Linked) -> list[str]:
    called = [one.alias, one.child.config.hostname]
    return called if one.alias == one.child.name else [*called, one.child.name]


def _address(room: Room, record: Container) -> str:
    endpoint = room.networks.settings(record.id).networks.get(_BRIDGE)
    return endpoint.ip_address if endpoint else ""


def _ports(exposed: Iterable[str]) -> list[tuple[int, str]]:
    """By number, tcp first."""
    found = [(int(number), protocol or "tcp") for number, _, protocol in (port.partition("/") for port in exposed)]
    return sorted(found, key=lambda port: (port[0], port[1] != "tcp", port[1]))


def _ranges(prefix: str, address: str, ports: Sequence[tuple[int, str]]) -> list[str]:
    """Three or more ports in a row are told by their first and last too."""
    text: list[str] = []
    at = 0
    while at < len(ports):
        last = at
        while last + 1 < len(ports) and ports[last + 1][0] == ports[last][0] + 1:
            last += 1
        if last > at + 1:
            (first, protocol), (end, end_protocol) = ports[at], ports[last]
            port = f"{prefix}_PORT_{first}_{protocol.upper()}"
            text += [
                f"{port}_START={protocol}://{address}:{first}",
                f"{port}_ADDR={address}",
                f"{port}_PROTO={protocol}",
                f"{port}_PORT_START={first}",
                f"{port}_END={end_protocol}://{address}:{end}",
                f"{port}_PORT_END={end}",
            ]
            at = last + 1
        else:
            at += 1
    return text
