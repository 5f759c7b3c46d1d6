"""Go's regular expressions by Python's engine."""

from __future__ import annotations

import pytest

from sampan.containerd.patterns import pattern


@pytest.mark.parametrize(
    ("text", "value", "matches"),
    [
        ("x[[:digit:]]3", "x13", True),
        ("(?i)X13", "x13", True),
        ("(a(?i)B)c", "abc", True),
        ("(a(?i)B)C", "abc", False),
        ("a|(?i)B|C", "c", True),
        (r"\x{78}$", "x", True),
        ("a$", "a\n", False),
        ("(?m)a$", "a\nb", True),
        (r"a\z", "a", True),
        (r"\Qa.b\E", "a.b", True),
        (r"\Qa.b\E", "axb", False),
        ("[^]a]", "b", True),
        (r"[\]x]+$", "]x", True),
        ("(?P<n>x)", "x", True),
        (r"\d", "\N{ARABIC-INDIC DIGIT THREE}", False),
    ],
)
def test_what_go_matches_is_matched(text, value, matches):
    found = pattern(text)
    assert found is not None
    assert bool(found.search(value)) is matches


@pytest.mark.parametrize("text", ["[", "*", "(", "x(?=1)", "(?<!x)y", r"(x)\1", "a++", "(?>x)", "[[:nothing:]]"])
def test_what_go_does_not_know_is_no_pattern(text):
    assert pattern(text) is None
