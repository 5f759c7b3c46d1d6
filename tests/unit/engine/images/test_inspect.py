"""docker image inspect and docker history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.unit.engine.images.shelf import Shelf, shelf

from sampan.engine.images import inspect

CREATED = "2024-05-06T07:08:09.123456789Z"


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Shelf]:
    with shelf(tmp_path) as made:
        made.add(
            "docker.io/library/a:1",
            "x",
            "y",
            created=CREATED,
            author="me",
            config={"Cmd": ["sh"], "Env": ["A=1"], "Hostname": "builder", "Healthcheck": {"Test": ["NONE"]}},
            history=[
                {"created": "2024-01-01T00:00:00Z", "created_by": "ADD x"},
                {"created": "2024-01-02T00:00:00Z", "created_by": "ENV A=1", "empty_layer": True},
                {"created": CREATED, "created_by": "ADD y", "comment": "last"},
            ],
        )
        yield made


def test_inspect_has_every_member_of_the_newest_version(images: Shelf) -> None:
    document = msgspec.to_builtins(inspect.inspect(images.catalog, "a:1"))
    assert document["RepoTags"] == ["a:1"]
    assert document["Created"] == CREATED
    assert (document["Os"], document["Architecture"], document["Author"]) == ("linux", "amd64", "me")
    assert document["Comment"] == "last"
    assert document["RootFS"]["Type"] == "layers"
    assert len(document["RootFS"]["Layers"]) == 2
    assert document["GraphDriver"] == {"Data": None, "Name": "native"}
    assert document["Metadata"]["LastTagTime"].startswith("20")
    assert document["Config"] == {
        "Cmd": ["sh"],
        "Entrypoint": None,
        "Env": ["A=1"],
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": None,
        "OnBuild": None,
        "User": "",
        "Volumes": None,
        "WorkingDir": "",
    }
    assert not document.keys() & {"VirtualSize", "ContainerConfig", "Variant", "OsVersion"}


def test_older_versions_see_the_members_they_had(images: Shelf) -> None:
    document = msgspec.to_builtins(inspect.inspect(images.catalog, "a:1", (1, 41)))
    assert document["VirtualSize"] == document["Size"]
    assert document["ContainerConfig"]["Hostname"] == ""
    assert document["Config"]["Hostname"] == "builder"
    assert document["Config"]["AttachStdin"] is False


def test_history_runs_from_the_newest_and_gives_sizes_to_layers_only(images: Shelf) -> None:
    last, middle, first = inspect.history(images.catalog, "a:1")
    assert last.Id == images.catalog.find("a:1")[0].id
    assert last.Tags == ["a:1"]
    assert last.Comment == "last"
    assert last.Size >= 1000
    assert (middle.Id, middle.Size, middle.Tags) == ("<missing>", 0, None)
    assert first.Size >= 1000
    assert first.Created == 1704067200
