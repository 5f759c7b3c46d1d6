"""The embedded image `sampan/host`: the machine's own root file system, read-only, as an image like any other.

Its manifest and config are ordinary blobs. Its one layer is no tar but a small document of our own media type,
and the committed snapshot under its chain ID stands for the directory "/" without the mounts below it. Nothing
is downloaded or copied. A container made from it can read every file on the host's root file system.
"""

from __future__ import annotations

import json
from typing import Protocol

from sampan import errors
from sampan.containerd.content import ContentStore
from sampan.containerd.images import ImageStore
from sampan.containerd.services import Image
from sampan.oci import digest, image, platform
from sampan.oci.image import Descriptor, descriptor_document, platform_document

NAME = "docker.io/sampan/host:latest"

# Its documents must be the same on every start, so they carry no clock of this machine.
_CREATED = "1970-01-01T00:00:00Z"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class HostSnapshotter(Protocol):
    def adopt_host(self, name: str) -> None: ...


def embed(content: ContentStore, images: ImageStore, snapshots: HostSnapshotter) -> None:
    """Make the image and its snapshot exist. Idempotent, and repairs what a removal took away."""
    layer = b'{"root":"/"}\n'
    own = platform.host()
    config = {
        "created": _CREATED,
        **platform_document(own),
        "config": {"Env": [_PATH], "Cmd": ["/bin/sh"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [digest.of(layer)]},
        "history": [{"created": _CREATED, "created_by": "sampan: the root file system of this machine"}],
    }
    config_data = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": image.MEDIA_OCI_MANIFEST,
        "config": descriptor_document(_described(image.MEDIA_OCI_CONFIG, config_data)),
        "layers": [descriptor_document(_described(image.MEDIA_HOST_LAYER, layer))],
    }
    manifest_data = json.dumps(manifest).encode()
    for data in (layer, config_data, manifest_data):
        content.put(data)
    try:
        snapshots.adopt_host(digest.of(layer))
    except errors.AlreadyExists:
        pass
    target = _described(image.MEDIA_OCI_MANIFEST, manifest_data)
    try:
        if images.get(NAME).target.digest == target.digest:
            return
    except errors.NotFound:
        pass
    images.put(Image(NAME, target))


def _described(media_type: str, data: bytes) -> Descriptor:
    return Descriptor(media_type, digest.of(data), len(data))
