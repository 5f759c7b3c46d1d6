"""Events of the real kernel on a directory of our own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.linux import abi, inotify

pytestmark = pytest.mark.root


def test_what_happens_in_a_directory_is_told(tmp_path: Path) -> None:
    fd = inotify.init()
    watch = inotify.add_watch(fd, str(tmp_path), abi.IN_CREATE | abi.IN_DELETE | abi.IN_ONLYDIR)
    assert inotify.read(fd) == []
    (tmp_path / "späte datei").write_text("")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub").rmdir()
    assert [(w, mask, name) for w, mask, _, name in inotify.read(fd)] == [
        (watch, abi.IN_CREATE, "späte datei"),
        (watch, abi.IN_CREATE | abi.IN_ISDIR, "sub"),
        (watch, abi.IN_DELETE | abi.IN_ISDIR, "sub"),
    ]
    inotify.rm_watch(fd, watch)
    assert [(w, mask) for w, mask, _, _ in inotify.read(fd)] == [(watch, abi.IN_IGNORED)]
    with pytest.raises(FileNotFoundError):
        inotify.add_watch(fd, str(tmp_path / "missing"), abi.IN_MODIFY)
    os.close(fd)
