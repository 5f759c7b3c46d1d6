"""Manifests, indexes and image configurations, as a registry or an archive delivers them."""

from __future__ import annotations

import json
from random import Random

from fuzz.mutation import bytes_of_json as mutate
from sampan import errors
from sampan.oci import image

_BLOB = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:" + "ab" * 32, "size": 100}
_CONFIG = {**_BLOB, "mediaType": "application/vnd.oci.image.config.v1+json"}
_MANIFEST = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": _CONFIG,
             "layers": [_BLOB, {**_BLOB, "urls": ["https://example.org/"]}], "annotations": {"a": "b"}}  # fmt: skip
_CHILD = {**_BLOB, "mediaType": "application/vnd.oci.image.manifest.v1+json",
          "platform": {"os": "linux", "architecture": "arm64", "variant": "v8", "os.version": "1"}}  # fmt: skip
_INDEX = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
          "manifests": [_CHILD, _CHILD]}  # fmt: skip
_IMAGE = {"architecture": "amd64", "os": "linux", "config": {"Env": ["A=b"]},
          "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "cd" * 32]},
          "history": [{"created_by": "x"}]}  # fmt: skip
_TYPES = [str(one["mediaType"]) for one in (_MANIFEST, _INDEX)]
SEEDS = [json.dumps(one).encode() for one in (_MANIFEST, _INDEX, _IMAGE)]
ERRORS = (errors.InvalidArgument,)

__all__ = ["ERRORS", "SEEDS", "feed", "mutate"]


def feed(data: bytes, random: Random) -> None:
    """As a configuration, and as a manifest or index: of the type it claims, or of one that it came with."""
    try:
        image.diff_ids(image.config_document(data))
    except errors.InvalidArgument:
        pass
    try:
        image.parse(data, random.choice(("application/x", *_TYPES)))
    except errors.InvalidArgument:
        pass
    image.parse(data)
