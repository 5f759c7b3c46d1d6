"""rmi and prune, in Docker's order and words."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.engine.images.shelf import Shelf, shelf

from sampan.api.docker.images import ImageDelete
from sampan.containerd.images import ImageStore
from sampan.containerd.services import Image
from sampan.engine.filters import Filters
from sampan.engine.images import names
from sampan.engine.images.catalog import Details
from sampan.engine.images.remove import short
from sampan.errors import Conflict, NotFound
from sampan.oci import image

CONTAINER = "c" * 64


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Shelf]:
    with shelf(tmp_path) as made:
        yield made


def lines(done: list[ImageDelete]) -> list[str]:
    return [f"Untagged: {line.Untagged}" if line.Untagged else f"Deleted: {line.Deleted}" for line in done]


def pulled(images: Shelf, name: str, *layers: str) -> Details:
    """Named by tag and by digest, as a pull leaves it."""
    details = images.add(f"docker.io/library/{name}", *layers)
    repository = name.partition(":")[0]
    images.core.images.put(Image(f"docker.io/library/{repository}@{details.manifest.digest}", details.manifest))
    return details


def test_the_last_name_takes_digests_image_and_layers_with_it(images: Shelf) -> None:
    details = pulled(images, "a:1", "x", "y")
    assert lines(images.remove("a:1")) == [
        "Untagged: a:1",
        f"Untagged: a@{details.manifest.digest}",
        f"Deleted: {details.id}",
        f"Deleted: {details.chain[1]}",
        f"Deleted: {details.chain[0]}",
    ]
    assert images.names() == []
    assert list(images.core.content.walk()) == []
    assert images.events.actions() == ["untag", "untag", "delete"]


def test_layers_of_another_image_stay(images: Shelf) -> None:
    first = pulled(images, "a:1", "x", "y")
    pulled(images, "b:1", "x", "z")
    done = lines(images.remove("a:1"))
    assert f"Deleted: {first.chain[1]}" in done
    assert f"Deleted: {first.chain[0]}" not in done


def test_one_of_two_names_is_only_untagged(images: Shelf) -> None:
    details = pulled(images, "a:1", "x")
    names.tag(images.catalog, images.events, "a:1", "b", "2")
    assert lines(images.remove("b:2")) == ["Untagged: b:2"]
    assert images.catalog.find("a:1")[0].id == details.id


def test_by_id_an_image_of_two_repositories_must_be_forced(images: Shelf) -> None:
    details = images.add("docker.io/library/a:1", "x")
    names.tag(images.catalog, images.events, "a:1", "b", "2")
    text = "(must be forced) - image is referenced in multiple repositories"
    with pytest.raises(Conflict) as caught:
        images.remove(details.id)
    assert str(caught.value) == f"conflict: unable to delete {short(details.id)} {text}"
    assert lines(images.remove(details.id, force=True))[:2] == ["Untagged: a:1", "Untagged: b:2"]
    assert images.names() == []


def test_by_short_id_the_only_name_goes_too(images: Shelf) -> None:
    details = images.add("docker.io/library/a:1", "x")
    assert lines(images.remove(short(details.id)))[:2] == ["Untagged: a:1", f"Deleted: {details.id}"]


def test_a_name_that_a_container_uses_must_be_forced(images: Shelf) -> None:
    details = pulled(images, "a:1", "x")
    images.containers.images[details.id] = [(CONTAINER, False)]
    with pytest.raises(Conflict) as caught:
        images.remove("a:1")
    assert str(caught.value) == (
        f'conflict: unable to remove repository reference "a:1" (must force) - '
        f"container {CONTAINER[:12]} is using its referenced image {short(details.id)}"
    )
    assert images.catalog.find("a:1")


def test_forced_under_a_running_container_only_the_name_goes(images: Shelf) -> None:
    details = pulled(images, "a:1", "x")
    images.containers.images[details.id] = [(CONTAINER, True)]
    done = lines(images.remove("a:1", force=True))
    assert done == ["Untagged: a:1", f"Untagged: a@{details.manifest.digest}"]
    assert images.catalog.find(details.id)[0].id == details.id
    assert images.names() == [f"moby-dangling@{details.manifest.digest}"]


@pytest.mark.parametrize(
    ("running", "text"),
    [
        (True, "(cannot be forced) - image is being used by running container"),
        (False, "(must be forced) - image is being used by stopped container"),
    ],
)
def test_by_id_a_container_stands_in_the_way(images: Shelf, running: bool, text: str) -> None:
    details = images.add("docker.io/library/a:1", "x")
    images.containers.images[details.id] = [(CONTAINER, running)]
    with pytest.raises(Conflict) as caught:
        images.remove(details.id)
    assert str(caught.value) == f"conflict: unable to delete {short(details.id)} {text} {CONTAINER[:12]}"
    if running:
        with pytest.raises(Conflict):
            images.remove(details.id, force=True)
    else:
        assert f"Deleted: {details.id}" in lines(images.remove(details.id, force=True))


def test_a_tag_that_moves_leaves_its_old_image_dangling(images: Shelf) -> None:
    old = images.add("docker.io/library/a:1", "x")
    new = images.add("docker.io/library/b:1", "y")
    names.tag(images.catalog, images.events, "b:1", "a", "1")
    assert images.catalog.find("a:1")[0].id == new.id
    assert images.catalog.entry_of(old.id).tags == []
    names.tag(images.catalog, images.events, old.id, "back", "")
    assert [tag.familiar for tag in images.catalog.entry_of(old.id).tags] == ["back:latest"]
    assert not any(name.startswith("moby-dangling") for name in images.names())


def test_what_is_missing_is_named(images: Shelf) -> None:
    with pytest.raises(NotFound, match=r"^No such image: nope:latest$"):
        images.remove("nope")


def test_prune_takes_dangling_images_and_all_unused_when_told(images: Shelf) -> None:
    old = images.add("docker.io/library/a:1", "x")
    new = images.add("docker.io/library/b:1", "y")
    used = images.add("docker.io/library/c:1", "z")
    images.containers.images[used.id] = [(CONTAINER, False)]
    names.tag(images.catalog, images.events, "b:1", "a", "1")
    done, freed = images.prune(Filters())
    assert lines(list(done)) == [f"Deleted: {old.id}", f"Deleted: {old.chain[0]}"]
    assert freed >= 1000
    done, _ = images.prune(Filters({"dangling": ["false"]}))
    assert f"Deleted: {new.id}" in lines(list(done))
    assert [entry.id for entry in images.catalog.entries()] == [used.id]


def test_prune_keeps_what_its_filters_exclude(images: Shelf) -> None:
    images.add("docker.io/library/a:1", "x", config={"Labels": {"keep": "yes"}}, created="2020-01-01T00:00:00Z")
    images.add("docker.io/library/b:1", "y", created="2025-01-01T00:00:00Z")
    all_unused = {"dangling": ["false"]}
    assert images.prune(Filters({**all_unused, "label!": ["keep"], "until": ["2024-01-01"]})) == ([], 0)
    assert images.prune(Filters({**all_unused, "label": ["keep=yes"], "until": ["2024-01-01"]}))[0]
    assert [entry.tags[0].familiar for entry in images.catalog.entries()] == ["b:1"]


def test_prune_takes_layers_that_a_container_kept_from_its_removed_image(images: Shelf) -> None:
    details = images.add("docker.io/library/a:1", "x")
    images.core.snapshots.prepare(CONTAINER, details.chain[-1])
    assert lines(images.remove("a:1")) == ["Untagged: a:1", f"Deleted: {details.id}"]
    images.core.snapshots.remove(CONTAINER)
    done, freed = images.prune(Filters())
    assert list(done) == []
    assert freed >= 1000
    assert list(images.core.snapshots.walk()) == []


def test_the_embedded_image_stays(images: Shelf) -> None:
    details = images.add("docker.io/sampan/host:latest", "x", layer_type=image.MEDIA_HOST_LAYER)
    names.tag(images.catalog, images.events, "sampan/host", "mine", "1")
    for text in ("sampan/host", details.id, short(details.id)):
        with pytest.raises(Conflict, match="image is embedded in sampan"):
            images.remove(text, force=True)
    assert images.prune(Filters({"dangling": ["false"]})) == ([], 0)
    assert lines(images.remove("mine:1")) == ["Untagged: mine:1"]


def test_the_loop_goes_on_while_the_image_is_collected(images: Shelf) -> None:
    """The collection ends only after something else has run on the loop; a second removal waits for its turn."""
    begun, free = threading.Event(), threading.Event()

    class Waiting(ImageStore):
        def collect(self) -> int:
            begun.set()
            assert free.wait(20), "the loop stood still"
            return images.core.images.collect()

    waiting = Waiting(images.core.metadata, images.core.namespace, lambda: 0)
    removal = dataclasses.replace(images.removal, names=waiting)
    pulled(images, "a:1", "x")

    async def both() -> list[ImageDelete]:
        first = asyncio.create_task(removal.remove("a:1"))
        second = asyncio.create_task(removal.remove("a:1"))
        await asyncio.to_thread(begun.wait, 20)
        assert not first.done() and not second.done()
        free.set()
        with pytest.raises(NotFound):
            await second
        assert first.done()
        return await first

    assert lines(asyncio.run(both()))[-1].startswith("Deleted: sha256:")
    assert list(images.core.content.walk()) == []
