"""Deleting trees: of any depth, and nothing besides."""

from __future__ import annotations

import os
from pathlib import Path

from sampan.linux.trees import remove_tree


def test_a_tree_of_any_depth_goes_and_what_its_links_name_stays(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "trash" / "one" / "sub").mkdir(parents=True)
    (tmp_path / "trash" / "one" / "sub" / "file").touch()
    (tmp_path / "trash" / "one" / "link").symlink_to(tmp_path)
    fd = os.open(tmp_path / "trash" / "one", os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=fd)
        os.mkdir("e", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    remove_tree(str(tmp_path / "trash"), "one")
    assert os.listdir(tmp_path / "trash") == []
    assert (tmp_path / "kept").read_text() == "kept"


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_tree(str(tmp_path), "nothing")
