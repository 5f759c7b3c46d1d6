"""Images by name and ID over a real core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.engine.images.shelf import Shelf, shelf

from sampan.containerd.services import Image
from sampan.errors import InvalidArgument, NotFound
from sampan.oci import platform


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Shelf]:
    with shelf(tmp_path) as made:
        yield made


def test_an_image_is_found_by_every_way_to_name_it(images: Shelf) -> None:
    details = images.add("docker.io/library/busybox:latest", "a", "b")
    images.core.images.put(Image(f"docker.io/library/busybox@{details.manifest.digest}", details.manifest))
    hexadecimal = details.id.removeprefix("sha256:")
    for text, shown in [
        ("busybox", "busybox:latest"),
        ("busybox:latest", "busybox:latest"),
        ("docker.io/library/busybox", "busybox:latest"),
        (f"busybox@{details.manifest.digest}", f"busybox@{details.manifest.digest}"),
        (f"busybox:other@{details.manifest.digest}", f"busybox:other@{details.manifest.digest}"),
        (details.id, details.id),
        (hexadecimal, hexadecimal),
        (hexadecimal[:6], hexadecimal[:6]),
        (f"sha256:{hexadecimal[:6]}", f"sha256:{hexadecimal[:6]}"),
    ]:
        record = images.catalog.resolve(text)
        assert (record.id, record.reference) == (details.id, shown), text
        assert record.parent == details.chain[-1]
        assert record.config["architecture"] == "amd64"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nope", "No such image: nope:latest"),
        ("localhost:5000/a:1", "No such image: localhost:5000/a:1"),
        ("sha256:" + "0" * 64, "No such image: sha256:" + "0" * 64),
        ("abcdef", "No such image: abcdef:latest"),
    ],
)
def test_what_is_not_there_is_named_in_dockers_words(images: Shelf, text: str, message: str) -> None:
    images.add("docker.io/library/busybox:latest", "a")
    with pytest.raises(NotFound, match=f"^{message}$"):
        images.catalog.resolve(text)


@pytest.mark.parametrize("text", ["", "UPPER", "a b", "x:", "-x"])
def test_a_malformed_name_is_an_invalid_argument(images: Shelf, text: str) -> None:
    with pytest.raises(InvalidArgument):
        images.catalog.resolve(text)


def test_a_prefix_of_two_images_names_neither(images: Shelf) -> None:
    ids = [images.add(f"docker.io/library/i{number}:latest", str(number)).id for number in range(17)]
    firsts = [one.removeprefix("sha256:")[0] for one in ids]
    twice = next(first for first in firsts if firsts.count(first) > 1)
    with pytest.raises(NotFound):
        images.catalog.resolve(twice)


def test_of_an_index_the_present_manifest_for_this_host_or_the_asked_platform_is_taken(images: Shelf) -> None:
    own = platform.host()
    mine = images.manifest("mine", os=own.os, architecture=own.architecture)
    other = images.manifest("other", os="linux", architecture="s390x")
    absent = images.manifest("absent", os="linux", architecture="ppc64le")
    index = images.index((absent, "linux", "ppc64le"), (other, "linux", "s390x"), (mine, own.os, own.architecture))
    images.core.content.delete(absent.digest)
    images.core.images.put(Image("docker.io/library/multi:1", index))
    assert images.catalog.find("multi:1")[0].manifest.digest == mine.digest
    assert images.catalog.find("multi:1", "linux/s390x")[0].manifest.digest == other.digest
    with pytest.raises(NotFound, match="does not match the specified platform"):
        images.catalog.find("multi:1", "linux/ppc64le")


def test_the_wrong_platform_is_told_with_both_platforms(images: Shelf) -> None:
    images.add("docker.io/library/busybox:latest", "a")
    text = (
        r"^image with reference busybox was found but its platform \(linux/amd64\) "
        r"does not match the specified platform \(linux/arm64\)$"
    )
    with pytest.raises(NotFound, match=text):
        images.catalog.resolve("busybox", "linux/arm64")


def test_one_image_with_many_names_is_one_entry(images: Shelf) -> None:
    details = images.add("docker.io/library/a:1", "x")
    images.core.images.put(Image("docker.io/library/b:2", details.manifest))
    images.core.images.put(Image(f"docker.io/library/a@{details.manifest.digest}", details.manifest))
    (entry,) = images.catalog.entries()
    assert [tag.familiar for tag in entry.tags] == ["a:1", "b:2"]
    assert [one.familiar for one in entry.digests] == [f"a@{details.manifest.digest}"]
    assert images.catalog.count() == 1


def test_an_image_whose_documents_went_away_is_not_shown(images: Shelf) -> None:
    details = images.add("docker.io/library/a:1", "x")
    assert images.catalog.count() == 1
    images.core.content.delete(details.id)
    assert images.catalog.count() == 0
    with pytest.raises(NotFound):
        images.catalog.resolve("a:1")


def test_the_size_is_that_of_all_layers(images: Shelf) -> None:
    details = images.add("docker.io/library/a:1", "x", "y")
    assert images.catalog.size(details) >= 2000
