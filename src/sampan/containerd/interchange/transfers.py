"""What containerd's transfer service does, for any of its namespaces: pull, push, tag, import and export.

The engine's own pulls and pushes are `transfer.py`; this one follows containerd's rules where they differ: names are
taken as they are, other platforms' documents come along, garbage collection follows labels, and everything stands under
the client's lease, or under one of our own for a day when it brought none.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace

from sampan import errors
from sampan.containerd import leases, reachability
from sampan.containerd.archive import export_archive, import_archive
from sampan.containerd.interchange import labels
from sampan.containerd.interchange.fetching import Fetch, Fetched, resolve
from sampan.containerd.interchange.naming import StoreTarget, archived_names, plain_names
from sampan.containerd.interchange.steps import EXISTS, UPLOADING, Report, Step, Tree, node_name
from sampan.containerd.interchange.unpacking import Made, Unpacker, download
from sampan.containerd.layers import Layers
from sampan.containerd.leases import Lease, Leases
from sampan.containerd.remotes.auth import Lookup
from sampan.containerd.remotes.client import Client
from sampan.containerd.remotes.push import Push
from sampan.containerd.remotes.registry import Repository, open_repository
from sampan.containerd.remotes.wording import Refusal
from sampan.containerd.services import Credentials, Image, Progress
from sampan.containerd.stores import Stores, StoreTable
from sampan.oci import image as images
from sampan.oci import platform as platforms
from sampan.oci import reference as references
from sampan.oci.image import Descriptor, Manifest, Platform, descriptor_document
from sampan.oci.reference import Reference

DEFAULT_SNAPSHOTTER_LABEL = "containerd.io/defaults/snapshotter"


@dataclass(frozen=True, slots=True)
class Remote:
    """An image in a registry. `scheme` "http": it has no TLS; `hosts_directory`: where its `hosts.toml` is, "" for the
    core's own. `lookup` yields credentials for a host, once that asks."""

    reference: str
    scheme: str = ""
    hosts_directory: str = ""
    lookup: Lookup | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """`images` as stored, with whether the name is new; `snapshots` that were made."""

    images: Sequence[tuple[Image, bool]] = ()
    snapshots: Sequence[Made] = field(default_factory=list)


class Transfers:
    """For every namespace of `table`."""

    def __init__(self, table: StoreTable) -> None:
        self._table = table
        self._unpackers: dict[tuple[str, str], Unpacker] = {}
        self._settings = table.core.registries

    async def pull(self, namespace: str, lease_id: str, source: Remote, target: StoreTarget, report: Report) -> Outcome:
        """NotFound, Unauthorized, Forbidden, Unavailable, DataLoss, InvalidArgument."""
        stores = self._table.of(namespace)
        wanted = _parsed(source.reference)
        report(Step(f"Resolving from OCI Registry ({source.reference})"))
        with self._leased(stores, lease_id) as lease:
            async with self._repository(source, wanted) as (repository, _):
                return await self._pull_from(stores, lease, repository, source, target, report)

    async def _pull_from(
        self, stores: Stores, lease: Lease, repository: Repository, source: Remote, target: StoreTarget, report: Report
    ) -> Outcome:
        try:
            descriptor = await resolve(repository)
        except Refusal as refused:
            raise _refused(refused, source.reference) from refused
        except errors.Unavailable as error:
            raise errors.Error(f"failed to resolve image: failed to do request: {error}") from error
        except errors.Error as error:
            raise errors.Error(f"failed to resolve image: {error}") from error
        report(Step(f"Pulling from OCI Registry ({source.reference})"))
        name = target.name or source.reference
        report(Step("fetching image content", name))
        tree = Tree(report)
        fetch = Fetch(stores.content, lease, repository, tree, target.platforms, target.all_metadata)
        try:
            top = await fetch.run(descriptor, name)
            outcome = await self._finish(stores, fetch.fetched, target, top, lease, tree, repository)
        except Refusal as refused:
            raise errors.Error(f"failed to copy: {refused}") from refused
        for image, _ in outcome.images:
            report(Step("saved", image.name))
        report(Step(f"Completed pull from OCI Registry ({source.reference})"))
        tree.end_all()
        return outcome

    async def push(self, namespace: str, name: str, wanted: Sequence[Platform], to: Remote, report: Report) -> None:
        """What the registry lacks of the image `name`. NotFound, Unauthorized, Forbidden, Unavailable."""
        content = self._table.of(namespace).content
        image = self._table.of(namespace).images.get(name)
        target = image.target
        if wanted:
            found = reachability.runnable(content, target, wanted[0])
            if found is None:
                raise errors.NotFound(f"no match for platform in manifest {target.digest}")
            target = found[0]
        reference = _parsed(to.reference)
        report(Step(f"Pushing to OCI Registry ({to.reference})"))
        report(Step("pushing content", name, descriptor=target))
        tree = Tree(report)
        listen = _pushed(tree, _show(content, target, name, tree))
        try:
            async with self._repository(to, reference) as (repository, client):
                host = await repository.pushing()
                pushed = await Push(content, repository, host, client.settings, listen).push(target)
        except Refusal as refused:
            raise _refused(refused, to.reference) from refused
        report(Step("pushed content", name, descriptor=pushed))
        report(Step(f"Completed push to OCI Registry ({to.reference})", descriptor=pushed))
        tree.end_all()

    def tag(self, namespace: str, name: str, target: StoreTarget) -> Outcome:
        """Another name for the same target. NotFound, InvalidArgument."""
        stores = self._table.of(namespace)
        found = stores.images.get(name).target
        names = plain_names(target, found)
        if not names:
            raise errors.NotFound("no image name found")
        with self._table.metadata.transaction(durable=True):
            return Outcome([_named(stores, one, found, target.labels) for one in names])

    async def load(
        self, namespace: str, lease_id: str, archive: AsyncIterator[bytes], target: StoreTarget, report: Report
    ) -> Outcome:
        """Import an image archive. InvalidArgument, DataLoss."""
        stores = self._table.of(namespace)
        report(Step("Importing"))
        with self._leased(stores, lease_id) as lease:
            found = await import_archive(stores.content, lease, archive)
            members = [member for one in found for member in one.members]
            tops = [(member, archived_names(target, member)) for member in members]
            if target.name:
                tops.insert(0, (await self._index(stores, lease, members), [target.name]))
            made: list[Made] = []
            for member in members:
                made += await self._unpack_member(stores, lease, member, target, Tree(lambda step: None))
            stored = []
            with self._table.metadata.transaction(durable=True):
                for member, names in tops:
                    labels.write(stores.content, labels.of_documents(stores.content, member))
                    stored += [(_named(stores, name, member, target.labels), member) for name in names]
            for (image, _), member in stored:
                report(Step("saved", image.name, descriptor=member))
            report(Step("Completed import"))
            return Outcome([one for one, _ in stored], made)

    async def save(
        self, namespace: str, names: Sequence[str], wanted: Sequence[Platform] | None, docker: bool, report: Report
    ) -> AsyncGenerator[bytes]:
        """The archive of the images, in pieces. NotFound, before the first piece."""
        report(Step("Exporting"))
        stores = self._table.of(namespace)
        found = [(name, stores.images.get(name).target) for name in names]
        async for piece in export_archive(stores.content, found, platforms=wanted, docker=docker):
            yield piece
        report(Step("Completed export"))

    async def close(self) -> None:
        """Cancel what runs."""
        for unpacker in self._unpackers.values():
            await unpacker.layers.close()

    @contextmanager
    def _leased(self, stores: Stores, lease_id: str) -> Iterator[Lease]:
        """What protects the parts until they have a name: the client's lease, or one of our own."""
        if lease_id:
            yield Lease(self._table.metadata, stores.namespace, lease_id)
            return
        with Leases(self._table.metadata, stores.namespace).held(f"transfer-{secrets.token_hex(8)}") as lease:
            yield lease

    @asynccontextmanager
    async def _repository(self, remote: Remote, reference: Reference) -> AsyncIterator[tuple[Repository, Client]]:
        settings = self._settings
        if remote.scheme == "http":
            settings = replace(settings, insecure=(*settings.insecure, reference.domain))
        if remote.hosts_directory:
            settings = replace(settings, hosts_directories=(remote.hosts_directory,))
        # Connections live as long as one transfer: the next one may come with other trust and other credentials.
        async with Client(settings) as client:
            yield open_repository(client, reference, remote.lookup or Credentials()), client

    async def _finish(
        self,
        stores: Stores,
        fetched: Fetched,
        target: StoreTarget,
        top: Descriptor,
        lease: Lease,
        tree: Tree,
        repository: Repository,
    ) -> Outcome:
        """The layers, the snapshots, the labels and the names."""
        unpacks = _chosen(target, fetched.manifests)
        busy = {layer.digest for _, manifest in unpacks for layer in manifest.layers}
        rest = {
            layer.digest: layer
            for _, manifest in fetched.manifests
            for layer in manifest.layers
            if layer.digest not in busy and not stores.content.has(layer.digest)
        }
        if rest:
            await download(self._unpacker(stores, "native").layers, list(rest.values()), repository, tree)
        origin = (repository.reference.domain.partition(":")[0], repository.reference.path)
        stored: list[tuple[Image, bool]] = []

        def name() -> Image:
            told = {digest: labels.children(found) for digest, found in fetched.documents.items()}
            sources = {
                digest: labels.sourced(stores.content.info(digest).labels, *origin)
                for digest in (*told, *fetched.blobs)
                if stores.content.has(digest)
            }
            labels.write(stores.content, labels.merged(told, sources))
            stored[:] = [_named(stores, one, top, target.labels) for one in plain_names(target, top)]
            if not stored:
                raise errors.NotFound("no image name found")
            return stored[0][0]

        made: list[Made] = []
        for snapshotter, manifest in unpacks:
            unpacker = self._unpacker(stores, snapshotter)
            made += await unpacker.unpack(manifest, repository, lease, tree, name)
        if not unpacks:
            with self._table.metadata.transaction(durable=True):
                name()
        return Outcome(stored, made)

    async def _unpack_member(
        self, stores: Stores, lease: Lease, member: Descriptor, target: StoreTarget, tree: Tree
    ) -> list[Made]:
        manifests = []
        for descriptor, manifest in reachability.manifests(stores.content, member):
            platform = descriptor.platform
            if platform is None and stores.content.has(manifest.config.digest):
                if manifest.config.media_type not in images.CONFIG_TYPES:
                    continue
                config = images.config_document(stores.content.read(manifest.config.digest))
                platform = images.platform_from(config)
            manifests.append((platform, manifest))
        made: list[Made] = []
        for snapshotter, manifest in _chosen(target, manifests):
            unpacker = self._unpacker(stores, snapshotter)
            made += await unpacker.unpack(manifest, None, lease, tree, lambda: Image("", member))
        return made

    async def _index(self, stores: Stores, lease: Lease, members: Sequence[Descriptor]) -> Descriptor:
        """A blob that names all `members`: what `ctr images import --index-name` gives a name to."""
        document = {
            "schemaVersion": 2,
            "mediaType": images.MEDIA_OCI_INDEX,
            "manifests": [descriptor_document(member) for member in members],
        }
        data = json.dumps(document, separators=(",", ":")).encode()
        digest = await asyncio.to_thread(stores.content.put, data)
        lease.protect(leases.CONTENT, [digest])
        return Descriptor(images.MEDIA_OCI_INDEX, digest, len(data))

    def _unpacker(self, stores: Stores, name: str) -> Unpacker:
        """`name` "" is the namespace's default. InvalidArgument for a snapshotter that is not offered."""
        if not name:
            wanted = self._default_snapshotter(stores.namespace)
            name = wanted or ("overlayfs" if "overlayfs" in stores.snapshotters else next(iter(stores.snapshotters)))
        key = (stores.namespace, name)
        if key not in self._unpackers:
            snapshotter = stores.snapshotter(name)
            settings = self._settings
            layers = Layers(stores.content, snapshotter, settings.max_concurrent_downloads, settings.max_attempts)
            self._unpackers[key] = Unpacker(self._table.metadata, stores, snapshotter, layers)
        return self._unpackers[key]

    def _default_snapshotter(self, namespace: str) -> str:
        return self._table.namespaces.look(namespace).labels.get(DEFAULT_SNAPSHOTTER_LABEL, "")


def _parsed(reference: str) -> Reference:
    """containerd's references are whole: a host, a path, and a tag or digest. Error in its words."""
    if "/" not in reference:
        raise errors.Error("failed to resolve image: object required")
    try:
        return references.parse_normalized(reference).with_default_tag()
    except errors.InvalidArgument as error:
        raise errors.Error(f"failed to resolve image: {error}") from error


def _named(stores: Stores, name: str, target: Descriptor, given: Mapping[str, str]) -> tuple[Image, bool]:
    """The image under that name, and whether it is a new one; inside a durable transaction."""
    try:
        known: Mapping[str, str] | None = stores.images.get(name).labels
    except errors.NotFound:
        known = None
    kept = {**(known or {}), **{key: value for key, value in given.items() if value}}
    return stores.images.put(Image(name, target, labels=kept)), known is None


def _chosen(target: StoreTarget, manifests: Sequence[tuple[Platform | None, Manifest]]) -> list[tuple[str, Manifest]]:
    """(snapshotter, manifest) for each platform to unpack that is among `manifests`."""
    found = []
    for wanted, snapshotter in target.unpacks:
        best = platforms.choose(wanted, [one or Platform("", "") for one, _ in manifests])
        if best is not None:
            found.append((snapshotter, manifests[best][1]))
    return found


def _show(content: reachability.Blobs, target: Descriptor, name: str, tree: Tree) -> list[Descriptor]:
    """Put all of `target` in the tree; the layers."""
    tree.add(target, name)
    layers: list[Descriptor] = []
    for descriptor, found in reachability.documents(content, target):
        parent = node_name(descriptor)
        below = (*found.layers, found.config) if isinstance(found, Manifest) else found.manifests
        for child in below:
            if content.has(child.digest):
                tree.add(child, parent)
        if isinstance(found, Manifest):
            layers += found.layers
    return layers


def _pushed(tree: Tree, layers: Sequence[Descriptor]) -> Callable[[Progress], None]:
    """A listener of `Push`, whose lines name a layer by its short digest, that tells the tree."""
    by_id = {layer.digest.partition(":")[2][:12]: layer.digest for layer in layers}

    def listen(line: Progress) -> None:
        digest = by_id.get(line.id, "")
        if line.status == "Pushing":
            tree.moved(digest, UPLOADING, line.current)
        elif line.status == "Layer already exists":
            tree.ended(digest, EXISTS)
        elif line.status == "Pushed" or line.status.startswith("Mounted from"):
            tree.ended(digest)

    return listen


def _refused(refused: Refusal, reference: str) -> errors.Error:
    """containerd's words for an answer of a registry."""
    if refused.status == 404:
        return errors.NotFound(f"failed to resolve image: {reference}")
    if refused.status in (401, 403):
        return errors.Error(
            "failed to resolve image: pull access denied, repository does not exist or may require authorization:"
            f" {refused}"
        )
    return errors.Error(f"failed to resolve image: {refused}")
