"""Connect and disconnect of a container that may be running: the two verbs that need its netns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Protocol

from sampan.api.docker.networks import EndpointSettings
from sampan.engine.networks.networks import Networks
from sampan.engine.networks.records import Plan


class Container(Protocol):
    """What is read of a container's record."""

    @property
    def id(self) -> str: ...

    @property
    def pid(self) -> int: ...

    @property
    def has_task(self) -> bool: ...


class ContainerStore(Protocol):
    def get(self, reference: str) -> Container:
        """By id, name or unique id prefix. NotFound `No such container: NAME`."""


class Handles(Protocol):
    @property
    def lock(self) -> AbstractAsyncContextManager[Any]: ...


class HandleTable(Protocol):
    def of(self, container_id: str) -> Handles: ...


class Containers(Protocol):
    """The part of the containers room that these verbs see."""

    @property
    def store(self) -> ContainerStore: ...

    @property
    def live(self) -> HandleTable: ...

    def networks_changed(self, container_id: str, before: Plan, after: Plan) -> None:
        """A running container has joined a network or left one: its /etc/hosts and /etc/resolv.conf follow."""


async def connect(
    networks: Networks, containers: Containers, network: str, reference: str, asked: EndpointSettings | None
) -> None:
    """Errors as `Networks.connect`; NotFound for the container."""
    networks.get(network)
    container = containers.store.get(reference)
    # Under the container's lock its task neither starts nor ends, so its pid stays its own.
    async with containers.live.of(container.id).lock:
        with _netns(containers.store.get(container.id)) as netns_fd, _followed(networks, containers, container.id):
            networks.connect(network, container.id, asked, netns_fd)


async def disconnect(
    networks: Networks, containers: Containers, network: str, reference: str, force: bool = False
) -> None:
    """Errors as `Networks.disconnect`; NotFound for the container."""
    container = containers.store.get(reference)
    async with containers.live.of(container.id).lock:
        with _netns(containers.store.get(container.id)) as netns_fd, _followed(networks, containers, container.id):
            networks.disconnect(network, container.id, netns_fd, force)


@contextmanager
def _followed(networks: Networks, containers: Containers, container_id: str) -> Iterator[None]:
    """The container's files follow what the block does to its networks."""
    before = networks.plan(container_id)
    yield
    after = networks.plan(container_id)
    if before is not None and after is not None:
        containers.networks_changed(container_id, before, after)


@contextmanager
def _netns(container: Container) -> Iterator[int | None]:
    """A descriptor of the container's netns, or None when it does not run."""
    if not container.has_task:
        yield None
        return
    try:
        netns_fd = os.open(f"/proc/{container.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        # It ended a moment ago and the exit is not worked off yet.
        yield None
        return
    try:
        yield netns_fd
    finally:
        os.close(netns_fd)
