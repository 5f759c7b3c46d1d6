"""Image archives: an OCI image layout in a tar, with docker's `manifest.json` beside it (image-spec image-layout.md).

Written as `docker save` of 25 and later and `ctr images export` write it, so docker, podman, skopeo and containerd
read it. Read: that, a plain OCI layout, and the older docker-archive (`ID/layer.tar`, `HEX.json`), as a stream: each
blob goes straight into the content store, known ones are read over.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sampan import errors
from sampan.containerd import leases, reachability
from sampan.containerd.content import BlobIngest, ContentStore
from sampan.containerd.diff import names
from sampan.containerd.leases import Lease
from sampan.oci import digest as digests
from sampan.oci import image, reference
from sampan.oci.image import Descriptor, Manifest, descriptor_document, descriptor_from
from sampan.wire import layer_tar
from sampan.wire.layer_tar import Entry, LayerTar, TarError

NAME_ANNOTATION = "io.containerd.image.name"
REF_ANNOTATION = "org.opencontainers.image.ref.name"
# Whatever its compression is: unpacking looks at the bytes.
_PLAIN_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_CHUNK = 1 << 20
_DOCUMENTS = ("index.json", "manifest.json", "oci-layout", "repositories")


@dataclass(frozen=True, slots=True)
class Imported:
    """An image found in an archive; `names` are normalised, and none for an image without any."""

    names: tuple[str, ...]
    target: Descriptor


def export(content: ContentStore, images: Sequence[tuple[str, Descriptor]]) -> Iterator[bytes]:
    """The archive of (name or "", target) images, in pieces; what an index names and is not here is left out.

    NotFound when a target is not in the store; InvalidArgument for the machine's own root file system."""
    wanted: dict[str, int] = {}
    listed: list[dict[str, Any]] = []
    docker: list[dict[str, Any]] = []
    for name, target in images:
        documents = list(reachability.documents(content, target))
        if not documents:
            raise errors.NotFound(f"content {target.digest}: not found")
        for descriptor, found in documents:
            wanted[descriptor.digest] = content.info(descriptor.digest).size
            if isinstance(found, Manifest):
                _add_blobs(content, found, wanted)
        listed.append(_index_entry(name, target))
        docker.append(_docker_entry(name, [d for _, d in documents if isinstance(d, Manifest)]))
    yield _header("blobs", tarfile.DIRTYPE, 0o755, 0)
    for algorithm in sorted({digest.partition(":")[0] for digest in wanted}):
        yield _header(f"blobs/{algorithm}", tarfile.DIRTYPE, 0o755, 0)
    for digest, size in sorted(wanted.items()):
        yield _header("blobs/" + digest.replace(":", "/"), tarfile.REGTYPE, 0o644, size)
        with content.open(digest) as file:
            while chunk := file.read(_CHUNK):
                yield chunk
        yield bytes(-size % 512)
    index = {"schemaVersion": 2, "mediaType": image.MEDIA_OCI_INDEX, "manifests": listed}
    top = {"index.json": index, "manifest.json": docker, "oci-layout": {"imageLayoutVersion": "1.0.0"}}
    for name, document in top.items():
        data = json.dumps(document).encode()
        yield _header(name, tarfile.REGTYPE, 0o644, len(data)) + data + bytes(-len(data) % 512)
    yield bytes(1024)


def _add_blobs(content: ContentStore, manifest: Manifest, wanted: dict[str, int]) -> None:
    for blob in (manifest.config, *manifest.layers):
        if blob.media_type == image.MEDIA_HOST_LAYER:
            raise errors.InvalidArgument("the image of this machine's own root file system cannot be saved")
        if content.has(blob.digest):
            wanted[blob.digest] = blob.size


def _index_entry(name: str, target: Descriptor) -> dict[str, Any]:
    annotations = dict(target.annotations)
    if name:
        annotations[NAME_ANNOTATION] = name
        tag = reference.parse_normalized(name).tag
        if tag:
            annotations[REF_ANNOTATION] = tag
    return {**descriptor_document(target), **({"annotations": annotations} if annotations else {})}


def _docker_entry(name: str, manifests: Sequence[Manifest]) -> dict[str, Any]:
    """Docker's own description of the first manifest, which is the one that is here of an index."""
    if not manifests:
        return {"Config": "", "RepoTags": None, "Layers": []}
    parsed = reference.parse_normalized(name) if name else None
    return {
        "Config": "blobs/" + manifests[0].config.digest.replace(":", "/"),
        "RepoTags": [parsed.familiar] if parsed and parsed.tag else None,
        "Layers": ["blobs/" + layer.digest.replace(":", "/") for layer in manifests[0].layers],
    }


def _header(name: str, kind: bytes, mode: int, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size = kind, mode, size
    return info.tobuf(tarfile.PAX_FORMAT)


class Importer:
    """Feed it an archive's tar; `finish` gives what it names. Everything stored stands under `lease` until it is named.

    InvalidArgument for what is no image archive; DataLoss for a blob that is not what its name says."""

    def __init__(self, content: ContentStore, lease: Lease, ref: str) -> None:
        self._content, self._lease, self._ref = content, lease, ref
        self._tar = LayerTar()
        self._path = ""
        self._ingest: BlobIngest | None = None
        self._document: bytearray | None = None
        self._documents: dict[str, bytes] = {}
        self._blobs: dict[str, str] = {}  # path in the archive -> digest
        self._links: dict[str, str] = {}

    def feed(self, data: bytes | memoryview) -> None:
        try:
            for event in self._tar.feed(data):
                if isinstance(event, Entry):
                    self._end()
                    self._begin(event)
                elif isinstance(event, tuple):
                    raise errors.InvalidArgument("invalid image archive: sparse file")
                elif self._ingest is not None:
                    self._ingest.write(event)
                elif self._document is not None:
                    self._document += event
        except TarError as error:
            raise errors.InvalidArgument(f"archive/tar: {error}") from error

    def finish(self) -> list[Imported]:
        try:
            self._tar.finish()
        except TarError as error:
            raise errors.InvalidArgument(f"archive/tar: {error}") from error
        self._end()
        if "index.json" in self._documents:
            return self._from_index(_json(self._documents["index.json"]))
        if "manifest.json" in self._documents:
            return self._from_docker(_json(self._documents["manifest.json"]))
        raise errors.InvalidArgument("unrecognized image format")

    def close(self) -> None:
        if self._ingest is not None:
            self._ingest.abort()
            self._ingest = None

    def _begin(self, entry: Entry) -> None:
        path = names.clean(entry.name).decode(errors="replace")
        self._path = path
        if entry.kind == layer_tar.SYMLINK:
            parent = path.rpartition("/")[0]
            self._links[path] = names.clean(f"{parent}/".encode() + entry.linkname).decode(errors="replace")
        if entry.kind != layer_tar.FILE:
            return
        if path in _DOCUMENTS:
            if entry.size > reachability.DOCUMENT_LIMIT:
                raise errors.InvalidArgument(f'invalid image archive: "{path}" is too large')
            self._document = bytearray()
            return
        digest = self._digest_of(path)
        if digest and self._content.has(digest):
            self._blobs[path] = digest
            self._lease.protect(leases.CONTENT, [digest])
            return
        self._ingest = self._content.writer(f"{self._ref}-{path}")
        self._ingest.truncate()

    def _end(self) -> None:
        """The present member is whole."""
        if self._document is not None:
            self._documents[self._path], self._document = bytes(self._document), None
        ingest, self._ingest = self._ingest, None
        if ingest is None:
            return
        expected = self._digest_of(self._path)
        digest = expected or ingest.digest()
        self._lease.protect(leases.CONTENT, [digest])
        try:
            ingest.commit(None, expected or None)
        except errors.AlreadyExists:
            pass
        finally:
            ingest.close()
        self._blobs[self._path] = digest

    def _digest_of(self, path: str) -> str:
        """What a blob's path in an OCI layout promises, "" for any other path."""
        parts = path.split("/")
        digest = ":".join(parts[1:])
        return digest if len(parts) == 3 and parts[0] == "blobs" and digests.is_valid(digest) else ""

    def _from_index(self, index: Any) -> list[Imported]:
        found = []
        for member in index.get("manifests") or () if isinstance(index, dict) else ():
            descriptor = descriptor_from(member)
            if not self._content.has(descriptor.digest):
                raise errors.InvalidArgument(f"invalid image archive: {descriptor.digest} is missing")
            full = descriptor.annotations.get(NAME_ANNOTATION) or descriptor.annotations.get(REF_ANNOTATION, "")
            # A bare tag is no name: whose would it be?
            named = (_normal(full),) if "/" in full or ":" in full else ()
            found.append(Imported(named, descriptor))
        if not found:
            raise errors.InvalidArgument("invalid image archive: no images in index.json")
        return _joined(found)

    def _from_docker(self, items: Any) -> list[Imported]:
        """Older docker-archives have no manifest: one is made, in Docker's schema 2, over the layers as they are."""
        if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
            raise errors.InvalidArgument("invalid image archive: manifest.json")
        found = []
        for item in items:
            layers = [self._stored(path, _PLAIN_LAYER) for path in item.get("Layers") or ()]
            document = {
                "schemaVersion": 2,
                "mediaType": image.MEDIA_DOCKER_MANIFEST,
                "config": self._stored(item.get("Config"), image.MEDIA_DOCKER_CONFIG),
                "layers": layers,
            }
            data = json.dumps(document).encode()
            digest = digests.of(data)
            self._lease.protect(leases.CONTENT, [digest])
            self._content.put(data)
            tags = tuple(_normal(str(tag)) for tag in item.get("RepoTags") or ())
            found.append(Imported(tags, Descriptor(image.MEDIA_DOCKER_MANIFEST, digest, len(data))))
        return found

    def _stored(self, path: Any, media_type: str) -> dict[str, Any]:
        cleaned = names.clean(str(path).encode()).decode()
        cleaned = self._links.get(cleaned, cleaned)
        if cleaned not in self._blobs:
            raise errors.InvalidArgument(f'invalid image archive: "{path}" is missing')
        digest = self._blobs[cleaned]
        return descriptor_document(Descriptor(media_type, digest, self._content.info(digest).size))


def _joined(found: list[Imported]) -> list[Imported]:
    """One entry for each target, with all its names."""
    by_digest: dict[str, Imported] = {}
    for one in found:
        before = by_digest.get(one.target.digest)
        merged = (*before.names, *one.names) if before else one.names
        plain = Descriptor(one.target.media_type, one.target.digest, one.target.size, platform=one.target.platform)
        by_digest[one.target.digest] = Imported(tuple(dict.fromkeys(merged)), plain)
    return list(by_digest.values())


def _normal(name: str) -> str:
    return str(reference.parse_normalized(name).with_default_tag())


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise errors.InvalidArgument(f"invalid image archive: {error}") from error
