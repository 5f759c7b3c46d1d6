"""Names in a layer: cleaned so that none leads out, and the whiteout prefixes."""

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan import errors
from sampan.containerd.diff import names


@pytest.mark.parametrize(
    "name, path",
    [(b"a/b", b"a/b"), (b"a/b/", b"a/b"), (b"./a", b"a"), (b"/a", b"a"), (b"//a///b", b"a/b"), (b"a/./b", b"a/b"),
     (b"a/../b", b"b"), (b"../a", b"a"), (b"a/../../../b", b"b"), (b"./", b""), (b".", b""), (b"/", b""), (b"", b""),
     (b"..", b""), (b".hidden", b".hidden"), (b"a/..b", b"a/..b"), (b"a/...", b"a/..."), (b".wh.a", b".wh.a")],
)  # fmt: skip
def test_names_are_read_from_the_layers_root(name, path):
    assert names.clean(name) == path


def test_a_nul_is_refused():
    with pytest.raises(errors.InvalidArgument):
        names.clean(b"a\0b")


@given(st.lists(st.sampled_from([b"a", b"b", b".", b"..", b"", b"...", b".x"]), max_size=8).map(b"/".join))
def test_a_clean_name_is_what_posix_makes_of_it_under_a_root(name):
    assert names.clean(name) == posixpath.normpath(b"/" + name).lstrip(b"/")


def test_a_whiteout_names_what_it_removes():
    assert names.removed_by(b".wh.a") == b"a"
    assert names.removed_by(b".wh..wh.a") == b".wh.a"
    for bad in (b".wh.", b".wh..", b".wh..."):
        with pytest.raises(errors.InvalidArgument):
            names.removed_by(bad)


def test_a_path_is_split_at_its_last_name():
    assert (names.split(b"a/b/c"), names.split(b"a")) == ((b"a/b", b"c"), (b"", b"a"))


def test_overlays_own_xattrs_are_told_apart():
    assert names.is_forged_xattr("trusted.overlay.opaque")
    assert names.is_forged_xattr("user.overlay.redirect")
    assert not names.is_forged_xattr("security.capability")
