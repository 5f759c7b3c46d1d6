"""Reading an image archive as it streams in: an OCI image layout, docker's `manifest.json`, or docker's first format.

Each file goes straight into the content store, those that are known are read over; only the documents at the top are
kept in memory. What the files mean is decided at the end, since the documents may come last (docker writes them so).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sampan import errors
from sampan.containerd import archive_v1, leases, reachability
from sampan.containerd.content import BlobIngest, ContentStore
from sampan.containerd.diff import names
from sampan.containerd.leases import Lease
from sampan.oci import digest as digests
from sampan.oci import image, reference
from sampan.oci.image import Descriptor, descriptor_document, descriptor_from
from sampan.wire import layer_tar
from sampan.wire.layer_tar import Entry, LayerTar, TarError

NAME_ANNOTATION = "io.containerd.image.name"
REF_ANNOTATION = "org.opencontainers.image.ref.name"
_PLAIN_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
# A layer's type by its first bytes: docker's own archives have plain tars, other writers' need not.
_LAYER_TYPES = ((b"\x1f\x8b", _PLAIN_LAYER + ".gzip"), (b"\x28\xb5\x2f\xfd", _PLAIN_LAYER + ".zstd"))
# Of the members' names and where they lead: an archive has some ten for each layer.
_ALLOWANCE = 16 << 20
_DOCUMENTS = ("index.json", "manifest.json", "oci-layout", "repositories")


@dataclass(frozen=True, slots=True)
class Imported:
    """An image found in an archive. `names` are normalised, and none for an image without any; `refs` are what the
    layout calls it where that is no name (a tag alone). `members` are the index's entries for it as they are,
    annotations and all, for clients that name images themselves; docker's formats have theirs named in the same way."""

    names: tuple[str, ...]
    target: Descriptor
    refs: tuple[str, ...] = ()
    members: tuple[Descriptor, ...] = ()


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
        self._allowance = names.Allowance(_ALLOWANCE)

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
        if "repositories" in self._documents:
            return self._from_repositories(_json(self._documents["repositories"]))
        raise errors.InvalidArgument("unrecognized image format")

    def close(self) -> None:
        if self._ingest is not None:
            self._ingest.abort()
            self._ingest = None

    def _begin(self, entry: Entry) -> None:
        path = names.clean(entry.name).decode(errors="replace")
        self._path = path
        self._allowance.take(len(entry.name) + len(entry.linkname))
        if entry.kind in (layer_tar.SYMLINK, layer_tar.LINK):
            # A symlink's target is read from where it stands, a hard link's from the top.
            parent = path.rpartition("/")[0] + "/" if entry.kind == layer_tar.SYMLINK else ""
            self._links[path] = names.clean(parent.encode() + entry.linkname).decode(errors="replace")
        if entry.kind != layer_tar.FILE:
            return
        if path in _DOCUMENTS:
            if entry.size > reachability.DOCUMENT_LIMIT:
                raise errors.InvalidArgument(f'invalid image archive: "{path}" is too large')
            self._document = bytearray()
            return
        digest = _digest_of(path)
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
        expected = _digest_of(self._path)
        digest = expected or ingest.digest()
        self._lease.protect(leases.CONTENT, [digest])
        try:
            ingest.commit(None, expected or None)
        except errors.AlreadyExists:
            pass
        finally:
            ingest.close()
        self._blobs[self._path] = digest

    def _from_index(self, index: Any) -> list[Imported]:
        found = []
        for member in _array(index, "manifests") if isinstance(index, dict) else ():
            descriptor = descriptor_from(member)
            if not self._content.has(descriptor.digest):
                raise errors.InvalidArgument(f"invalid image archive: {descriptor.digest} is missing")
            ref = descriptor.annotations.get(REF_ANNOTATION, "")
            full = descriptor.annotations.get(NAME_ANNOTATION) or ref
            # A bare tag is no name: whose would it be?
            named = (_normal(full),) if "/" in full or ":" in full else ()
            found.append(Imported(named, descriptor, () if named or not ref else (ref,), (descriptor,)))
        if not found:
            raise errors.InvalidArgument("invalid image archive: no images in index.json")
        return _joined(found)

    def _from_docker(self, items: Any) -> list[Imported]:
        """No manifest in these: one is made, in Docker's schema 2, over the layers as they are."""
        if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
            raise errors.InvalidArgument("invalid image archive: manifest.json")
        found = []
        for item in items:
            layers = [self._digest(path) for path in _array(item, "Layers")]
            target = self._manifest(self._digest(item.get("Config")), layers)
            tags = tuple(_normal(str(tag)) for tag in _array(item, "RepoTags"))
            found.append(Imported(tags, target))
        return _joined(found)

    def _from_repositories(self, repositories: Any) -> list[Imported]:
        """The format before Docker 1.10: a directory per layer with its own configuration, which names its parent."""
        found = []
        for name, top in archive_v1.tops(repositories):
            chain = archive_v1.chain(top, self._v1_document)
            layers = [self._digest(f"{layer_id}/layer.tar") for layer_id, _ in chain]
            config = archive_v1.config([document for _, document in chain], layers)
            target = self._manifest(self._put(json.dumps(config).encode()), layers)
            found.append(Imported((_normal(name),), target))
        if not found:
            raise errors.InvalidArgument("invalid image archive: no images in repositories")
        return _joined(found)

    def _v1_document(self, layer_id: str) -> Any:
        digest = self._digest(f"{layer_id}/json")
        if self._content.info(digest).size > reachability.DOCUMENT_LIMIT:
            raise errors.InvalidArgument(f'invalid image archive: "{layer_id}/json" is too large')
        return _json(self._content.read(digest))

    def _manifest(self, config: str, layers: Sequence[str]) -> Descriptor:
        """A schema 2 manifest over blobs of the archive, put into the store."""
        document = {
            "schemaVersion": 2,
            "mediaType": image.MEDIA_DOCKER_MANIFEST,
            "config": self._described(config, image.MEDIA_DOCKER_CONFIG),
            "layers": [self._described(layer, self._layer_type(layer)) for layer in layers],
        }
        data = json.dumps(document).encode()
        return Descriptor(image.MEDIA_DOCKER_MANIFEST, self._put(data), len(data))

    def _put(self, data: bytes) -> str:
        self._lease.protect(leases.CONTENT, [digests.of(data)])
        return self._content.put(data)

    def _described(self, digest: str, media_type: str) -> Mapping[str, Any]:
        return descriptor_document(Descriptor(media_type, digest, self._content.info(digest).size))

    def _layer_type(self, digest: str) -> str:
        with self._content.open(digest) as file:
            head = file.read(4)
        return next((kind for magic, kind in _LAYER_TYPES if head.startswith(magic)), _PLAIN_LAYER)

    def _digest(self, path: Any) -> str:
        """Of the file that a document of the archive names. InvalidArgument when it did not come."""
        cleaned = names.clean(str(path).encode(errors="replace")).decode(errors="replace")
        cleaned = self._links.get(cleaned, cleaned)
        if cleaned not in self._blobs:
            raise errors.InvalidArgument(f'invalid image archive: "{path}" is missing')
        return self._blobs[cleaned]


def _digest_of(path: str) -> str:
    """What a blob's path in an OCI layout promises, "" for any other path."""
    parts = path.split("/")
    digest = ":".join(parts[1:])
    return digest if len(parts) == 3 and parts[0] == "blobs" and digests.is_valid(digest) else ""


def _joined(found: Iterable[Imported]) -> list[Imported]:
    """One entry for each target, with all its names."""
    by_digest: dict[str, Imported] = {}
    for one in found:
        before = by_digest.get(one.target.digest, Imported((), one.target))
        all_names, refs = dict.fromkeys((*before.names, *one.names)), dict.fromkeys((*before.refs, *one.refs))
        plain = Descriptor(one.target.media_type, one.target.digest, one.target.size, platform=one.target.platform)
        members = (*before.members, *(one.members or _members(plain, one.names)))
        by_digest[one.target.digest] = Imported(tuple(all_names), plain, tuple(refs), members)
    return list(by_digest.values())


def _members(target: Descriptor, names: Sequence[str]) -> list[Descriptor]:
    return [replace(target, annotations={NAME_ANNOTATION: name}) for name in names] or [target]


def _array(document: Mapping[str, Any], key: str) -> Sequence[Any]:
    found = document.get(key) or ()
    if not isinstance(found, list | tuple):
        raise errors.InvalidArgument(f'invalid image archive: "{key}" is no list')
    return found


def _normal(name: str) -> str:
    return str(reference.parse_normalized(name).with_default_tag())


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise errors.InvalidArgument(f"invalid image archive: {error}") from error
