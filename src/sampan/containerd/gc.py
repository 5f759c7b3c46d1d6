"""Garbage collection by containerd's rules: what labels, images, containers and leases reach stays.

Roots: image names; containers (their snapshots); leases that have not expired; content and snapshots labelled
`containerd.io/gc.root`. References: `containerd.io/gc.ref.content[./...]` (a digest) and
`containerd.io/gc.ref.snapshot.SNAPSHOTTER[/...]` (a key) on any of these, and a snapshot's parent. What a flat
lease names is kept and not followed.
In the engine's own namespace, images whose blobs carry no labels are followed by their documents as well, and active
snapshots are the engine's containers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from sampan import errors
from sampan.containerd import leases as pulls
from sampan.containerd import leasing, reachability
from sampan.containerd.metadata import Metadata, now
from sampan.containerd.services import ContentInfo, SnapshotInfo

if TYPE_CHECKING:
    from sampan.containerd.stores import Stores

# An ingest nobody resumed for this long is given up by the next collection; containerd's leases of pulls last as long.
INGEST_KEPT_NS = 24 * 3600 * 10**9
ROOT_LABEL = "containerd.io/gc.root"
_CONTENT_REF = "containerd.io/gc.ref.content"
_SNAPSHOT_REF = "containerd.io/gc.ref.snapshot."

# ("content", "", digest) or ("snapshot", snapshotter, key)
Node = tuple[Literal["content", "snapshot"], str, str]


def references(labels: Mapping[str, str]) -> Iterator[Node]:
    """What an object with these labels refers to."""
    for key, value in labels.items():
        if not value:
            continue
        if key.startswith(_CONTENT_REF) and key[len(_CONTENT_REF) :][:1] in ("", ".", "/"):
            yield "content", "", value
        elif key.startswith(_SNAPSHOT_REF):
            snapshotter = key[len(_SNAPSHOT_REF) :].split("/")[0]
            yield "snapshot", snapshotter, value


@dataclass(slots=True)
class Collection:
    """What one collection has done: bytes freed, and (snapshotter, key) of each snapshot that went."""

    freed: int = 0
    snapshots: list[tuple[str, str]] = field(default_factory=list)


def collect(metadata: Metadata, stores: Stores, is_engines: bool) -> Collection:
    """One transaction: what is unreachable when it begins goes."""
    done = Collection()
    _measure(stores)
    with metadata.transaction(durable=True):
        _expire(stores)
        content = {info.digest: info for info in stores.content.walk()}
        snapshots = {
            (name, info.name): info for name, snapshotter in stores.snapshotters.items() for info in snapshotter.walk()
        }
        marked = _mark(metadata, stores, content, snapshots, is_engines)
        _sweep_snapshots(stores, snapshots, marked, done)
        for digest, info in content.items():
            if ("content", "", digest) not in marked:
                stores.content.delete(digest)
                done.freed += info.size
    done.freed += _sweep_ingests(metadata, stores)
    return done


def _measure(stores: Stores) -> None:
    """Have the sizes of snapshots known before the transaction, in which nobody else gets at the database.

    Those that a client made and copies of the native snapshotter are measured by walking them, once."""
    for snapshotter in stores.snapshotters.values():
        for info in list(snapshotter.walk()):
            if info.kind == "committed":
                with suppress(errors.NotFound):
                    snapshotter.usage(info.name)


def _expire(stores: Stores) -> None:
    for lease in stores.leases.list():
        if lease.has_expired():
            stores.leases.delete(lease.id)


def _mark(
    metadata: Metadata,
    stores: Stores,
    content: Mapping[str, ContentInfo],
    snapshots: Mapping[tuple[str, str], SnapshotInfo],
    is_engines: bool,
) -> set[Node]:
    marked: set[Node] = set()
    pending: list[Node] = []
    for lease in stores.leases.list():
        flat = leasing.FLAT_LABEL in lease.labels
        for kind, ref in stores.leases.resources(lease.id):
            for node in _leased(kind, ref, stores):
                if flat:
                    marked.add(node)
                else:
                    pending.append(node)
    pending += _roots(stores, content, snapshots, is_engines)
    followed: set[Node] = set()
    while pending:
        node = pending.pop()
        if node in followed:
            continue
        followed.add(node)
        marked.add(node)
        kind, snapshotter, name = node
        if kind == "content" and name in content:
            pending += references(content[name].labels)
        elif kind == "snapshot" and (snapshotter, name) in snapshots:
            info = snapshots[snapshotter, name]
            pending += references(info.labels)
            if info.parent:
                pending.append(("snapshot", snapshotter, info.parent))
    return marked


def _leased(kind: str, ref: str, stores: Stores) -> Iterator[Node]:
    if kind == leasing.CONTENT:
        yield "content", "", ref
    elif kind.startswith(leasing.SNAPSHOTS):
        yield "snapshot", kind.removeprefix(leasing.SNAPSHOTS), ref
    elif kind == pulls.SNAPSHOT:
        for snapshotter in stores.snapshotters:
            yield "snapshot", snapshotter, ref


def _roots(
    stores: Stores,
    content: Mapping[str, ContentInfo],
    snapshots: Mapping[tuple[str, str], SnapshotInfo],
    is_engines: bool,
) -> Iterator[Node]:
    for image in stores.images.list():
        yield "content", "", image.target.digest
        yield from references(image.labels)
        if is_engines:
            digests, chains = reachability.reach(stores.content, image.target)
            yield from (("content", "", digest) for digest in digests)
            yield from (("snapshot", name, chain) for name in stores.snapshotters for chain in chains)
    for container in stores.containers.list():
        yield from references(container.labels)
        if container.snapshot_key:
            yield "snapshot", container.snapshotter, container.snapshot_key
    for digest, blob in content.items():
        if ROOT_LABEL in blob.labels:
            yield "content", "", digest
    for (snapshotter, key), info in snapshots.items():
        if ROOT_LABEL in info.labels or (is_engines and info.kind != "committed"):
            yield "snapshot", snapshotter, key


def _sweep_snapshots(
    stores: Stores, snapshots: Mapping[tuple[str, str], SnapshotInfo], marked: set[Node], done: Collection
) -> None:
    """Children go before their parents."""
    doomed = {node: info for node, info in snapshots.items() if ("snapshot", *node) not in marked}
    while doomed:
        parents = {(snapshotter, info.parent) for (snapshotter, _), info in doomed.items()}
        leaves = [node for node in doomed if node not in parents]
        for snapshotter, key in leaves:
            info = doomed.pop((snapshotter, key))
            store = stores.snapshotters[snapshotter]
            if info.kind == "committed":
                done.freed += store.usage(key).size
            store.remove(key)
            done.snapshots.append((snapshotter, key))
        if not leaves:
            break  # no chain has a circle; a damaged one shall not hang the core


def _sweep_ingests(metadata: Metadata, stores: Stores) -> int:
    """Those without a lease that nobody went on with for a day."""
    freed = 0
    query = "select ref from lease_resources where namespace=? and kind=?"
    leased = {row[0] for row in metadata.rows(query, stores.namespace, leasing.INGESTS)}
    for status in list(stores.content.statuses()):
        if status.ref not in leased and now() - status.updated_at > INGEST_KEPT_NS:
            try:
                stores.content.writer(status.ref).abort()
                freed += status.offset
            except errors.Unavailable:
                continue  # somebody is writing it after all
    return freed
