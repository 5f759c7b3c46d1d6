"""A real core without overlay or tasks, and images put into it piece by piece: what the image tests stand on."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from sampan.api.docker.images import ImageDelete
from sampan.containerd.core import ContainerCore, open_core
from sampan.containerd.services import Image, Tasks
from sampan.engine.filters import Filters
from sampan.engine.images.catalog import Catalog, Details
from sampan.engine.images.remove import Removal
from sampan.oci import digest, image
from sampan.oci.image import Descriptor

TAR = "application/vnd.oci.image.layer.v1.tar"


def layer_of(name: str) -> bytes:
    """A tar with one file of that name, owned by whoever runs the tests, so that it unpacks without root."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size, member.uid, member.gid = 1000, os.getuid(), os.getgid()
        archive.addfile(member, io.BytesIO(bytes(1000)))
    return packed.getvalue()


class Heard:
    """engine.services.Events that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, str, Mapping[str, str]]] = []

    def publish(self, kind: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
        self.events.append((kind, action, actor_id, attributes))

    def actions(self) -> list[str]:
        return [action for _, action, _, _ in self.events]


class Containers:
    """engine.services.ContainerUsage: image id to (container id, running)."""

    def __init__(self) -> None:
        self.images: dict[str, list[tuple[str, bool]]] = {}

    def using_image(self, image_id: str) -> Sequence[tuple[str, bool]]:
        return self.images.get(image_id, [])

    def using_volume(self, name: str) -> Sequence[str]:
        return []

    def counts(self) -> Mapping[str, int]:
        return {}


class Shelf:
    def __init__(self, core: ContainerCore) -> None:
        self.core = core
        self.events, self.containers = Heard(), Containers()
        self.catalog = Catalog(core.images, core.content, core.snapshots)
        self.removal = Removal(self.catalog, core.images, self.containers, self.events)

    def remove(self, text: str, force: bool = False) -> list[ImageDelete]:
        return asyncio.run(self.removal.remove(text, force))

    def prune(self, filters: Filters) -> tuple[Sequence[ImageDelete], int]:
        return asyncio.run(self.removal.prune(filters))

    def add(self, name: str, *layers: str, **config: Any) -> Details:
        """An image of layers that hold one file each; `config` goes beside rootfs. Named unless `name` is ""."""
        target = self.manifest(*layers, **config)
        if name:
            self.core.images.put(Image(name, target))
        details = self.catalog.details(target)
        assert details is not None
        return details

    def manifest(self, *layers: str, layer_type: str = TAR, **config: Any) -> Descriptor:
        blobs = [layer_of(layer) for layer in layers]
        diff_ids = [digest.of(blob) for blob in blobs]
        document = {
            "os": "linux",
            "architecture": "amd64",
            **config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        data = json.dumps(document).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": image.MEDIA_OCI_MANIFEST,
            "config": self._put(image.MEDIA_OCI_CONFIG, data),
            "layers": [self._put(layer_type, blob) for blob in blobs],
        }
        for number, chain_id in enumerate(digest.chain_ids(diff_ids)):
            parent = digest.chain_ids(diff_ids)[number - 1] if number else ""
            self._unpack(chain_id, parent, layers[number])
        return self._descriptor(self._put(image.MEDIA_OCI_MANIFEST, json.dumps(manifest).encode()))

    def index(self, *members: tuple[Descriptor, str, str]) -> Descriptor:
        """Manifests by (os, architecture)."""
        document = {
            "schemaVersion": 2,
            "mediaType": image.MEDIA_OCI_INDEX,
            "manifests": [
                {**image.descriptor_document(one), "platform": {"os": system, "architecture": architecture}}
                for one, system, architecture in members
            ],
        }
        return self._descriptor(self._put(image.MEDIA_OCI_INDEX, json.dumps(document).encode()))

    def _put(self, media_type: str, data: bytes) -> dict[str, Any]:
        return {"mediaType": media_type, "digest": self.core.content.put(data), "size": len(data)}

    def _descriptor(self, document: Mapping[str, Any]) -> Descriptor:
        return image.descriptor_from(document)

    def _unpack(self, chain_id: str, parent: str, name: str) -> None:
        snapshots = self.core.snapshots
        if any(info.name == chain_id for info in snapshots.walk()):
            return
        key = f"unpack {chain_id}"
        snapshots.prepare(key, parent)
        Path(snapshots.upper(key), name).write_bytes(bytes(1000))
        snapshots.commit(chain_id, key)

    def names(self) -> list[str]:
        return [found.name for found in self.core.images.list()]


@contextmanager
def shelf(root: Path) -> Iterator[Shelf]:
    """No overlay: the core must open where nothing may be mounted. No tasks: images never touch them."""

    async def opened() -> ContainerCore:
        return await open_core(str(root), tasks=cast(Tasks, None), snapshotter="native")

    with asyncio.Runner() as runner:
        core = runner.run(opened())
        try:
            yield Shelf(core)
        finally:
            runner.run(core.close())
