"""The contracts between the engine's own rooms: what one room may ask of its neighbour.

Each verb declares the few of these that it reads; the composition root (`engine/compose.py`) wires the real ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image as a container needs it.

    `id` is the config's digest ("sha256:..."), `reference` the familiar name it was asked by, `config` the OCI
    image config document, `parent` the committed snapshot to start from (chain ID of the last layer)."""

    id: str
    reference: str
    config: Mapping[str, Any]
    parent: str


class Images(Protocol):
    def resolve(self, reference: str, platform: str = "") -> ImageRecord:
        """By name, name@digest, id or unique id prefix.

        NotFound `No such image: NAME:TAG` in Docker's words; InvalidArgument `invalid reference format`."""


@dataclass(frozen=True, slots=True)
class Volume:
    name: str
    driver: str
    mountpoint: str
    created_at: str  # RFC 3339
    labels: Mapping[str, str]
    options: Mapping[str, str]
    anonymous: bool = False


class Volumes(Protocol):
    def get(self, name: str) -> Volume:
        """NotFound `get NAME: no such volume`."""

    def create(
        self,
        name: str = "",
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """The existing one when the name is there; "" makes an anonymous one."""

    def remove(self, name: str, force: bool = False) -> None:
        """NotFound; Conflict `remove NAME: volume is in use - [IDS]`."""

    def mount(self, name: str) -> str:
        """The directory to bind; mounts it first when its options ask for a mount."""

    def bind_below(self, name: str, subpath: str, target: str) -> None:
        """Mount what is at `subpath` in a volume that `mount` gave on `target`, which is made: nothing in the volume
        leads out of it. NotFound, InvalidArgument."""

    def release(self, directory: str) -> None:
        """Undo every `bind_below` whose target is directly in `directory`, and remove it; nothing when it is not there.

        What cannot be undone is logged, not raised."""

    def unmount(self, name: str) -> None:
        """Undo `mount` when no running container uses it any more; nothing when nothing is mounted."""

    def populate(self, name: str, source_fd: int) -> None:
        """Copy what the image has at the mount point into a still empty volume (Docker's copy-up)."""


class Events(Protocol):
    def publish(self, kind: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
        """`kind` container|image|volume|network|daemon; attributes as Docker's Actor.Attributes."""


class ContainerUsage(Protocol):
    """What images, volumes and networks need to know about containers before they remove something."""

    def using_image(self, image_id: str) -> Sequence[tuple[str, bool]]:
        """(container id, running) of each container made from it."""

    def using_volume(self, name: str) -> Sequence[str]:
        """Ids of the containers that mount it."""

    def counts(self) -> Mapping[str, int]:
        """{"running": n, "paused": n, "stopped": n}."""
