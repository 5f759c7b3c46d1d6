"""The composition root: settings in, a wired `Engine` out. The only module that knows every room.

Rooms are opened in the order of their needs (tasks, core, networks, volumes, images, containers) and closed in
reverse. Imports of rooms are inside the functions: route files import this module for the name `Engine` alone.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sampan.containerd.metadata import private_directory, private_file
from sampan.containerd.services import Core, Registries
from sampan.engine.settings import Settings

if TYPE_CHECKING:
    from aiohttp import web

    from sampan.containerd.core import ContainerCore
    from sampan.containerd.remotes.hosts import RegistrySettings
    from sampan.engine.containers.room import Room, Usage
    from sampan.engine.events import EventLog
    from sampan.engine.images.archives import Archives
    from sampan.engine.images.catalog import Catalog
    from sampan.engine.images.commits import Commits
    from sampan.engine.images.remove import Removal
    from sampan.engine.images.transfer import Transfers
    from sampan.engine.networks.networks import Networks
    from sampan.engine.system import System
    from sampan.engine.volumes.local import LocalVolumes

log = logging.getLogger("sampan")


@dataclass(frozen=True, slots=True)
class Engine:
    """The rooms of one running engine, each by the name its routes use."""

    settings: Settings
    core: Core
    events: EventLog
    images: Catalog
    removal: Removal
    transfers: Transfers
    archives: Archives
    commits: Commits
    registries: Registries
    volumes: LocalVolumes
    networks: Networks
    containers: Room
    system: System

    @property
    def execs(self) -> Any:
        return self.containers.execs


def route_tables(engine: Engine) -> list[list[web.RouteDef]]:
    """One table per tag; within a first path component the router searches them in this order."""
    from sampan.engine.http import (
        auth,
        checkpoints,
        container_streams,
        containers,
        distribution,
        events,
        exec,
        images,
        networks,
        system,
        unoffered,
        volumes,
    )

    tags = (
        checkpoints,
        containers,
        container_streams,
        exec,
        images,
        networks,
        volumes,
        events,
        system,
        distribution,
        auth,
        unoffered,
    )
    return [tag.routes(engine) for tag in tags]


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[Engine]:
    """Open every room; closes them in reverse. Error when one cannot be opened, after undoing what was."""
    from sampan.engine.containers.reconcile import reconcile
    from sampan.engine.events import EventLog

    async with AsyncExitStack() as opened:
        os.makedirs(settings.state, mode=0o711, exist_ok=True)
        private_directory(settings.root)
        connection = _open_database(f"{settings.root}/engine.db")
        opened.callback(connection.close)
        core, degraded = await _open_core(settings, opened)
        events = EventLog()
        networks = _open_networks(settings, connection, events)
        opened.callback(networks.close)
        engine = _assemble(settings, connection, core, degraded, events, networks)
        await reconcile(engine.containers)
        if settings.containerd_address:
            # Imported only where it is wanted: gRPC costs the start of every other sampand a quarter of a second.
            from sampan.containerd.grpc.serving import serve_grpc

            api = await serve_grpc(core, settings.containerd_address, state=settings.state)
            opened.push_async_callback(api.close)
        opened.push_async_callback(_leave, engine.containers, settings)
        yield engine


def _assemble(
    settings: Settings,
    connection: sqlite3.Connection,
    core: Core,
    degraded: tuple[str, ...],
    events: EventLog,
    networks: Networks,
) -> Engine:
    """The rooms that only read what is open already; the containers' store first, since the others ask it for users."""
    from sampan.containerd.remotes.survey import RegistrySurvey
    from sampan.engine import disk_usage
    from sampan.engine.containers.room import Usage, open_room
    from sampan.engine.containers.store import Store
    from sampan.engine.images.catalog import Catalog
    from sampan.engine.machine import lacking
    from sampan.engine.system import System
    from sampan.engine.volumes.local import LocalVolumes

    store = Store(connection)
    usage = Usage(store)
    volumes = LocalVolumes(connection, settings.root, events=events, usage=usage)
    images = Catalog(core.images, core.content, core.snapshots)
    room = open_room(
        connection,
        core=core,
        images=images,
        volumes=volumes,
        networks=networks,
        events=events,
        settings=settings,
        store=store,
    )
    system = System(
        settings,
        images=images,
        containers=usage,
        events=events,
        driver=core.snapshots.name,
        degraded=(*degraded, *lacking(room.facts.capabilities), *_unfenced(settings, networks)),
        fenced=not networks.unfenced,
        disk=disk_usage.sources(images, room, volumes, usage),
    )
    return Engine(
        settings=settings,
        core=core,
        events=events,
        images=images,
        registries=RegistrySurvey(_registry_settings(settings)),
        volumes=volumes,
        networks=networks,
        containers=room,
        system=system,
        **_image_verbs(core, images, usage, events),
    )


def _image_verbs(core: Core, images: Catalog, usage: Usage, events: EventLog) -> dict[str, Any]:
    """What changes the catalogue, by the engine's names."""
    from sampan.engine.images.archives import Archives
    from sampan.engine.images.commits import Commits
    from sampan.engine.images.remove import Removal
    from sampan.engine.images.transfer import Transfers

    return {
        "removal": Removal(images, core.images, usage, events),
        "transfers": Transfers(images, core.transfer, events),
        "archives": Archives(images, core.transfer, events),
        "commits": Commits(images, core.commits, events),
    }


def _unfenced(settings: Settings, networks: Networks) -> list[str]:
    """A warning where the firewall was wanted and is not to be had."""
    return [f"nftables: {networks.unfenced}"] if networks.unfenced and settings.iptables else []


async def _leave(room: Room, settings: Settings) -> None:
    """Before the rooms close: containers are stopped if that was asked for, teardowns under way come to their end."""
    from sampan.engine.containers.stop import stop

    if not settings.live_restore:
        running = [record.id for record in room.store.all() if record.is_running]
        stops = (stop(room, container_id) for container_id in running)
        try:
            async with asyncio.timeout(settings.shutdown_timeout):
                for result in await asyncio.gather(*stops, return_exceptions=True):
                    if isinstance(result, Exception):
                        log.warning("stopping a container: %s", result)
        except TimeoutError:
            log.warning("containers did not stop within %d seconds", settings.shutdown_timeout)
    await room.live.settle()


async def _open_core(settings: Settings, opened: AsyncExitStack) -> tuple[ContainerCore, tuple[str, ...]]:
    """Tasks first: the core is handed them, and outlives them at the end."""
    from sampan.containerd.core import open_core
    from sampan.containerd.tasks import KeeperTasks

    tasks = KeeperTasks(settings.state)
    opened.push_async_callback(tasks.close)
    await tasks.open()
    registries = _registry_settings(settings)
    core = await open_core(settings.root, tasks=tasks, registries=registries, snapshotter=settings.storage_driver)
    opened.push_async_callback(core.close)
    return core, core.degraded


def _registry_settings(settings: Settings) -> RegistrySettings:
    from sampan.containerd.remotes.hosts import HOSTS_DIRECTORIES, RegistrySettings

    return RegistrySettings(
        insecure=settings.insecure_registries,
        mirrors=settings.registry_mirrors,
        hosts_directories=settings.registry_hosts_dirs or HOSTS_DIRECTORIES,
        max_attempts=settings.max_download_attempts,
        max_concurrent_downloads=settings.max_concurrent_downloads,
        max_concurrent_uploads=settings.max_concurrent_uploads,
    )


def _open_networks(settings: Settings, connection: sqlite3.Connection, events: EventLog) -> Networks:
    from sampan.engine.networks.networks import Networks
    from sampan.engine.networks.records import DEFAULT_POOLS, Options
    from sampan.engine.networks.resolver import Resolvers

    networks = Networks(
        connection,
        Options(
            bridge=settings.bridge,
            bip=settings.bip,
            fixed_cidr=settings.fixed_cidr,
            mtu=settings.mtu,
            pools=settings.default_address_pools or DEFAULT_POOLS,
            ip_forward=settings.ip_forward,
            ip_masq=settings.ip_masq,
            icc=settings.icc,
            iptables=settings.iptables,
        ),
        events,
        Resolvers(),
    )
    networks.open()
    return networks


def _open_database(path: str) -> sqlite3.Connection:
    """engine.db: WAL, so that a commit is one append; NORMAL, since no answer promises more than a crash of ours."""
    private_file(path)
    connection = sqlite3.connect(path)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = normal")
    connection.execute("pragma foreign_keys = on")
    return connection
