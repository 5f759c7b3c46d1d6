"""What every `engine.services.Volumes` must do; run on the local driver and on the fake that other rooms test with."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from tests.fakes import FakeEvents, FakeVolumes

from sampan.engine.containers.room import Usage
from sampan.engine.containers.store import Store
from sampan.engine.services import Volumes
from sampan.engine.volumes.local import LocalVolumes
from sampan.errors import NotFound


@pytest.fixture(params=["local", "fake"])
def volumes(request: pytest.FixtureRequest, tmp_path: Path) -> Volumes:
    if request.param == "fake":
        return FakeVolumes(str(tmp_path))
    connection = sqlite3.connect(tmp_path / "db")
    return LocalVolumes(connection, str(tmp_path), events=FakeEvents(), usage=Usage(Store(connection)))


def test_a_new_volume_is_an_empty_directory_that_mount_gives(volumes: Volumes) -> None:
    made = volumes.create("data", labels={"a": "b"})
    assert (made.name, made.driver, dict(made.labels), made.anonymous) == ("data", "local", {"a": "b"}, False)
    assert os.listdir(made.mountpoint) == []
    assert volumes.mount("data") == made.mountpoint
    assert volumes.get("data") == made
    volumes.unmount("data")
    assert os.path.isdir(made.mountpoint)


def test_creating_it_again_gives_the_same(volumes: Volumes) -> None:
    assert volumes.create("data", labels={"a": "b"}) == volumes.create("data")


def test_without_a_name_it_is_anonymous_with_64_hex_digits(volumes: Volumes) -> None:
    first, second = volumes.create(), volumes.create()
    assert first.anonymous
    assert len(first.name) == 64
    assert first.name != second.name


def test_a_removed_volume_is_gone(volumes: Volumes) -> None:
    volumes.create("data")
    volumes.remove("data")
    with pytest.raises(NotFound, match=r"^get data: no such volume$"):
        volumes.get("data")
    with pytest.raises(NotFound):
        volumes.mount("data")


def test_removing_what_is_not_there_is_not_found_unless_forced(volumes: Volumes) -> None:
    with pytest.raises(NotFound):
        volumes.remove("nope")
    volumes.remove("nope", force=True)


def test_unmounting_what_is_not_there_is_nothing(volumes: Volumes) -> None:
    volumes.unmount("nope")
