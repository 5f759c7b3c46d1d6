"""`services.Content`: one suite for every content store."""

from __future__ import annotations

import os

import pytest

from sampan import errors
from sampan.containerd.content import ContentStore
from sampan.containerd.metadata import Metadata
from sampan.containerd.reachability import DOCUMENT_LIMIT
from sampan.oci import digest

DATA = b"some bytes" * 1000
NAME = digest.of(DATA)


class Place:
    def __init__(self, path):
        self.path = path
        self.metadata = Metadata(f"{path}/core.db")
        self.content = ContentStore(self.metadata, f"{path}/content", "test")

    def again(self):
        """The store as the next process finds it."""
        self.metadata.close()
        self.__init__(self.path)
        self.content.recover()
        return self.content

    def files(self):
        return sorted(
            str(p.relative_to(self.path / "content")) for p in (self.path / "content").rglob("*") if p.is_file()
        )


@pytest.fixture
def place(tmp_path):
    place = Place(tmp_path)
    yield place
    place.metadata.close()


@pytest.fixture
def content(place):
    return place.content


def test_what_was_written_is_read_under_its_digest(content):
    ingest = content.writer("ref")
    ingest.write(DATA[:5000])
    ingest.write(memoryview(DATA)[5000:])
    assert ingest.offset == len(DATA)
    assert ingest.commit(len(DATA), NAME, {"a": "b"}) == NAME
    assert content.read(NAME) == DATA
    with content.open(NAME) as file:
        file.seek(5)
        assert file.read(5) == b"bytes"
    info = content.info(NAME)
    assert (info.digest, info.size, dict(info.labels)) == (NAME, len(DATA), {"a": "b"})
    assert [one.digest for one in content.walk()] == [NAME]


def test_a_blob_that_is_too_large_for_a_document_is_not_read_whole(content):
    """Whatever an image calls its manifest or configuration is read into memory (CVE-2023-25153)."""
    for size, fits in ((DOCUMENT_LIMIT, True), (DOCUMENT_LIMIT + 1, False)):
        name = content.put(bytes(size))
        if fits:
            assert len(content.read(name)) == size
            continue
        with pytest.raises(errors.InvalidArgument, match=f"content {name}: larger than {DOCUMENT_LIMIT} bytes"):
            content.read(name)
        with content.open(name) as file:
            assert len(file.read()) == size


def test_what_is_not_there_is_not_found(content):
    missing = digest.of(b"other")
    for verb in (content.info, content.read, content.open, content.delete):
        with pytest.raises(errors.NotFound, match=missing):
            verb(missing)


def test_names_that_are_no_digests_reach_no_file(content):
    for bad in ("../../etc/passwd", "sha256:../../../../etc/passwd", "sha256:"):
        with pytest.raises((errors.NotFound, errors.InvalidArgument)):
            content.read(bad)


def test_an_ingest_survives_the_process_and_goes_on_where_it_was(place):
    ingest = place.content.writer("ref")
    ingest.write(DATA[:3000])
    ingest.close()
    ingest = place.again().writer("ref")
    assert ingest.offset == 3000
    ingest.write(DATA[3000:])
    assert ingest.commit(len(DATA), NAME) == NAME
    assert place.content.read(NAME) == DATA


def test_a_ref_has_one_writer_at_a_time(content):
    ingest = content.writer("ref")
    with pytest.raises(errors.Unavailable):
        content.writer("ref")
    content.writer("other").close()
    ingest.close()
    content.writer("ref").close()


def test_refs_of_any_text_are_apart(content):
    first, second = content.writer("../a"), content.writer("a/../../b")
    first.write(b"1")
    assert (first.offset, second.offset) == (1, 0)
    first.close()
    second.close()


@pytest.mark.parametrize("size, expected", [(len(DATA) + 1, NAME), (len(DATA), digest.of(b"other")), (1, None)])
def test_wrong_bytes_are_dropped(place, size, expected):
    ingest = place.content.writer("ref")
    ingest.write(DATA)
    with pytest.raises(errors.DataLoss):
        ingest.commit(size, expected)
    ingest.close()
    assert place.files() == []
    assert place.content.writer("ref").offset == 0


def test_a_blob_that_is_there_is_not_stored_again(place):
    place.content.put(DATA)
    ingest = place.content.writer("ref")
    ingest.write(DATA)
    with pytest.raises(errors.AlreadyExists):
        ingest.commit(len(DATA), NAME)
    ingest.close()
    assert place.files() == [f"blobs/sha256/{NAME[7:]}"]


def test_commit_works_without_expectations(content):
    ingest = content.writer("ref")
    ingest.write(DATA)
    assert ingest.commit(None, None) == NAME


def test_a_sha512_digest_is_kept_under_its_own_name(content):
    name = digest.of(DATA, "sha512")
    ingest = content.writer("ref")
    ingest.write(DATA)
    assert ingest.commit(len(DATA), name) == name
    assert content.read(name) == DATA


def test_truncate_begins_anew(content):
    ingest = content.writer("ref")
    ingest.write(b"wrong")
    ingest.truncate()
    assert ingest.offset == 0
    ingest.write(DATA)
    assert ingest.commit(len(DATA), NAME) == NAME


def test_abort_drops_the_bytes_and_the_ref(place):
    ingest = place.content.writer("ref")
    ingest.write(DATA)
    ingest.abort()
    assert place.files() == []
    assert list(place.content.ingests()) == []
    with pytest.raises(errors.NotFound):
        place.content.abort("ref")


def test_a_ref_that_is_being_written_is_aborted_and_its_writer_cannot_commit(place):
    ingest = place.content.writer("ref")
    ingest.write(DATA[:10])
    place.content.abort("ref")
    assert place.files() == [] and list(place.content.ingests()) == []
    ingest.write(DATA[10:])
    with pytest.raises(errors.NotFound):
        ingest.commit(len(DATA), NAME)
    assert not place.content.has(NAME)
    with pytest.raises(errors.Unavailable):
        place.content.writer("ref")
    ingest.close()
    assert place.content.writer("ref").offset == 0


def test_put_is_idempotent(content):
    assert content.put(DATA, {"a": "1"}) == content.put(DATA) == NAME
    assert dict(content.info(NAME).labels) == {"a": "1"}


def test_delete_removes_row_and_file(place):
    place.content.put(DATA)
    place.content.delete(NAME)
    assert place.files() == []
    with pytest.raises(errors.NotFound):
        place.content.delete(NAME)


def test_a_crash_between_file_and_row_leaves_no_orphan(place):
    place.content.put(DATA)
    other = place.path / "content/blobs/sha256" / ("0" * 64)
    other.write_bytes(b"renamed, but not yet named")
    (place.path / "content/ingest/999").write_bytes(b"made, but not yet named")
    place.again()
    assert place.files() == [f"blobs/sha256/{NAME[7:]}"]


def test_containerd_namespaces_see_their_own_blobs_and_share_the_file(place):
    other = ContentStore(place.metadata, f"{place.path}/content", "other")
    place.content.put(DATA)
    with pytest.raises(errors.NotFound):
        other.read(NAME)
    other.put(DATA)
    place.content.delete(NAME)
    assert other.read(NAME) == DATA
    other.delete(NAME)
    assert place.files() == []


def test_labels_are_merged_and_emptied(content):
    content.put(DATA, {"a": "1", "b": "2"})
    assert dict(content.label(NAME, {"b": "", "c": "3"}).labels) == {"a": "1", "c": "3"}
    with pytest.raises(errors.NotFound):
        content.label(digest.of(b"other"), {})


def test_descriptors_are_given_back(place):
    before = len(os.listdir("/proc/self/fd"))
    for i in range(20):
        place.content.put(b"%d" % i)
        place.content.writer(f"r{i}").close()
    assert len(os.listdir("/proc/self/fd")) == before
