"""docker images: summaries and their filters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.unit.engine.images.shelf import Shelf, shelf

from sampan.containerd.services import Image
from sampan.engine.filters import Filters
from sampan.engine.images import listing
from sampan.errors import InvalidArgument, NotFound


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Shelf]:
    with shelf(tmp_path) as made:
        made.add("docker.io/library/old:1", "base", "x", created="2020-01-01T00:00:00Z", config={"Labels": {"a": "1"}})
        made.add("localhost:5000/team/new:2", "base", "y", created="2025-01-01T00:00:00.5Z")
        yield made


def shown(images: Shelf, **filters: list[str]) -> list[str]:
    return [summary.RepoTags[0] for summary in listing.summaries(images.catalog, Filters(filters))]


def test_the_newest_comes_first_with_all_its_members(images: Shelf) -> None:
    first, second = listing.summaries(images.catalog, Filters())
    assert first.RepoTags == ["localhost:5000/team/new:2"]
    assert first.Created == 1735689600
    assert first.Size >= 2000
    assert (first.SharedSize, first.Containers, first.Labels, first.ParentId) == (-1, -1, None, "")
    assert second.Labels == {"a": "1"}
    assert "VirtualSize" not in msgspec.to_builtins(first)


def test_older_versions_see_the_virtual_size(images: Shelf) -> None:
    first = listing.summaries(images.catalog, Filters(), version=(1, 43))[0]
    assert msgspec.to_builtins(first)["VirtualSize"] == first.Size


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"reference": ["old"]}, ["old:1"]),
        ({"reference": ["old:*"]}, ["old:1"]),
        ({"reference": ["o?d:[0-9]"]}, ["old:1"]),
        ({"reference": ["new"]}, []),
        ({"reference": ["*/*/new"]}, ["localhost:5000/team/new:2"]),
        ({"reference": ["localhost:5000/*"]}, []),
        ({"label": ["a=1"]}, ["old:1"]),
        ({"label": ["a=2"]}, []),
        ({"before": ["localhost:5000/team/new:2"]}, ["old:1"]),
        ({"since": ["old:1"]}, ["localhost:5000/team/new:2"]),
        ({"until": ["2022-01-01"]}, ["old:1"]),
        ({"dangling": ["true"]}, []),
        ({"dangling": ["false"]}, ["localhost:5000/team/new:2", "old:1"]),
    ],
)
def test_filters_choose(images: Shelf, filters: dict[str, list[str]], found: list[str]) -> None:
    assert shown(images, **filters) == found


def test_a_filter_that_names_no_image_or_is_no_pattern_is_refused(images: Shelf) -> None:
    with pytest.raises(NotFound):
        shown(images, before=["nope"])
    with pytest.raises(InvalidArgument):
        shown(images, reference=["[a"])


def test_a_dangling_image_shows_as_each_version_expects(images: Shelf) -> None:
    details = images.add("", "z")
    images.core.images.put(Image(f"moby-dangling@{details.manifest.digest}", details.manifest))
    (new,) = listing.summaries(images.catalog, Filters({"dangling": ["1"]}))
    assert (new.RepoTags, new.RepoDigests) == ([], [])
    (old,) = listing.summaries(images.catalog, Filters({"dangling": ["1"]}), version=(1, 41))
    assert (old.RepoTags, old.RepoDigests) == (["<none>:<none>"], ["<none>@<none>"])


def test_disk_usage_counts_each_layer_once(images: Shelf) -> None:
    total, summaries = listing.disk_usage(images.catalog, images.containers)
    assert 3000 <= total < sum(summary.Size for summary in summaries)
    assert all(summary.SharedSize >= 1000 for summary in summaries)
    assert all(summary.Containers == 0 for summary in summaries)
