from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.runtime.flags import BOOL, INT, LIST, STRING, Flag, parse

KNOWN = [
    Flag("detach, d", BOOL, ""),
    Flag("bundle, b", STRING, ""),
    Flag("preserve-fds", INT, ""),
    Flag("env, e", LIST, ""),
    Flag("format, f", STRING, "", "table"),
]


@pytest.mark.parametrize(
    "words",
    [["-b", "/x", "id"], ["--bundle", "/x", "id"], ["--bundle=/x", "id"], ["-bundle=/x", "id"], ["id", "-b", "/x"]],
)
def test_a_value_may_be_given_in_each_of_gos_forms(words: list[str]) -> None:
    values, rest = parse(words, KNOWN)
    assert (values["bundle"], rest) == ("/x", ["id"])


def test_what_is_not_given_has_its_default_and_what_is_given_is_marked() -> None:
    values, _ = parse(["-f", "json"], KNOWN)
    assert (values["format"], values["detach"], values["preserve-fds"], values["env"]) == ("json", False, 0, [])
    assert values["format!"]
    assert "bundle!" not in values


def test_a_list_gathers_and_a_bool_takes_a_value_only_behind_an_equals_sign() -> None:
    values, rest = parse(["-e", "A=1", "--env=B=2", "-d=false", "--detach", "x"], KNOWN)
    assert (values["env"], values["detach"], rest) == (["A=1", "B=2"], True, ["x"])


def test_without_reordering_the_first_argument_ends_the_flags() -> None:
    assert parse(["-d", "id", "ls", "-b", "x"], KNOWN, reorder=False)[1] == ["id", "ls", "-b", "x"]
    assert parse(["id", "--", "-d"], KNOWN)[1] == ["id", "-d"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--nosuch"], "flag provided but not defined: -nosuch"),
        (["-b"], "flag needs an argument: -b"),
        (["--preserve-fds", "x"], 'invalid value "x" for flag -preserve-fds: parse error'),
        (["--detach=maybe"], 'invalid boolean value "maybe" for -detach: parse error'),
    ],
)
def test_a_mistake_has_gos_text(words: list[str], text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse(words, KNOWN)
    assert str(refused.value) == text


@given(st.lists(st.text(alphabet="-=bde1x", max_size=6), max_size=6))
def test_any_words_are_parsed_or_refused(words: list[str]) -> None:
    try:
        parse(words, KNOWN)
    except InvalidArgument:
        pass
