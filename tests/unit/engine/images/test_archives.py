"""save and load: which images, under which names, in which words. The archives themselves are the core's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from tests.unit.engine.images.shelf import Shelf, shelf

from sampan.api.docker.images import ProgressLine
from sampan.containerd.services import Image
from sampan.engine.images import names
from sampan.engine.images.archives import Archives
from sampan.errors import InvalidArgument, NotFound
from sampan.oci import image


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Shelf]:
    with shelf(tmp_path / "first") as made:
        yield made


def saved(images: Shelf, *texts: str) -> bytes:
    return b"".join(Archives(images.catalog, images.core.transfer, images.events).save(texts))


def loaded(images: Shelf, archive: bytes) -> list[str]:
    told: list[ProgressLine] = []

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(archive), 1000):
            yield archive[start : start + 1000]

    archives = Archives(images.catalog, images.core.transfer, images.events)
    asyncio.run(archives.load(pieces(), True, told.append))
    return [one.stream for one in told]


def added(images: Shelf, name: str, *layers: str) -> str:
    """Its ID."""
    return images.add(name, *layers).id


def tags(images: Shelf, image_id: str) -> Sequence[str]:
    return [tag.familiar for tag in images.catalog.entry_of(image_id).tags]


def test_what_was_saved_by_name_comes_back_under_its_name(images: Shelf, tmp_path: Path) -> None:
    image_id = added(images, "docker.io/library/a:1", "x")
    archive = saved(images, "a:1")
    assert images.events.events[-1] == ("image", "save", image_id, {"name": image_id})
    with shelf(tmp_path / "second") as other:
        assert loaded(other, archive) == ["Loaded image: a:1\n"]
        assert tags(other, image_id) == ["a:1"]
        assert other.events.events[-1] == ("image", "load", image_id, {"name": image_id})


def test_a_repository_stands_for_all_of_its_tags(images: Shelf, tmp_path: Path) -> None:
    image_id = added(images, "docker.io/library/a:1", "x")
    names.tag(images.catalog, images.events, "a:1", "a", "2")
    added(images, "docker.io/library/b:1", "y")
    archive = saved(images, "a")
    with shelf(tmp_path / "second") as other:
        assert loaded(other, archive) == ["Loaded image: a:1\n", "Loaded image: a:2\n"]
        assert tags(other, image_id) == ["a:1", "a:2"]


def test_by_id_an_image_has_no_name_in_the_archive(images: Shelf, tmp_path: Path) -> None:
    image_id = added(images, "docker.io/library/a:1", "x")
    archive = saved(images, image_id[7:19])
    with shelf(tmp_path / "second") as other:
        assert loaded(other, archive) == [f"Loaded image ID: {image_id}\n"]
        assert tags(other, image_id) == []
        assert other.names() == [f"moby-dangling@{other.catalog.entry_of(image_id).details.manifest.digest}"]
        # Again: it is the same image, and still one without a name.
        assert loaded(other, archive) == [f"Loaded image ID: {image_id}\n"]
        assert len(other.names()) == 1


def test_a_name_that_is_taken_moves_and_its_image_stays(images: Shelf, tmp_path: Path) -> None:
    image_id = added(images, "docker.io/library/a:1", "x")
    archive = saved(images, "a:1")
    with shelf(tmp_path / "second") as other:
        old = added(other, "docker.io/library/a:1", "old")
        assert loaded(other, archive) == [
            f"The image a:1 already exists, renaming the old one with ID {old} to empty string\n",
            "Loaded image: a:1\n",
        ]
        assert tags(other, image_id) == ["a:1"]
        assert tags(other, old) == []


def test_what_is_missing_or_cannot_be_saved_is_refused_before_the_first_byte(images: Shelf) -> None:
    with pytest.raises(NotFound, match=r"^No such image: nope:latest$"):
        saved(images, "nope")
    images.add("docker.io/sampan/host:latest", "h", layer_type=image.MEDIA_HOST_LAYER)
    with pytest.raises(InvalidArgument, match="cannot be saved"):
        saved(images, "sampan/host")


def test_what_is_no_archive_changes_no_name(images: Shelf) -> None:
    added(images, "docker.io/library/a:1", "x")
    before: list[Image] = list(images.core.images.list())
    with pytest.raises(InvalidArgument):
        loaded(images, b"garbage" * 200)
    assert list(images.core.images.list()) == before
