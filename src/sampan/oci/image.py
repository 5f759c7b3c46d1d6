"""Image-spec documents as values: descriptors, indexes, manifests, configs (image-spec 1.1; Docker schema 2 alike)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sampan import errors
from sampan.oci import digest


@dataclass(frozen=True, slots=True)
class Platform:
    """`os`, `architecture`, `variant` as GOOS/GOARCH and the index's platform object spell them."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Points at a blob: `digest` is "algorithm:hex", `size` in bytes."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    urls: tuple[str, ...] = ()
    artifact_type: str = ""


MEDIA_OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MEDIA_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
MEDIA_DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MEDIA_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
MEDIA_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
MEDIA_DOCKER_SCHEMA1 = (
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
)
INDEX_TYPES = frozenset((MEDIA_OCI_INDEX, MEDIA_DOCKER_INDEX))
MANIFEST_TYPES = frozenset((MEDIA_OCI_MANIFEST, MEDIA_DOCKER_MANIFEST))
CONFIG_TYPES = frozenset((MEDIA_OCI_CONFIG, MEDIA_DOCKER_CONFIG))

# A layer's tar, by compression. Foreign ("nondistributable") layers are named so that they can be refused clearly.
LAYER_TYPES = frozenset(
    (
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
    )
)
FOREIGN_LAYER_TYPES = frozenset(
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    )
)
# Our own: the layer of the embedded image `sampan/host`, whose tree is the machine's root file system.
MEDIA_HOST_LAYER = "application/vnd.sampan.image.layer.host.v1+json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: its config and its layers, lowest first (image-spec manifest.md)."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """Manifests by platform (image-spec image-index.md)."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None


def _text(document: Mapping[str, Any], key: str, required: bool = False) -> str:
    value = document.get(key, None if required else "")
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        raise errors.InvalidArgument(f'invalid "{key}" in image document')
    return value


def _mapping(document: Mapping[str, Any], key: str) -> dict[str, str]:
    value = document.get(key)
    value = {} if value is None else value
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise errors.InvalidArgument(f'invalid "{key}" in image document')
    return value


def _list(document: Mapping[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    value = [] if value is None else value
    if not isinstance(value, list):
        raise errors.InvalidArgument(f'invalid "{key}" in image document')
    return value


def platform_from(document: Any) -> Platform:
    """An index's `platform` object."""
    if not isinstance(document, dict):
        raise errors.InvalidArgument('invalid "platform" in image document')
    features = tuple(str(feature) for feature in _list(document, "os.features"))
    return Platform(
        _text(document, "os"),
        _text(document, "architecture"),
        _text(document, "variant"),
        _text(document, "os.version"),
        features,
    )


def descriptor_from(document: Any) -> Descriptor:
    """A descriptor object; InvalidArgument for a bad digest or size."""
    if not isinstance(document, dict):
        raise errors.InvalidArgument("invalid descriptor in image document")
    size = document.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise errors.InvalidArgument('invalid "size" in image document')
    platform = document.get("platform")
    return Descriptor(
        _text(document, "mediaType"),
        digest.validate(_text(document, "digest", required=True)),
        size,
        _mapping(document, "annotations"),
        None if platform is None else platform_from(platform),
        tuple(str(url) for url in _list(document, "urls")),
        _text(document, "artifactType"),
    )


def platform_document(platform: Platform) -> dict[str, Any]:
    """The other way."""
    document: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        document["os.version"] = platform.os_version
    if platform.os_features:
        document["os.features"] = list(platform.os_features)
    if platform.variant:
        document["variant"] = platform.variant
    return document


def descriptor_document(descriptor: Descriptor) -> dict[str, Any]:
    """The other way: the members in image-spec's order, empty ones left out."""
    document: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.urls:
        document["urls"] = list(descriptor.urls)
    if descriptor.annotations:
        document["annotations"] = dict(descriptor.annotations)
    if descriptor.platform is not None:
        document["platform"] = platform_document(descriptor.platform)
    if descriptor.artifact_type:
        document["artifactType"] = descriptor.artifact_type
    return document


def parse(data: bytes, media_type: str = "") -> Manifest | Index:
    """A manifest or index document; `media_type` is what its descriptor or the server said ("" for unknown).

    InvalidArgument for anything else. A document that could be read as both kinds is refused: with one digest it
    would mean different images to different readers (CVE-2021-41190).
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise errors.InvalidArgument(f"invalid image document: {error}") from error
    if not isinstance(document, dict):
        raise errors.InvalidArgument("invalid image document: not an object")
    if document.get("schemaVersion") == 1 or media_type in MEDIA_DOCKER_SCHEMA1:
        raise errors.InvalidArgument(
            "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed"
        )
    own = _text(document, "mediaType")
    if own and media_type and own != media_type:
        raise errors.InvalidArgument(f'image document says it is "{own}", its descriptor "{media_type}"')
    kind = own or media_type
    has_manifests, has_image = "manifests" in document, "layers" in document or "config" in document
    if has_manifests and (has_image or "fsLayers" in document):
        raise errors.InvalidArgument("image document has both manifests and layers")
    subject = document.get("subject")
    subject_descriptor = None if subject is None else descriptor_from(subject)
    if (kind in INDEX_TYPES or not kind) and has_manifests:
        members = tuple(descriptor_from(member) for member in _list(document, "manifests"))
        return Index(kind or MEDIA_OCI_INDEX, members, _mapping(document, "annotations"), subject_descriptor)
    if (kind in MANIFEST_TYPES or not kind) and has_image:
        config = descriptor_from(document.get("config"))
        layers = tuple(descriptor_from(layer) for layer in _list(document, "layers"))
        return Manifest(
            kind or MEDIA_OCI_MANIFEST, config, layers, _mapping(document, "annotations"), subject_descriptor
        )
    raise errors.InvalidArgument(f'unsupported image document of type "{kind}"')


# What each field of an image config that we read must be: a type; [what every member of a list is]; (one of several);
# or a table of a document's own fields, in which "" stands for every name.
_STRINGS = [str]
_HISTORY = {"created": str, "created_by": str, "author": str, "comment": str, "empty_layer": bool}
_HEALTH = {"Test": _STRINGS, "Interval": int, "Timeout": int, "StartPeriod": int, "StartInterval": int, "Retries": int}
_RUN = {"User": str, "ExposedPorts": dict, "Env": _STRINGS, "Entrypoint": (str, _STRINGS), "Cmd": (str, _STRINGS),
        "Volumes": dict, "WorkingDir": str, "Labels": {"": str}, "StopSignal": str, "StopTimeout": int,
        "Shell": (str, _STRINGS), "OnBuild": _STRINGS, "Healthcheck": _HEALTH, "ArgsEscaped": bool}  # fmt: skip
_CONFIG = {"created": str, "author": str, "os": str, "architecture": str, "variant": str, "os.version": str,
           "os.features": _STRINGS, "config": _RUN, "rootfs": {"type": str, "diff_ids": _STRINGS},
           "history": [_HISTORY]}  # fmt: skip


def config_document(data: bytes) -> dict[str, Any]:
    """An image config (image-spec config.md) as it stands; each field that means something has its type or is null.

    InvalidArgument for anything else, as docker has it: who asks about all images must not stumble over one."""
    try:
        document = json.loads(data)
        if b"\\ud" in data.lower():  # half of a surrogate pair, perhaps, which is no character: U+FFFD, as in Go
            text = json.dumps(document, ensure_ascii=False)
            document = json.loads(text.encode("utf-8", "surrogatepass").decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise errors.InvalidArgument(f"invalid image config: {error}") from error
    if not isinstance(document, dict):
        raise errors.InvalidArgument("invalid image config: not an object")
    for key, wanted in _CONFIG.items():
        if not _fits(document.get(key), wanted):
            raise errors.InvalidArgument(f'invalid image config: "{key}"')
    run = document.get("config") or {}
    for key in ("Entrypoint", "Cmd", "Shell"):
        if isinstance(run.get(key), str):
            run[key] = [run[key]]  # as docker reads it
    return document


def _fits(value: Any, wanted: Any) -> bool:
    """Whether `value` is null or what `wanted`, of the table above, says."""
    if value is None:
        return True
    if isinstance(wanted, tuple):
        return any(_fits(value, one) for one in wanted)
    if isinstance(wanted, list):
        return isinstance(value, list) and all(one is not None and _fits(one, wanted[0]) for one in value)
    if isinstance(wanted, dict):
        if not isinstance(value, dict):
            return False
        kinds = {key: wanted.get(key, wanted.get("")) for key in value}
        return all(kind is None or _fits(value[key], kind) for key, kind in kinds.items())
    if wanted is int:
        return type(value) is int and -(1 << 63) <= value < 1 << 63
    return isinstance(value, wanted)


def diff_ids(config: Mapping[str, Any]) -> list[str]:
    """`rootfs.diff_ids` of a config, lowest first; empty when it has none."""
    rootfs = config.get("rootfs") or {}
    if not isinstance(rootfs, dict):
        raise errors.InvalidArgument("invalid rootfs in image configuration")
    return [digest.validate(one) if isinstance(one, str) else digest.validate("") for one in _list(rootfs, "diff_ids")]
