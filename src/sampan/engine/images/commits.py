"""`docker commit` and `docker import` (Engine API 1.51, ImageCommit and ImageCreate with fromSrc): an image's documents
and names around the layer that the core makes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sampan.api.docker.containers import Config
from sampan.containerd.services import Commits as Core
from sampan.containerd.services import Image
from sampan.engine import timestamps
from sampan.engine.containers import command
from sampan.engine.images import instructions, names
from sampan.engine.images.catalog import Catalog
from sampan.engine.services import Events
from sampan.errors import InvalidArgument
from sampan.oci import platform as platforms
from sampan.oci.reference import Reference

# Of a container's configuration, what an image says too (image-spec config.md and Docker's own members).
_PORTABLE = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Healthcheck", "Volumes", "WorkingDir", "Labels",
             "StopSignal", "OnBuild", "Shell")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Commits:
    """The parts that making an image touches."""

    catalog: Catalog
    core: Core
    events: Events

    async def commit(
        self,
        container: str,
        image_id: str,
        own: Config,
        *,
        asked: Config,
        changes: Sequence[str],
        target: Reference | None,
        author: str = "",
        comment: str = "",
    ) -> str:
        """The new image's ID: the container's changes on its image, configured as `asked` and `changes` say and
        else as the container is (`own`). NotFound (its image), InvalidArgument."""
        base = self.catalog.entry_of(image_id).details
        if base.embedded:
            raise InvalidArgument("a container of sampan/host cannot be committed: its image is the machine itself")
        config = command.merge(instructions.apply(asked, changes), msgspec.to_builtins(own))

        def describe(diff_id: str) -> bytes:
            kept = ("architecture", "variant", "os", "os.version")
            document: dict[str, Any] = {key: base.config[key] for key in kept if key in base.config}
            created = timestamps.now()
            step = {"created": created, "created_by": " ".join(command.words(own.cmd) or []), "comment": comment}
            document |= {
                "config": image_config(config),
                "container": container,
                "created": created,
                "author": author or base.config.get("author", ""),
                "history": [*(base.config.get("history") or []), _without_empty({**step, "author": author})],
                "rootfs": {"type": "layers", "diff_ids": [*base.diff_ids, diff_id]},
            }
            return msgspec.json.encode(_without_empty(document))

        return self._named(await self.core.commit(container, base.manifest, "", describe), target)

    async def import_tar(
        self,
        tar: AsyncIterator[bytes],
        *,
        changes: Sequence[str],
        target: Reference | None,
        message: str = "",
        platform: str = "",
    ) -> str:
        """The ID of an image whose only layer is `tar`. InvalidArgument."""
        config = instructions.apply(Config(), changes)
        own = platforms.parse(platform) if platform else platforms.host()

        def describe(diff_id: str) -> bytes:
            created = timestamps.now()
            document = {
                "architecture": own.architecture,
                "variant": own.variant,
                "os": own.os,
                "comment": message,
                "config": image_config(config),
                "created": created,
                "history": [_without_empty({"created": created, "comment": message})],
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            }
            return msgspec.json.encode(_without_empty(document))

        image_id = self._named(await self.core.import_layer(tar, "", describe), target)
        self.events.publish("image", "import", image_id, {"name": image_id})
        return image_id

    def _named(self, made: Image, target: Reference | None) -> str:
        """The image's ID, after the core's name for it was exchanged for `target`, or for none."""
        details = self.catalog.details_of(made)
        if details is None:
            raise InvalidArgument("the image that was made cannot be read")
        if target is None:
            names.keep(self.catalog, made)
        else:
            names.put(self.catalog, target, made.target)
            self.events.publish("image", "tag", details.id, {**details.labels, "name": target.familiar})
        self.catalog.names.delete(made.name)
        return details.id


def image_config(config: Config) -> dict[str, Any]:
    """The `config` member of an image's document."""
    plain: Mapping[str, Any] = msgspec.to_builtins(config)
    return _without_empty({key: plain.get(key) for key in _PORTABLE})


def _without_empty(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value not in ("", None, [], {})}
