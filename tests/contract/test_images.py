"""`services.Images`: names, and the collection that starts from them."""

from __future__ import annotations

import json
import os
import threading

import pytest

from sampan import errors
from sampan.containerd import leases
from sampan.containerd.containers import Container, Payload, create_table
from sampan.containerd.gc import INGEST_KEPT_NS
from sampan.containerd.leases import Leases
from sampan.containerd.metadata import Metadata, now
from sampan.containerd.services import Image
from sampan.containerd.snapshots.kinds import SnapshotterKinds
from sampan.containerd.stores import open_stores
from sampan.oci import digest, image
from sampan.oci.image import Descriptor, descriptor_document


class Place:
    """Stores with images made of nothing but documents; layers are committed as empty snapshots."""

    def __init__(self, path):
        self.path = path
        self.metadata = Metadata(f"{path}/core.db")
        create_table(self.metadata)
        self.kinds = SnapshotterKinds(self.metadata, f"{path}/snapshots")
        self.stores = open_stores(self.metadata, str(path), self.kinds, "test", is_engines=True)
        self.content, self.images = self.stores.content, self.stores.images
        self.snapshots = self.stores.snapshotters["overlayfs"]
        self.leases = Leases(self.metadata, "test")

    def close(self):
        self.kinds.close()
        self.metadata.close()

    def put(self, media_type: str, data: bytes) -> Descriptor:
        return Descriptor(media_type, self.content.put(data), len(data))

    def make(self, *layers: str) -> tuple[Descriptor, list[str]]:
        """A manifest with a layer blob and a snapshot for each name; (target, chain IDs)."""
        diff_ids = [digest.of(layer.encode()) for layer in layers]
        chain = digest.chain_ids(diff_ids)
        blobs = [self.put("application/vnd.oci.image.layer.v1.tar", f"layer {layer}".encode()) for layer in layers]
        config = self.put(image.MEDIA_OCI_CONFIG, json.dumps({"rootfs": {"diff_ids": diff_ids}}).encode())
        document = {
            "schemaVersion": 2,
            "config": descriptor_document(config),
            "layers": [descriptor_document(blob) for blob in blobs],
        }
        for parent, name in zip(["", *chain[:-1]], chain, strict=True):
            try:
                self.snapshots.prepare("x", parent)
                self.snapshots.commit(name, "x", synced=True)
            except errors.AlreadyExists:
                self.snapshots.remove("x")
        return self.put(image.MEDIA_OCI_MANIFEST, json.dumps(document).encode()), chain

    def index(self, *members: Descriptor) -> Descriptor:
        document = {"schemaVersion": 2, "manifests": [descriptor_document(member) for member in members]}
        return self.put(image.MEDIA_OCI_INDEX, json.dumps(document).encode())

    def blobs(self) -> set[str]:
        return {info.digest for info in self.content.walk()}

    def chains(self) -> set[str]:
        return {info.name for info in self.snapshots.walk()}


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.close()


def test_a_name_is_made_found_moved_and_deleted(place):
    one, two = Descriptor("t", digest.of(b"1"), 1), Descriptor("t", digest.of(b"2"), 2, {"a": "b"})
    made = place.images.put(Image("r.io/x:1", one, labels={"l": "v"}))
    assert place.images.get("r.io/x:1") == made
    assert (made.target, dict(made.labels)) == (one, {"l": "v"})
    assert made.created_at == made.updated_at > 0
    moved = place.images.put(Image("r.io/x:1", two))
    assert (moved.target, moved.created_at) == (two, made.created_at)
    assert moved.updated_at >= made.updated_at
    place.images.put(Image("r.io/a:1", one))
    assert [one.name for one in place.images.list()] == ["r.io/a:1", "r.io/x:1"]
    place.images.delete("r.io/x:1")
    for verb in (place.images.get, place.images.delete):
        with pytest.raises(errors.NotFound):
            verb("r.io/x:1")


def test_containerd_namespaces_have_their_own_names(place):
    other = open_stores(place.metadata, str(place.path), place.kinds, "other").images
    place.images.put(Image("x", Descriptor("t", digest.of(b"1"), 1)))
    assert list(other.list()) == []


def test_everything_a_name_reaches_is_kept(place):
    one, _ = place.make("a", "b")
    two, _ = place.make("a", "c")
    place.images.put(Image("x", place.index(one, two, Descriptor("t", digest.of(b"absent"), 1))))
    blobs, chains = place.blobs(), place.chains()
    assert place.images.collect() == 0
    assert (place.blobs(), place.chains()) == (blobs, chains)


def test_what_no_name_reaches_goes(place):
    one, chain = place.make("a", "b")
    two, other = place.make("a", "c")
    place.images.put(Image("x", one))
    freed = place.images.collect()
    assert freed > 0
    assert place.chains() == set(chain)
    assert two.digest not in place.blobs()
    assert other[1] not in place.chains()
    place.images.delete("x")
    place.images.collect()
    assert (place.blobs(), place.chains()) == (set(), set())
    assert place.images.collect() == 0


def test_a_container_keeps_its_chain_and_nothing_else(place):
    target, chain = place.make("a", "b", "c")
    place.snapshots.prepare("container", chain[1])
    place.images.put(Image("x", target))
    place.images.delete("x")
    place.images.collect()
    assert place.chains() == {"container", *chain[:2]}
    assert place.blobs() == set()


def test_a_lease_keeps_what_it_names(place):
    target, chain = place.make("a")
    with place.leases.held("pull") as lease:
        lease.protect(leases.CONTENT, [target.digest, digest.of(b"not yet there")])
        lease.protect(leases.SNAPSHOT, chain)
        place.images.collect()
        assert place.blobs() == {target.digest}
        assert place.chains() == set(chain)
    place.images.collect()
    assert (place.blobs(), place.chains()) == (set(), set())


def test_an_artifact_under_a_name_is_a_leaf(place):
    odd = place.put("text/plain", b"no document at all")
    place.images.put(Image("x", odd))
    assert place.images.collect() == 0
    assert place.blobs() == {odd.digest}


def test_an_image_whose_blobs_are_missing_does_not_stop_a_collection(place):
    place.images.put(Image("x", Descriptor(image.MEDIA_OCI_MANIFEST, digest.of(b"gone"), 1)))
    place.content.put(b"garbage")
    assert place.images.collect() == len(b"garbage")


def test_an_index_that_names_itself_is_no_endless_walk(place):
    """It cannot name its own digest, but two can share members many times over."""
    target, _ = place.make("a")
    for _ in range(12):
        target = place.index(target, target, target)
    place.images.put(Image("x", target))
    assert place.images.collect() == 0


def test_ingests_are_given_up_after_a_day(place):
    for ref in ("old", "new", "busy"):
        ingest = place.content.writer(ref)
        ingest.write(b"12345")
        ingest.close()
    for file in (place.path / "content/ingest").iterdir():
        if file.name != "2":  # numbered in the order above
            os.utime(file, ns=(0, now() - INGEST_KEPT_NS))
    busy = place.content.writer("busy")
    assert place.images.collect() == 5
    assert [ref for ref, _, _ in place.content.ingests()] == ["new", "busy"]
    busy.close()


def test_a_collection_beside_writers_takes_nothing_that_was_named(place):
    """Threads commit layers under leases while another collects: what ends up named is whole."""
    done = threading.Event()
    failures: list[BaseException] = []

    def collecting():
        try:
            while not done.is_set():
                place.images.collect()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=collecting)
    thread.start()
    try:
        for i in range(15):
            data = f"blob {i}".encode()
            name = digest.of(data)
            with place.leases.held(f"pull {i}") as lease:
                lease.protect(leases.CONTENT, [name])
                place.content.put(data)
                place.images.put(Image(f"x:{i}", Descriptor("t", name, len(data))))
    finally:
        done.set()
        thread.join()
    assert failures == []
    assert [place.content.read(digest.of(f"blob {i}".encode())) for i in range(15)]


def test_what_only_a_clients_lease_holds_stays_also_after_a_restart(place):
    """And what a pull held that the last process did not end is free."""
    kept, lost = place.content.put(b"a client's"), place.content.put(b"a pull's")
    place.stores.leases.create("a client's", {})
    place.stores.leases.add("a client's", "content", kept)
    held = place.leases.held("pull")
    held.__enter__().protect(leases.CONTENT, [lost])
    assert place.images.collect() == 0
    leases.forget_transfers(place.metadata)
    assert place.images.collect() == len(b"a pull's")
    assert place.blobs() == {kept}


def test_what_labels_and_containers_name_stays(place):
    """containerd's rules hold in the engine's namespace as well: a client may keep its own there."""
    root = place.content.put(b"root", {"containerd.io/gc.root": "x"})
    below = place.content.put(b"below")
    place.content.label(root, {"containerd.io/gc.ref.content.0": below})
    place.snapshots.prepare("x", "")
    place.snapshots.commit("base", "x")
    place.stores.containers.create(
        Container("c", runtime="r", spec=Payload("t", b""), snapshotter="overlayfs", snapshot_key="base")
    )
    place.content.put(b"gone")
    assert place.images.collect() == len(b"gone")
    assert place.blobs() == {root, below} and place.chains() == {"base"}
