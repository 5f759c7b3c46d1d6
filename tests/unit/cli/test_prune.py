"""What the prune commands ask the engine, and what they tell of its answer."""

from __future__ import annotations

import io
from typing import Any, cast

import pytest

from sampan.cli import prune, volumes
from sampan.cli.main import Context


class Engine(Context):
    """A context whose engine gives one answer and keeps what it was asked."""

    def __init__(self, name: str, answer: dict[str, Any]) -> None:
        super().__init__("", True, name)
        self.answer = answer
        self.asked: list[tuple[str, str, Any]] = []

    def api(self) -> Any:
        return self

    def call(self, method: str, path: str, query: Any = None) -> dict[str, Any]:
        self.asked.append((method, path, cast(Any, query)))
        return self.answer


def test_stopped_containers_are_named_and_the_room_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine("container prune", {"ContainersDeleted": ["a1", "b2"], "SpaceReclaimed": 1500})
    assert prune.containers(engine, ["-f", "--filter", "until=1h"]) == 0
    assert engine.asked == [("POST", "/containers/prune", {"filters": {"until": ["1h"]}})]
    assert capsys.readouterr().out == "Deleted Containers:\na1\nb2\n\nTotal reclaimed space: 1.5kB\n"


@pytest.mark.parametrize(("words", "dangling"), [(["-f"], "true"), (["-af"], "false")])
def test_images_are_the_dangling_ones_or_all(
    words: list[str], dangling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = [{"Untagged": "a:1"}, {"Deleted": "sha256:1"}]
    engine = Engine("image prune", {"ImagesDeleted": gone, "SpaceReclaimed": 0})
    assert prune.images(engine, words) == 0
    assert engine.asked == [("POST", "/images/prune", {"filters": {"dangling": [dangling]}})]
    assert capsys.readouterr().out == (
        "Deleted Images:\nuntagged: a:1\ndeleted: sha256:1\n\nTotal reclaimed space: 0B\n"
    )


def test_nothing_to_remove_is_no_list(capsys: pytest.CaptureFixture[str]) -> None:
    prune.containers(Engine("container prune", {"ContainersDeleted": None, "SpaceReclaimed": 0}), ["-f"])
    assert capsys.readouterr().out == "Total reclaimed space: 0B\n"


@pytest.mark.parametrize(("typed", "asks"), [("y\n", 1), ("YES\n", 1), ("n\n", 0), ("\n", 0), ("", 0)])
def test_without_force_a_yes_is_needed(
    typed: str, asks: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for command, name, what in (
        (prune.containers, "container prune", "all stopped containers"),
        (prune.images, "image prune", "all dangling images"),
        (volumes.prune, "volume prune", "anonymous local volumes not used by at least one container"),
    ):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        engine = Engine(name, {})
        assert command(engine, []) == 0
        assert len(engine.asked) == asks
        assert f"WARNING! This will remove {what}.\n" in capsys.readouterr().out
