"""Mounts of layers are kept while they are of use, and not all for ever."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from tests.contract import layers

from sampan.containerd.diff.erofs_layer import FILE, index_layer
from sampan.containerd.snapshots.layer_mounts import KEPT, SETTLED, LayerMounts

pytestmark = pytest.mark.root


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path) -> str:
    index_layer(io.BytesIO(layers.layer(layers.file("f", b"content"))), str(tmp_path))
    return f"{tmp_path}/{FILE}"


def held() -> int:
    """Descriptors of this process that are such mounts."""
    return sum(is_root(fd) for fd in os.listdir("/proc/self/fd"))


def is_root(fd: str) -> bool:
    try:
        return os.listdir(f"/proc/self/fd/{fd}/.") == ["f"]
    except OSError:
        return False


def test_a_layer_is_mounted_once_and_shows_its_files(file):
    mounts = LayerMounts()
    fd = mounts.get(1, file)
    assert Path(f"/proc/self/fd/{fd}/f").read_bytes() == b"content"
    assert mounts.get(1, file) == fd
    assert mounts.get(2, f"{file}.nothing") == -1
    mounts.drop(1)
    mounts.drop(1)
    assert held() == 0
    mounts.get(1, file)
    mounts.close()
    assert held() == 0


def test_what_was_not_asked_for_lately_is_given_up_when_there_are_many(file):
    clock = Clock()
    mounts = LayerMounts(clock)
    first = [mounts.get(number, file) for number in range(KEPT)]
    clock.now += SETTLED + 1
    assert mounts.get(0, file) == first[0]  # asked for again: it stays
    mounts.get(KEPT, file)
    assert held() == KEPT
    assert is_root(str(first[0]))
    mounts.close()


def test_what_somebody_may_be_about_to_use_is_not_given_up(file):
    mounts = LayerMounts(Clock())
    for number in range(KEPT + 5):
        mounts.get(number, file)
    assert held() == KEPT + 5
    mounts.close()
