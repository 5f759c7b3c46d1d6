"""Members as they are written are what a tar reader reads."""

from __future__ import annotations

import io
import tarfile

import pytest

from sampan.wire import tar_member
from sampan.wire.layer_tar import DIRECTORY, FILE, SYMLINK, Entry, LayerTar


def read(data):
    return tarfile.open(fileobj=io.BytesIO(data + tar_member.END)).getmembers()


@pytest.mark.parametrize(
    "name",
    [
        b"short",
        b"n" * 100,
        b"d" * 80 + b"/" + b"n" * 90,
        b"d" * 155 + b"/" + b"n" * 100,
        b"d" * 160 + b"/n",
        b"n" * 300,
        "ä/ö".encode(),
        b"\xff\xfe",
        b"a/" * 900 + b"end",
    ],
)
def test_a_name_of_any_kind_is_read_back(name):
    (found,) = read(tar_member.member(name, FILE, mode=0o640))
    assert found.name.encode("utf-8", "surrogateescape") == name


@pytest.mark.parametrize("number", [0, 0o7777777, 0o10000000, 2**32 - 2])
def test_owners_of_any_size_are_read_back(number):
    (found,) = read(tar_member.member(b"f", FILE, mode=0o644, uid=number, gid=number, mtime=12))
    assert (found.uid, found.gid, found.mtime, found.mode) == (number, number, 12, 0o644)


def test_a_size_beyond_eight_gigabytes_and_binary_attributes_are_read_by_our_own_reader():
    header = tar_member.member(
        b"f", FILE, mode=0o755, size=9 << 30, xattrs={"security.capability": b"\1\0\0\n=\xff", "user.a": b"b"}
    )
    entry = next(event for event in LayerTar().feed(header) if isinstance(event, Entry))
    assert entry.size == 9 << 30
    assert dict(entry.xattrs) == {"security.capability": b"\1\0\0\n=\xff", "user.a": b"b"}


def test_links_and_directories_keep_their_kind():
    data = tar_member.member(b"d/", DIRECTORY, mode=0o1777) + tar_member.member(
        b"l", SYMLINK, mode=0o777, linkname=b"t" * 150
    )
    directory, link = read(data)
    assert directory.isdir() and directory.mode == 0o1777
    assert link.issym() and link.linkname == "t" * 150
