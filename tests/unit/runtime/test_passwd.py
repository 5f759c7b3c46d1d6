from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.runtime.passwd import home_of


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path


def home(root: Path, uid: int) -> str:
    fd = os.open(root, os.O_PATH)
    try:
        return home_of(fd, uid)
    finally:
        os.close(fd)


def test_a_home_is_the_sixth_field_of_the_users_line(root: Path) -> None:
    (root / "etc/passwd").write_text("broken\nroot:x:0:0:root:/root:/bin/sh\nsam:x:7:7::/home/sam:\n")
    assert [home(root, uid) for uid in (0, 7, 8)] == ["/root", "/home/sam", "/"]


def test_without_a_file_it_is_the_root_directory(root: Path) -> None:
    assert home(root, 0) == "/"


def test_a_link_that_leads_outside_is_followed_inside(root: Path) -> None:
    os.symlink("/etc/real", root / "etc/passwd")
    (root / "etc/real").write_text("root:x:0:0::/inside:\n")
    assert home(root, 0) == "/inside"


def test_a_pipe_does_not_hold_us_up(root: Path) -> None:
    os.mkfifo(root / "etc/passwd")
    assert home(root, 0) == "/"


def test_of_a_huge_file_only_the_beginning_is_read(root: Path) -> None:
    (root / "etc/passwd").write_text("x" * (2 << 20) + "\nroot:x:0:0::/late:\n")
    assert home(root, 0) == "/"
