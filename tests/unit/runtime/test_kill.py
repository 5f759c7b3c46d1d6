from __future__ import annotations

import signal

import pytest

from sampan.errors import InvalidArgument
from sampan.runtime.kill import SIGNALS, parse_signal


def test_the_names_are_the_systems() -> None:
    for name, number in SIGNALS.items():
        known = getattr(signal, f"SIG{name}", None)
        assert known is None or known == number, name


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("9", 9),
        ("KILL", 9),
        ("SIGKILL", 9),
        ("sigterm", 15),
        ("RTMIN", 34),
        ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63),
        ("0", 0),
    ],
)
def test_a_signal_is_named_in_many_ways(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["FOO", "", "65", "-1", "9x", "RTMIN+99", "RTMIN+", "SIG"])
def test_what_is_no_signal_is_refused_in_runcs_words(text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        parse_signal(text)
    assert str(refused.value) == f'unknown signal "{text}"'
