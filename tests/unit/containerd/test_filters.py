"""containerd's filter grammar."""

from __future__ import annotations

import pytest

from sampan.containerd import filters
from sampan.errors import InvalidArgument

IMAGE = {"name": "docker.io/library/busybox:1", "labels.a.b/c": "x,y", "empty": ""}


def fields(path):
    return IMAGE.get(".".join(path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True),
        ("name", True),
        ("absent", False),
        ("empty", True),
        ("name==docker.io/library/busybox:1", True),
        ("name==docker.io", False),
        ("name!=docker.io", True),
        ("absent!=x", True),
        ("absent==", False),
        ("name~=busy.*:1$", True),
        ("name~=|^docker.io/|", True),
        ("name~=/^docker.io\\//", True),
        ('labels."a.b/c"=="x,y"', True),
        ('labels."a.b/c"=="x"', False),
        ("name,empty", True),
        ("name,absent", False),
        (" name == docker.io/library/busybox:1, empty", True),
        ('name=="docker.io/library/busy\\x62ox\\u003a1"', True),
        # no regular expression matches nothing, and is no error
        ("name~=(", False),
    ],
)
def test_a_filter_matches_what_its_selectors_say(text, expected):
    if text == "absent==":
        with pytest.raises(InvalidArgument):
            filters.parse([text])
        return
    assert filters.parse([text]).matches(fields) is expected


def test_one_of_several_filters_is_enough_and_none_is_no_restriction():
    assert filters.parse(["absent", "name"]).matches(fields)
    assert not filters.parse(["absent", "nothere"]).matches(fields)
    assert filters.parse([]).matches(fields)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name=x", 'filters: parse error: [name >|=|< x]: unsupported operator "="'),
        ("bad//", "filters: parse error: [bad >|/|< /]: expected an operator"),
        ("name==/x/", "invalid quote encountered"),
        ('name=="x', "quoted literal not terminated"),
        ("name,", "[name,]: expected field or quoted"),
        ("name==", "[name==]: expected value or quoted"),
        ("name==a , empty", "[name==a >| |< , empty]: unexpected input:  "),
        ("labels.a/b", "[labels.a >|/|< b]: quoted literal not terminated"),
        ('name=="\\q"', "unquoting failed"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_place(text, said):
    with pytest.raises(InvalidArgument) as refused:
        filters.parse([text])
    assert said in str(refused.value)
