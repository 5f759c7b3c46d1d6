"""The local volume driver over a real sqlite database and a real directory."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from sampan.engine.filters import Filters
from sampan.engine.volumes.local import LocalVolumes, check_name, directory_size
from sampan.errors import Conflict, InvalidArgument, NotFound

USER = "f" * 64


class Heard:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []

    def publish(self, kind: str, action: str, actor_id: str, attributes: Mapping[str, str]) -> None:
        self.events.append((kind, action, actor_id))


class Containers:
    def __init__(self, used: Sequence[str] = ()) -> None:
        self.used = list(used)

    def using_image(self, image_id: str) -> Sequence[tuple[str, bool]]:
        return []

    def using_volume(self, name: str) -> Sequence[str]:
        return [USER] if name in self.used else []

    def counts(self) -> Mapping[str, int]:
        return {}


class Room:
    def __init__(self, root: Path) -> None:
        self.path = str(root / "engine.db")
        self.root = str(root)
        self.events, self.containers = Heard(), Containers()
        self.volumes = self.reopened()

    def reopened(self) -> LocalVolumes:
        return LocalVolumes(sqlite3.connect(self.path), self.root, events=self.events, usage=self.containers)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_a_volume_is_a_directory_and_survives_a_restart(room: Room) -> None:
    made = room.volumes.create("data", labels={"a": "b"})
    assert made.mountpoint == f"{room.root}/volumes/data/_data"
    assert os.path.isdir(made.mountpoint)
    assert room.volumes.mount("data") == made.mountpoint
    assert room.reopened().get("data") == made
    assert room.events.events == [("volume", "create", "data")]


def test_creating_it_again_gives_the_one_that_is_there(room: Room) -> None:
    first = room.volumes.create("data", labels={"a": "b"})
    assert room.volumes.create("data", labels={"c": "d"}) == first


def test_an_anonymous_volume_has_a_name_of_64_hex_digits_and_its_label(room: Room) -> None:
    made = room.volumes.create()
    assert len(made.name) == 64
    int(made.name, 16)
    assert made.anonymous
    assert dict(made.labels) == {"com.docker.volume.anonymous": ""}
    assert room.reopened().get(made.name).anonymous


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "x/y",
            'create x/y: "x/y" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path',
        ),
        ("x", "create x: volume name is too short, names should be at least two alphanumeric characters"),
        (".hidden", 'create .hidden: ".hidden" includes invalid characters'),
        ("ok\n", "includes invalid characters"),
        ("..", "includes invalid characters"),
    ],
)
def test_a_bad_name_is_refused_in_dockers_words(name: str, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_name(name)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"foo": "1"}, 'create v1: invalid option: "foo"'),
        ({"type": "tmpfs"}, 'create v1: missing required option: "device"'),
        ({"o": "ro"}, 'create v1: missing required option: "device"'),
        ({"size": "1m"}, "create v1: quota size requested but no quota support"),
    ],
)
def test_bad_options_are_refused_and_leave_nothing(room: Room, options: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{text}$"):
        room.volumes.create("v1", options=options)
    assert os.listdir(f"{room.root}/volumes") == []


def test_another_driver_is_not_found(room: Room) -> None:
    with pytest.raises(NotFound, match='create v1: error looking up volume plugin foo: plugin "foo" not found'):
        room.volumes.create("v1", driver="foo")
    room.volumes.create("v2")
    with pytest.raises(NotFound, match='plugin "foo" not found'):
        room.volumes.create("v2", driver="foo")


def test_a_missing_volume_is_named(room: Room) -> None:
    with pytest.raises(NotFound, match=r"^get nope: no such volume$"):
        room.volumes.get("nope")
    with pytest.raises(NotFound):
        room.volumes.remove("nope")
    room.volumes.remove("nope", force=True)


def test_a_volume_in_use_stays(room: Room) -> None:
    room.volumes.create("data")
    room.containers.used.append("data")
    with pytest.raises(Conflict, match=rf"^remove data: volume is in use - \[{USER}\]$"):
        room.volumes.remove("data")
    assert room.volumes.get("data")


def test_removing_takes_directory_and_row(room: Room) -> None:
    made = room.volumes.create("data")
    Path(made.mountpoint, "file").write_text("x")
    room.volumes.remove("data")
    assert not os.path.exists(f"{room.root}/volumes/data")
    with pytest.raises(NotFound):
        room.reopened().get("data")
    assert room.events.events[-1] == ("volume", "destroy", "data")


def test_prune_takes_unused_anonymous_ones_unless_told_to_take_all(room: Room) -> None:
    named, anonymous, used = room.volumes.create("named"), room.volumes.create(), room.volumes.create()
    room.containers.used.append(used.name)
    Path(anonymous.mountpoint, "file").write_bytes(bytes(1000))
    assert room.volumes.prune(Filters()) == ([anonymous.name], 1000)
    assert room.volumes.prune(Filters({"all": ["1"]})) == ([named.name], 0)
    assert [volume.name for volume in room.volumes.list()] == [used.name]


def test_prune_keeps_what_its_label_filters_exclude(room: Room) -> None:
    for name, labels in (("aa", {"keep": "1"}), ("bb", {}), ("cc", {"keep": "2"})):
        room.volumes.create(name, labels=labels)
    assert room.volumes.prune(Filters({"label!": ["keep=1"], "label": ["keep"]}), everything=True)[0] == ["cc"]


def test_lists_are_filtered(room: Room) -> None:
    room.volumes.create("web-data", labels={"tier": "front"})
    room.volumes.create("db-data")
    room.containers.used.append("db-data")

    def names(**filters: list[str]) -> list[str]:
        return [volume.name for volume in room.volumes.list(Filters(filters))]

    assert names() == ["db-data", "web-data"]
    assert names(name=["web"]) == ["web-data"]
    assert names(label=["tier=front"]) == ["web-data"]
    assert names(dangling=["true"]) == ["web-data"]
    assert names(dangling=["false"]) == ["db-data"]
    assert names(driver=["other"]) == []


def test_a_statement_joins_the_transaction_that_is_open(room: Room) -> None:
    connection = sqlite3.connect(room.path)
    volumes = LocalVolumes(connection, room.root, events=room.events, usage=room.containers)
    connection.execute("create table other (x)")
    connection.execute("insert into other values (1)")
    assert connection.in_transaction
    volumes.create("data")
    assert connection.in_transaction
    connection.rollback()
    assert connection.execute("select count(*) from volumes").fetchone() == (0,)


def test_a_file_with_two_names_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(100))
    (tmp_path / "dir").mkdir()
    os.link(tmp_path / "a", tmp_path / "dir" / "b")
    (tmp_path / "link").symlink_to("/etc")
    assert directory_size(str(tmp_path)) >= 100
    assert directory_size(str(tmp_path)) < 200
    assert directory_size(str(tmp_path / "missing")) == 0


def test_disk_usage_tells_size_and_users(room: Room) -> None:
    made = room.volumes.create("data")
    Path(made.mountpoint, "file").write_bytes(bytes(10))
    room.containers.used.append("data")
    (shown,) = room.volumes.disk_usage()
    assert shown.UsageData.Size == 10  # type: ignore[union-attr]
    assert shown.UsageData.RefCount == 1  # type: ignore[union-attr]


def test_a_volume_of_any_depth_is_measured_and_removed(room: Room) -> None:
    """A container makes directories deeper than a path can say; neither df nor rm may stop there."""
    made = room.volumes.create("deep")
    with open(f"{made.mountpoint}/file", "wb") as file:
        file.write(bytes(1000))
    fd = os.open(made.mountpoint, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    assert directory_size(made.mountpoint) == 1000
    room.volumes.remove("deep")
    assert not os.path.exists(os.path.dirname(made.mountpoint))
