"""What a layer may make us remember is bounded: its blob of a few kilobytes can be members without end."""

from __future__ import annotations

import time
from collections.abc import Iterable

import pytest
from tests.contract.layers import Member, directory, file, hardlink, layer, symlink, xattrs

from sampan.containerd.diff import layer_tree, tree
from sampan.containerd.diff.apply import LayerWriter
from sampan.containerd.diff.layer_tree import LayerTree
from sampan.containerd.diff.names import MAX_PATH
from sampan.errors import InvalidArgument
from sampan.wire.layer_tar import Entry, LayerTar


@pytest.fixture(params=["tree", "directory", "directory over others"])
def unpack(request, tmp_path, monkeypatch):
    """Members as a layer in memory, or written out; each with an allowance of a hundred kilobytes."""
    for module in (layer_tree, tree):
        monkeypatch.setattr(module, "_ALLOWANCE", 100_000)
    monkeypatch.setattr(layer_tree, "_WAITING", 100_000)

    def in_memory(members: Iterable[Member]) -> None:
        made = LayerTree()
        for event in LayerTar().feed(layer(*members)):
            if isinstance(event, Entry):
                made.add(event)
        made.finish()

    def on_disk(members: Iterable[Member]) -> None:
        (tmp_path / "root").mkdir()
        (tmp_path / "scratch").mkdir()
        over = request.param != "directory"
        writer = LayerWriter(
            str(tmp_path / "root"), str(tmp_path / "scratch"), whiteouts="remove" if over else "overlay"
        )
        try:
            writer.feed(layer(*members))
            writer.finish()
        finally:
            writer.close()

    return in_memory if request.param == "tree" else on_disk


LONG = "n" * 200


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([hardlink(f"{LONG}{i}", f"absent{LONG}") for i in range(300)], id="links that wait"),
        pytest.param([file(f"{i}/" + "d/" * 1000 + "f") for i in range(2)], id="directories without members"),
        pytest.param([directory(f"{LONG}{i}") for i in range(600)], id="directories"),
    ],
)
def test_names_without_end_are_refused(unpack, members):
    with pytest.raises(InvalidArgument, match="invalid layer: too many names to remember"):
        unpack(members)


def test_what_a_usual_layer_has_is_not(unpack):
    unpack(
        [directory("d"), *(file(f"d/{i}") for i in range(100)), hardlink("d/0", "d/1"), symlink("d/2", "x" * MAX_PATH)]
    )


def test_a_name_is_as_long_as_a_path_may_be(unpack):
    name = "/".join([*[LONG] * 20, "n" * 75])
    assert len(name) == MAX_PATH
    unpack([file(name)])


def test_a_longer_one_is_refused_as_by_docker(unpack):
    for member in (file("d/" * (MAX_PATH // 2) + "ff"), hardlink("h", "d/" * (MAX_PATH // 2) + "ff")):
        with pytest.raises(InvalidArgument, match="File name too long"):
            LayerTree().add(next(iter(LayerTar().feed(layer(member)))))
    with pytest.raises(InvalidArgument, match="File name too long"):
        unpack([file("a/" * 50_000 + "f")])


def test_many_attributes_take_no_more_than_their_number():
    member = xattrs(file("f"), **{f"user__a{i}": b"" for i in range(20_000)})
    began = time.process_time()
    made = LayerTree()
    made.add(next(iter(LayerTar().feed(layer(member)))))
    assert len(made.existing(b"f").xattrs) == 20_000
    assert time.process_time() - began < 1.0  # a copy of all before for each one took six
