"""The containers room: the parts that its verbs share, as one value. Verbs are functions in files of their own.

`Room` is what the composition root makes (`open_room`) and what `engine/http/containers.py` hands to each verb.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sampan.api.docker.networks import EndpointSettings, NetworkSettings
from sampan.containerd.services import Core
from sampan.engine.containers import files, host, links
from sampan.engine.containers.execs import ExecTable
from sampan.engine.containers.live import LiveTable
from sampan.engine.containers.model import Container
from sampan.engine.containers.store import Store
from sampan.engine.networks.records import ContainerNetworking, Plan
from sampan.engine.services import Events, Images, Volumes


class Networks(Protocol):
    """What containers ask of the networks room; see `engine/networks/networks.py` for the meaning."""

    def configure(self, wanted: ContainerNetworking) -> None: ...

    def rename(self, container_id: str, name: str) -> None: ...

    def forget(self, container_id: str) -> None: ...

    def reserve(self, container_id: str) -> Plan: ...

    def attach(self, plan: Plan, netns_fd: int, netns_path: str = "") -> NetworkSettings: ...

    def release(self, container_id: str) -> None: ...

    def settings(self, container_id: str) -> NetworkSettings: ...

    def plan(self, container_id: str) -> Plan | None: ...

    def reconcile(self, live: Sequence[str]) -> None: ...


class Settings(Protocol):
    """The settings that containers read; `engine/settings.py` has them all."""

    @property
    def root(self) -> str: ...

    @property
    def state(self) -> str: ...

    @property
    def experimental(self) -> bool: ...

    @property
    def runtimes(self) -> Mapping[str, str]: ...

    @property
    def default_runtime(self) -> str: ...

    @property
    def cgroup_parent(self) -> str: ...

    @property
    def systemd_cgroup(self) -> bool: ...

    @property
    def default_ulimits(self) -> Sequence[str]: ...

    @property
    def shm_size(self) -> int: ...

    @property
    def init(self) -> bool: ...

    @property
    def log_driver(self) -> str: ...

    @property
    def log_opts(self) -> Mapping[str, str]: ...

    @property
    def dns(self) -> Sequence[str]: ...

    @property
    def dns_search(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Room:
    core: Core
    images: Images
    volumes: Volumes
    networks: Networks
    events: Events
    settings: Settings
    store: Store
    facts: host.HostFacts
    execs: ExecTable
    live: LiveTable = field(default_factory=LiveTable)

    def directory(self, container_id: str) -> str:
        """Where the container's log and its hostname, hosts and resolv.conf files are."""
        return f"{self.settings.root}/containers/{container_id}"

    def bundle(self, container_id: str) -> str:
        return f"{self.settings.state}/bundles/{container_id}"

    def subpaths(self, container_id: str) -> str:
        """Where parts of volumes are mounted while it starts: apart from the bundle, whose files are deleted."""
        return f"{self.settings.state}/subpaths/{container_id}"

    def shm(self, container_id: str) -> str:
        """Where the /dev/shm of a container is mounted that lets others join it."""
        return f"{self.settings.state}/shm/{container_id}"

    def log_path(self, container_id: str) -> str:
        return f"{self.directory(container_id)}/{container_id}-json.log"

    def networks_changed(self, container_id: str, before: Plan, after: Plan) -> None:
        """A running container has joined a network or left one."""
        record, settings = self.store.get(container_id), self.settings
        directory = self.directory(record.id)
        before, after = (links.with_hosts(plan, links.now(self, record)) for plan in (before, after))
        files.follow(directory, before, after, record.host_config, settings.dns, settings.dns_search)

    def publish(self, container: Container, action: str, **attributes: str) -> None:
        """A container event with Docker's attributes: the labels, image, name, and the given ones."""
        actor = {**container.config.labels, "image": container.config.image, "name": container.name, **attributes}
        self.events.publish("container", action, container.id, actor)


class Usage:
    """`engine.services.ContainerUsage` over the record store: what other rooms ask before they remove something."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def using_image(self, image_id: str) -> Sequence[tuple[str, bool]]:
        return [(found.id, found.is_running) for found in self._store.all() if found.image_id == image_id]

    def using_volume(self, name: str) -> Sequence[str]:
        return [found.id for found in self._store.all() if any(mount.name == name for mount in found.mounts)]

    def counts(self) -> Mapping[str, int]:
        statuses = [found.status for found in self._store.all()]
        running = sum(status in ("running", "restarting") for status in statuses)
        paused = statuses.count("paused")
        return {"running": running, "paused": paused, "stopped": len(statuses) - running - paused}


def open_room(
    connection: sqlite3.Connection,
    *,
    core: Core,
    images: Images,
    volumes: Volumes,
    networks: Networks,
    events: Events,
    settings: Settings,
    facts: Callable[[], host.HostFacts] = host.gather,
    store: Store | None = None,
) -> Room:
    """The room over engine.db. Call `reconcile.reconcile(room)` before serving: it takes up what runs already.

    `store` when the caller made it earlier, because other rooms need `Usage(store)` first."""
    return Room(
        core=core,
        images=images,
        volumes=volumes,
        networks=networks,
        events=events,
        settings=settings,
        store=store or Store(connection),
        facts=facts(),
        execs=ExecTable(),
    )


__all__ = ["EndpointSettings", "Networks", "Room", "Settings", "Usage", "open_room"]
