"""A path inside a volume: what its users do with its names never leads out of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.engine.volumes import subpaths
from sampan.errors import InvalidArgument, NotFound

pytestmark = pytest.mark.root


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    made = tmp_path / "volume"
    (made / "real").mkdir(parents=True)
    (made / "real" / "file").write_text("mine")
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "secret").write_text("secret")
    return made


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    found = tmp_path / "subpaths" / "id"
    yield found
    subpaths.release(str(found))
    assert not found.exists()


def test_a_directory_or_a_file_is_what_is_mounted(volume: Path, place: Path) -> None:
    (volume / "link").symlink_to("real")
    for number, name in enumerate(("real", "link", "real/file")):
        subpaths.bind(str(volume), name, f"{place}/{number}")
    assert (place / "0/file").read_text() == (place / "1/file").read_text() == (place / "2").read_text() == "mine"
    assert place.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("target", ["/", "../host", "real/../../host", "/proc/self/root"])
def test_a_symlink_does_not_lead_out(volume: Path, place: Path, target: str) -> None:
    (volume / "sub").symlink_to(target)
    for subpath in ("sub", "sub/secret"):
        with pytest.raises(InvalidArgument, match=r"^path concatenation escapes the base directory, base: "):
            subpaths.bind(str(volume), subpath, f"{place}/0")
    assert not place.exists()


def test_what_is_missing_or_no_directory_is_refused(volume: Path, place: Path) -> None:
    os.mkfifo(volume / "pipe")
    with pytest.raises(NotFound, match=r"^cannot access path .*/none: lstat .*/none: no such file or directory$"):
        subpaths.bind(str(volume), "none", f"{place}/0")
    with pytest.raises(InvalidArgument, match="unsupported file type"):
        subpaths.bind(str(volume), "pipe", f"{place}/0")


def test_a_name_that_is_swapped_all_the_time_shows_the_volume_or_nothing(volume: Path, place: Path) -> None:
    (volume / "sub").mkdir()
    (volume / "evil").symlink_to("../host")
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            os.rename(volume / "sub", volume / "aside")
            os.rename(volume / "evil", volume / "sub")
            os.rename(volume / "sub", volume / "evil")
            os.rename(volume / "aside", volume / "sub")

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        for number in range(300):
            try:
                subpaths.bind(str(volume), "sub", f"{place}/{number}")
            except (InvalidArgument, NotFound):
                continue
            assert os.listdir(place / str(number)) == []
    finally:
        ended.set()
        attacker.join()


def test_a_release_deletes_nothing_of_the_volume(volume: Path, place: Path) -> None:
    subpaths.bind(str(volume), "real", f"{place}/0")
    with open(place / "0" / "file"):  # in use
        subpaths.release(str(place))
    assert not place.exists()
    assert (volume / "real" / "file").read_text() == "mine"
