"""pull and push: words, names and events around what the core moves."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.unit.engine.images.shelf import Shelf, shelf

from sampan.api.docker.images import ProgressLine
from sampan.containerd.services import Credentials, Descriptor, Image, Platform, Progress
from sampan.engine.images import names, transfer
from sampan.engine.images.transfer import Transfers, bar, credentials_from, line, pull_target
from sampan.errors import InvalidArgument, NotFound, Unauthorized, Unimplemented
from sampan.oci import platform as platforms


class Registry:
    """containerd.services.Transfer that has one image to give and remembers what it was handed."""

    def __init__(self, images: Shelf) -> None:
        self.images = images
        self.offered: Descriptor | None = None
        self.asked: list[tuple[str, Platform | None, Credentials]] = []
        self.pushed: list[str] = []

    async def pull(
        self,
        reference: str,
        *,
        platform: Platform | None,
        credentials: Credentials,
        progress: Callable[[Progress], None],
    ) -> Image:
        self.asked.append((reference, platform, credentials))
        if self.offered is None:
            raise Unauthorized("pull access denied")
        progress(Progress("latest", "Pulling from library/a"))
        progress(Progress("0123456789ab", "Downloading", 5, 10))
        progress(Progress("0123456789ab", "Pull complete"))
        progress(Progress("", f"Digest: {self.offered.digest}"))
        return self.images.core.images.put(Image(reference, self.offered))

    async def push(
        self, reference: str, *, credentials: Credentials, progress: Callable[[Progress], None]
    ) -> Descriptor:
        self.pushed.append(reference)
        return self.images.core.images.get(reference).target


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Shelf]:
    with shelf(tmp_path) as made:
        yield made


def pull(images: Shelf, registry: Registry, image: str, tag: str = "", platform: str = "") -> list[ProgressLine]:
    told: list[ProgressLine] = []
    transfers = Transfers(images.catalog, registry, images.events)
    asyncio.run(transfers.pull(image, tag, platform, Credentials(), told.append))
    return told


def test_a_pull_tells_each_step_and_names_the_digest(images: Shelf) -> None:
    registry = Registry(images)
    registry.offered = images.manifest("x")
    told = [msgspec.to_builtins(one) for one in pull(images, registry, "a", "latest")]
    assert told == [
        {"status": "Pulling from library/a", "id": "latest"},
        {
            "status": "Downloading",
            "progressDetail": {"current": 5, "total": 10},
            "progress": "[" + "=" * 25 + ">" + " " * 25 + "]       5B/10B",
            "id": "0123456789ab",
        },
        {"status": "Pull complete", "progressDetail": {}, "id": "0123456789ab"},
        {"status": f"Digest: {registry.offered.digest}"},
    ]
    assert images.names() == ["docker.io/library/a:latest", f"docker.io/library/a@{registry.offered.digest}"]
    assert images.events.events == [("image", "pull", "a:latest", {"name": "a"})]


def test_a_newer_image_leaves_the_older_one_with_its_digest(images: Shelf) -> None:
    registry = Registry(images)
    registry.offered = first = images.manifest("x")
    pull(images, registry, "a:1")
    registry.offered = images.manifest("y")
    pull(images, registry, "a:1")
    old = images.catalog.find(f"a@{first.digest}")[0]
    assert images.catalog.entry_of(old.id).tags == []


def test_an_image_that_was_only_tagged_does_not_get_lost_under_a_pull(images: Shelf) -> None:
    old = images.add("docker.io/library/a:1", "old")
    registry = Registry(images)
    registry.offered = images.manifest("new")
    pull(images, registry, "a:1")
    assert images.catalog.entry_of(old.id).tags == []
    assert images.catalog.find(old.id)[0].id == old.id


def test_a_pull_that_fails_changes_no_name(images: Shelf) -> None:
    images.add("docker.io/library/a:1", "old")
    before = images.names()
    with pytest.raises(Unauthorized):
        pull(images, Registry(images), "a:1")
    assert images.names() == before


def test_the_platform_goes_to_the_registry(images: Shelf) -> None:
    registry = Registry(images)
    registry.offered = images.manifest("x", architecture="arm64")
    pull(images, registry, "a:1", platform="linux/arm64/v8")
    assert registry.asked[0][1] == Platform("linux", "arm64")


def test_an_image_of_another_platform_than_asked_for_is_kept_with_a_warning(images: Shelf) -> None:
    registry = Registry(images)
    registry.offered = images.manifest("x", architecture="s390x")
    assert pull(images, registry, "a:1", platform="linux/arm64")[-1].status == (
        "WARNING: image with reference a:1 was found but its platform (linux/s390x) "
        "does not match the specified platform (linux/arm64)"
    )


def test_the_last_pull_decides_which_platform_a_name_stands_for(images: Shelf) -> None:
    own = platforms.host()
    mine = images.manifest("mine", os=own.os, architecture=own.architecture)
    other = images.manifest("other", os="linux", architecture="s390x")
    registry = Registry(images)
    registry.offered = images.index((mine, own.os, own.architecture), (other, "linux", "s390x"))
    pull(images, registry, "a:1", platform="linux/s390x")
    assert images.catalog.find("a:1")[0].manifest.digest == other.digest
    names.tag(images.catalog, images.events, "a:1", "b", "2")
    assert images.catalog.find("b:2")[0].manifest.digest == other.digest
    pull(images, registry, "a:1")
    assert images.catalog.find("a:1")[0].manifest.digest == mine.digest
    assert images.catalog.find("b:2")[0].manifest.digest == other.digest


@pytest.mark.parametrize(
    ("image", "tag", "name"),
    [
        ("a", "1", "docker.io/library/a:1"),
        ("a:1", "", "docker.io/library/a:1"),
        ("a:1", "2", "docker.io/library/a:2"),
        ("localhost:5000/a", "sha256:" + "0" * 64, "localhost:5000/a@sha256:" + "0" * 64),
        ("a:1@sha256:" + "0" * 64, "", "docker.io/library/a@sha256:" + "0" * 64),
    ],
)
def test_image_and_tag_make_one_name(image: str, tag: str, name: str) -> None:
    assert str(pull_target(image, tag)) == name


def test_bad_names_and_all_tags_are_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"^invalid tag format$"):
        pull_target("a", "-bad")
    with pytest.raises(InvalidArgument):
        pull_target("BAD", "1")
    with pytest.raises(Unimplemented):
        pull_target("a", "")


def test_a_push_tells_where_and_what_and_names_the_digest(images: Shelf) -> None:
    details = images.add("localhost:5000/a:1", "x")
    images.core.images.put(Image("localhost:5000/a:2", details.manifest))
    registry, told = Registry(images), []
    transfers = Transfers(images.catalog, registry, images.events)
    asyncio.run(transfers.push("localhost:5000/a", "1", Credentials(), told.append))
    digest, size = details.manifest.digest, details.manifest.size
    assert [msgspec.to_builtins(one) for one in told] == [
        {"progressDetail": {}, "aux": {"Tag": "1", "Digest": digest, "Size": size}},
    ]
    assert registry.pushed == ["localhost:5000/a:1"]
    assert f"localhost:5000/a@{digest}" in images.names()
    asyncio.run(transfers.push("localhost:5000/a", "", Credentials(), told.append))
    assert registry.pushed[1:] == ["localhost:5000/a:1", "localhost:5000/a:2"]


def test_a_push_of_what_is_not_there_is_not_found(images: Shelf) -> None:
    transfers = Transfers(images.catalog, Registry(images), images.events)
    for tag in ("", "1"):
        with pytest.raises(NotFound, match=r"^An image does not exist locally with the tag: a$"):
            asyncio.run(transfers.push("a", tag, Credentials(), lambda _: None))


@pytest.mark.parametrize(
    ("current", "total", "text"),
    [
        (0, 0, "      0B"),
        (1500, 0, "   1.5kB"),
        (0, 100, "[>" + " " * 50 + "]       0B/100B"),
        (100, 100, "[" + "=" * 50 + ">]     100B/100B"),
        (1_234_567, 45_678_901, "[=>" + " " * 49 + "]  1.235MB/45.68MB"),
    ],
)
def test_the_bar_is_dockers(current: int, total: int, text: str) -> None:
    assert bar(current, total) == text


def test_a_plain_line_has_no_progress() -> None:
    assert msgspec.to_builtins(line(Progress("", "hello"))) == {"status": "hello"}


def header(**members: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(members).encode()).decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Credentials()),
        ("", Credentials()),
        (header(), Credentials()),
        (header(username="u", password="p", serveraddress="s"), Credentials("u", "p")),
        (header(username="u", password="p").rstrip("="), Credentials("u", "p")),
        (header(auth=base64.b64encode(b"u:p:q").decode()), Credentials("u", "p:q")),
        (header(identitytoken="i", registrytoken="r"), Credentials("", "", "i", "r")),
        ("not base64 at all", Credentials()),
    ],
)
def test_the_auth_header_is_read_as_dockerd_reads_it(text: str | None, expected: Credentials) -> None:
    assert credentials_from(text) == expected


def test_a_failure_is_told_twice_as_clients_expect() -> None:
    assert msgspec.to_builtins(transfer.failure(NotFound("gone"))) == {
        "errorDetail": {"message": "gone"},
        "error": "gone",
    }
