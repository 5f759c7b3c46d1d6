"""Users and groups of a container's own files."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine.containers.users import MAX_FILE, User, resolve
from sampan.errors import InvalidArgument

PASSWD = b"""root:x:0:0:root:/root:/bin/sh
# comment
bob:x:7:8::/home/bob:
broken
nohome:x:9:9:::
big:x:99999999999:1::/:
odd:x:5:-1::/:
dos:x:6:6::/dos:/bin/sh\r
gecos:x:5:5:a\x0bvt:x:0:0::/:\xc2\x85nel:x:0:0::/:\xe2\x80\xa8ls:x:0:0::/:/bin/sh
long:x:%s:0::/:
""" % (b"9" * 5000)
GROUP = b"root:x:0:\nwheel:x:10:root,bob\nbob:x:8:\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", User(0, 0, (0, 10), "/root")),
        ("bob", User(7, 8, (8, 10), "/home/bob")),
        ("7", User(7, 8, (8, 10), "/home/bob")),
        ("7:0", User(7, 0, (0,), "/home/bob")),
        ("bob:wheel", User(7, 10, (10,), "/home/bob")),
        ("1234", User(1234, 0, (0,), "/")),
        ("1234:4321", User(1234, 4321, (4321,), "/")),
        ("nohome", User(9, 9, (9,), "/")),
        ("dos", User(6, 6, (6,), "/dos")),
    ],
)
def test_users_resolve_as_in_runc(text, expected):
    assert resolve(text, PASSWD, GROUP) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alice", "unable to find user alice: no matching entries in passwd file"),
        ("bob:alice", "unable to find group alice: no matching entries in group file"),
        ("2147483648", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range 0-2147483647"),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
        ("big", "unable to find user big: no matching entries in passwd file"),
        ("odd", "unable to find user odd: no matching entries in passwd file"),
        *((name, f"unable to find user {name}: no matching entries in passwd file") for name in ("vt", "nel", "ls")),
        ("9" * 5000, f"unable to find user {'9' * 5000}: no matching entries in passwd file"),
    ],
)
def test_what_is_not_there_or_out_of_range_is_refused(text, message):
    with pytest.raises(InvalidArgument) as caught:
        resolve(text, PASSWD, GROUP)
    assert str(caught.value) == message


def test_added_groups_come_by_name_and_number():
    assert resolve("1234", PASSWD, GROUP, ("wheel", "77")).groups == (0, 10, 77)
    with pytest.raises(InvalidArgument, match="unable to find group nope"):
        resolve("", PASSWD, GROUP, ("nope",))


def test_an_image_without_files_still_has_a_root():
    assert resolve("", b"", b"") == User(0, 0, (0,), "/")


def test_only_the_beginning_of_an_endless_file_is_read():
    with pytest.raises(InvalidArgument):
        resolve("late", b"#" * MAX_FILE + b"\nlate:x:5:5::/:\n", b"")


@given(st.text(max_size=20), st.binary(max_size=200), st.binary(max_size=200))
def test_garbage_is_resolved_or_refused(text, passwd, group):
    try:
        found = resolve(text, passwd, group)
    except InvalidArgument:
        return
    assert 0 <= found.uid <= 2**31 - 1 and 0 <= found.gid <= 2**31 - 1
