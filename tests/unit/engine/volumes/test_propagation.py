"""Mounts travel only where the host's own mount lets them."""

from __future__ import annotations

import pytest

from sampan.engine.volumes.propagation import refuse
from sampan.errors import Error
from sampan.linux import mountinfo

TABLE = mountinfo.parse(
    "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
    "2 1 0:1 / /shared rw shared:1 - tmpfs none rw\n"
    "3 1 0:2 / /slave rw master:1 - tmpfs none rw\n"
)


@pytest.mark.parametrize(
    ("path", "wanted"), [("/shared", "shared"), ("/shared/a", "slave"), ("/slave", "slave"), ("/slave/b", "slave")]
)
def test_what_the_hosts_mount_allows_is_let_pass(path, wanted):
    refuse(path, wanted, TABLE)


@pytest.mark.parametrize(
    ("path", "wanted", "text"),
    [
        ("/home", "shared", "path /home is mounted on / but it is not a shared mount"),
        ("/sharedness", "slave", "path /sharedness is mounted on / but it is not a shared or slave mount"),
        ("/slave/b", "shared", "path /slave/b is mounted on /slave but it is not a shared mount"),
    ],
)
def test_more_is_refused_in_dockers_words(path, wanted, text):
    with pytest.raises(Error) as caught:
        refuse(path, wanted, TABLE)
    assert str(caught.value) == text
