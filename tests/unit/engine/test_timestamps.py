"""Times of the API."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine import timestamps
from sampan.errors import InvalidArgument


@given(st.integers(min_value=0, max_value=4 * 10**18))
def test_a_time_survives_the_way_through_its_text(moment: int) -> None:
    assert timestamps.from_rfc3339(timestamps.rfc3339(moment)) == moment


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00.5+01:00", 500_000_000),
        ("1970-01-01T00:00:00-00:30", 1800 * 10**9),
        ("1970-01-02", 86400 * 10**9),
        ("1970-01-01T00:01", 60 * 10**9),
    ],
)
def test_zones_fractions_and_short_forms_are_read(text: str, moment: int) -> None:
    assert timestamps.from_rfc3339(text) == moment


@pytest.mark.parametrize(("text", "moment"), [("12", 12 * 10**9), ("12.5", 12_500_000_000), ("1.000000001", 10**9 + 1)])
def test_unix_seconds_keep_their_fraction(text: str, moment: int) -> None:
    assert timestamps.from_query(text) == moment


def test_a_duration_counts_back_from_now() -> None:
    moment = timestamps.from_query("1h30m")
    assert moment is not None
    assert abs(time.time_ns() - moment - 5400 * 10**9) < 10**9


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "12m3", "1.x"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        timestamps.from_query(text)


def test_nothing_is_no_time() -> None:
    assert timestamps.from_query("") is None
    assert timestamps.from_query(None) is None
