"""POST /containers/create: check, resolve, prepare the writable layer, write the record."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import time
from collections.abc import Sequence
from contextlib import ExitStack

import msgspec

from sampan.api.docker.containers import Config, CreateRequest, CreateResponse, EndpointSettings, HostConfig, LogConfig
from sampan.engine.containers import command, copyup, links, mounts, names, verify
from sampan.engine.containers import layers as stacks
from sampan.engine.containers.model import Container, Mount
from sampan.engine.containers.room import Room
from sampan.engine.networks.records import ContainerNetworking
from sampan.engine.services import ImageRecord
from sampan.engine.settings import FOUND_BY_NAME, check_slice
from sampan.errors import Error, InvalidArgument

OURS = "sampan"


async def create(room: Room, request: CreateRequest, name: str = "", platform: str = "") -> CreateResponse:
    """Make a container that does not run yet.

    NotFound (image, in Docker's words; joined container), AlreadyExists (name), InvalidArgument. A failure leaves
    nothing behind but volumes that existed before or were named."""
    config, host_config = request, request.host_config
    verify.check(config, host_config, room.facts)
    if room.settings.systemd_cgroup and host_config.cgroup_parent:
        check_slice(host_config.cgroup_parent)
    verify.check_runtime(host_config.runtime, room.settings.runtimes, (OURS, *FOUND_BY_NAME))
    if not config.image:
        nothing = CreateRequest(host_config=host_config, networking_config=request.networking_config)
        known = "config cannot be empty in order to create a container"
        raise InvalidArgument(known if request == nothing else "no command specified")
    image = room.images.resolve(config.image, platform)
    container_id = names.new_id()
    name = name.removeprefix("/") or names.new_name(room.store.is_free)
    with ExitStack() as undo:
        undo.enter_context(room.store.name_reserved(name, container_id))
        with ExitStack() as made:
            record = _record(room, request, image, container_id, name)
            record = msgspec.structs.replace(record, mounts=_with_volumes(room, record, request.host_config, made))
            layers = room.core.snapshots.prepare(container_id, image.parent)
            made.callback(room.core.snapshots.remove, container_id)
            stack = stacks.directories(layers) or []
            _check_working_directory(record.config.working_dir, stack)
            _mark(room.core.snapshots.upper(container_id), stack)
            directory = room.directory(container_id)
            os.makedirs(directory, mode=0o710)
            made.callback(shutil.rmtree, directory, ignore_errors=True)
            if any(mount.copy_up for mount in record.mounts):
                await asyncio.to_thread(copyup.copy_up, room, record, layers)
            room.networks.configure(networking(record, request, room.settings.dns))
            made.callback(room.networks.forget, container_id)
            room.store.insert(record)
            made.pop_all()
    room.publish(record, "create")
    return CreateResponse(id=container_id, warnings=_warnings(room, host_config))


def _check_working_directory(path: str, stack: Sequence[str]) -> None:
    """Error, as dockerd answers 500, when the image has something else in its place."""
    if path and stack and stacks.kind(stack, path) == "file":
        raise Error(f"Cannot mkdir: {path} is not a directory")


def _mark(upper: str, stack: Sequence[str]) -> None:
    """The empty file by which programs know that they run in a Docker container; /etc/mtab for mount(8) and df(1).

    `stack` are the directories of the image's layers and `upper` itself."""
    os.close(os.open(f"{upper}/.dockerenv", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o755))
    if any(os.path.lexists(f"{directory}/etc/mtab") for directory in stack):
        return
    etc = next((f"{directory}/etc" for directory in stack if os.path.lexists(f"{directory}/etc")), "")
    if etc and not stat.S_ISDIR(os.lstat(etc).st_mode):
        return  # a symlink or worse: what it leads to is not ours to guess
    if etc != f"{upper}/etc":  # it is where the snapshot is a copy of the layers
        os.mkdir(f"{upper}/etc", 0o755)
    if etc:
        # The upper directory's owner and mode are what the container sees of both.
        status = os.lstat(etc)
        os.chown(f"{upper}/etc", status.st_uid, status.st_gid)
        os.chmod(f"{upper}/etc", stat.S_IMODE(status.st_mode))
    os.symlink("/proc/mounts", f"{upper}/etc/mtab")


def _record(room: Room, request: CreateRequest, image: ImageRecord, container_id: str, name: str) -> Container:
    merged = command.merge(request, image.config.get("config") or {})
    config, host_config = verify.with_defaults(
        merged,
        request.host_config,
        container_id,
        room.facts,
        runtime=room.settings.default_runtime,
        shm_size=room.settings.shm_size,
        log=LogConfig(type=room.settings.log_driver, config=dict(room.settings.log_opts)),
        init=room.settings.init,
    )
    path, args = command.resolve(config)
    return Container(
        id=container_id,
        name=name,
        created_at=time.time_ns(),
        image_id=image.id,
        parent=image.parent,
        path=path,
        args=args,
        # The request is a Config with two more fields; the record keeps them apart.
        config=_plain_config(config),
        host_config=host_config,
        runtime=host_config.runtime,
        mounts=mounts.collect(config, host_config, room.store.get, os.path.exists),
        links=links.collect(room.store, host_config),
    )


def _plain_config(config: msgspec.Struct) -> Config:
    fields = Config.__struct_fields__
    return Config(**{field: getattr(config, field) for field in fields})


def _with_volumes(room: Room, record: Container, host_config: HostConfig, made: ExitStack) -> list[Mount]:
    """The record's mounts with every volume in being: named ones made when missing, anonymous ones new."""
    found = []
    for mount in record.mounts:
        if mount.type != "volume":
            found.append(mount)
            continue
        request = next((given for given in host_config.mounts if _same(given.target, mount.destination)), None)
        options = request.volume_options if request else None
        driver = options.driver_config if options else None
        kind = (driver.name if driver else "") or host_config.volume_driver or "local"
        # Given only with a name that does not exist yet do options and labels matter; the room decides.
        volume = room.volumes.create(
            mount.name, kind, driver.options if driver else None, dict(options.labels) if options else None
        )
        if not mount.name:
            made.callback(room.volumes.remove, volume.name, force=True)
        found.append(
            msgspec.structs.replace(
                mount, name=volume.name, source=volume.mountpoint, driver=volume.driver, mode=mount.mode or "z"
            )
            if not mount.anonymous
            else msgspec.structs.replace(mount, name=volume.name, source=volume.mountpoint, driver=volume.driver)
        )
    return found


def _same(target: str, destination: str) -> bool:
    return os.path.normpath(target) == destination


def networking(record: Container, request: CreateRequest, daemon_dns: Sequence[str] = ()) -> ContainerNetworking:
    """What the networks room is to remember."""
    endpoints = {
        name: settings for name, settings in request.networking_config.endpoints_config.items() if settings is not None
    }
    missing = [name for name, settings in request.networking_config.endpoints_config.items() if settings is None]
    endpoints.update({name: EndpointSettings() for name in missing})
    return ContainerNetworking(
        container_id=record.id,
        name=record.name,
        hostname=record.config.hostname,
        domainname=record.config.domainname,
        network_mode=record.host_config.network_mode,
        endpoints=endpoints,
        port_bindings=record.host_config.port_bindings,
        exposed_ports=list(record.config.exposed_ports),
        publish_all_ports=record.host_config.publish_all_ports,
        mac_address=record.config.mac_address,
        dns=record.host_config.dns or daemon_dns,
    )


def _warnings(room: Room, host_config: HostConfig) -> list[str]:
    found = []
    if host_config.network_mode == "host" and host_config.port_bindings:
        found.append("Published ports are discarded when using host network mode")
    if host_config.oom_kill_disable and not host_config.memory:
        found.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the "
            "system running out of resources."
        )
    if host_config.oom_kill_disable and room.facts.cgroup_version == 2:
        found.append("Your kernel does not support OomKillDisable. OomKillDisable discarded.")
    return found
