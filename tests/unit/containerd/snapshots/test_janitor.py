"""The background deletion of trees."""

from __future__ import annotations

import os

import pytest
from tests.peers.waiting import eventually

from sampan.containerd.snapshots.disk import directory_usage
from sampan.containerd.snapshots.janitor import Janitor
from sampan.linux.trees import remove_tree


def make_tree(path, depth=3):
    path.mkdir()
    (path / "file").write_text("x")
    (path / "link").symlink_to("/etc")
    if depth:
        make_tree(path / "directory", depth - 1)


def test_what_is_discarded_is_gone_at_once_and_deleted_later(tmp_path):
    janitor = Janitor(str(tmp_path))
    make_tree(tmp_path / "1")
    janitor.discard(f"{tmp_path}/1")
    assert not (tmp_path / "1").exists()
    eventually(lambda: os.listdir(tmp_path / "trash") == [])
    janitor.discard(f"{tmp_path}/1")
    janitor.close()


def test_the_trash_of_a_crashed_process_is_emptied(tmp_path):
    (tmp_path / "trash").mkdir()
    make_tree(tmp_path / "trash" / "7")
    janitor = Janitor(str(tmp_path))
    eventually(lambda: os.listdir(tmp_path / "trash") == [])
    janitor.close()


def test_it_stays_closed(tmp_path):
    janitor = Janitor(str(tmp_path))
    janitor.close()
    make_tree(tmp_path / "1")
    janitor.discard(f"{tmp_path}/1")
    assert os.listdir(tmp_path / "trash") == ["1"]


def test_symlinks_are_removed_and_never_followed(tmp_path):
    trash, outside = tmp_path / "trash", tmp_path / "outside"
    trash.mkdir()
    make_tree(outside)
    (trash / "link").symlink_to(outside)
    make_tree(trash / "tree")
    (trash / "tree" / "out").symlink_to(outside)
    for name in ("link", "tree"):
        remove_tree(str(trash), name)
    assert list(trash.iterdir()) == []
    assert (outside / "file").exists()


@pytest.mark.parametrize("depth", [31, 32, 33, 200])
def test_deep_and_broad_trees_are_deleted(tmp_path, depth):
    trash = tmp_path / "trash"
    trash.mkdir()
    (trash / "1").mkdir()
    path = str(trash / "1")
    for _ in range(depth):
        for name in ("a", "b"):
            os.mkdir(f"{path}/{name}")
            open(f"{path}/{name}/f", "w").close()
        path += "/a"
    remove_tree(str(trash), "1")
    assert list(trash.iterdir()) == []


def test_usage_counts_blocks_and_links_once(tmp_path):
    (tmp_path / "a").write_bytes(bytes(10_000))
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "c").write_bytes(b"x")
    found = directory_usage(str(tmp_path))
    paths = [tmp_path, tmp_path / "a", tmp_path / "d", tmp_path / "d" / "c"]
    assert found.inodes == 4
    assert found.size == sum(p.stat().st_blocks * 512 for p in paths)
