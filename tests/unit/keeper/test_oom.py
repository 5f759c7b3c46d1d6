"""Reading the kernel's counts of out-of-memory kills. The notices themselves: tests/linux/test_keeper_host.py."""

import pytest

from sampan.keeper.oom import parse_kills


@pytest.mark.parametrize(
    ("text", "kills"),
    [
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),
        ("low 0\nhigh 0\nmax 5\noom 2\noom_kill 1\noom_group_kill 0\n", 1),
        ("oom_kill_disable 0\nunder_oom 0\n", 0),
        ("", 0),
    ],
)
def test_kills_are_counted_the_same_in_v1_and_v2(text, kills):
    assert parse_kills(text) == kills
