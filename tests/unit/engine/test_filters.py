"""The filters parameter: both shapes, and what each way of matching means."""

from __future__ import annotations

import pytest

from sampan.engine.filters import Filters
from sampan.errors import InvalidArgument


def test_both_shapes_say_the_same() -> None:
    for text in ('{"label":["a","b=c"]}', '{"label":{"a":true,"b=c":false}}'):
        assert Filters.parse(text).get("label") == ("a", "b=c")


@pytest.mark.parametrize("text", ["{", "[]", '{"a":1}', '{"a":[1]}', '{"a":{"b":"c"}}', '"x"'])
def test_a_malformed_filter_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^invalid filter$"):
        Filters.parse(text)


def test_a_filter_that_is_not_offered_is_named() -> None:
    with pytest.raises(InvalidArgument, match=r"^invalid filter 'colour'$"):
        Filters.parse('{"colour":["red"]}', ("name",))


@pytest.mark.parametrize("text", [None, "", "null"])
def test_no_text_lets_everything_pass(text: str | None) -> None:
    filters = Filters.parse(text)
    assert not filters
    assert filters.exact("a", "x")
    assert filters.prefix("a", "x")
    assert filters.search("a", "x")
    assert filters.labels({})


def test_a_boolean_filter_takes_dockers_four_words() -> None:
    assert Filters({"dangling": ["1"]}).boolean("dangling") is True
    assert Filters({"dangling": ["false"]}).boolean("dangling", True) is False
    with pytest.raises(InvalidArgument, match=r"invalid filter 'dangling=\[maybe\]'"):
        Filters({"dangling": ["maybe"]}).boolean("dangling")


def test_until_is_one_moment() -> None:
    assert Filters({"until": ["2"]}).until() == 2 * 10**9
    assert Filters().until() is None
    with pytest.raises(InvalidArgument, match=r"^more than one until filter specified$"):
        Filters({"until": ["1h", "2h"]}).until()
    with pytest.raises(InvalidArgument, match=r'^failed to parse value as time or duration: "x"$'):
        Filters({"until": ["x"]}).until()


def test_values_are_alternatives_and_names_are_searched_as_patterns() -> None:
    filters = Filters({"name": ["^web", "db"]})
    assert filters.search("name", "web1")
    assert filters.search("name", "mydb")
    assert not filters.search("name", "my-web")
    assert not Filters({"name": ["("]}).search("name", "x")


def test_labels_must_all_hold() -> None:
    filters = Filters({"label": ["a", "b=1"]})
    assert filters.labels({"a": "", "b": "1"})
    assert not filters.labels({"a": "", "b": "2"})
    assert not filters.labels({"b": "1"})
    assert not Filters({"label!": ["a=1"]}).without_labels({"a": "1"})
    assert Filters({"label!": ["a=1"]}).without_labels({"a": "2"})
