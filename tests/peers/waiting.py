"""Waiting for a state with a deadline: the only clock a scenario may use."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

INTERVAL = 0.02
"""Seconds between two looks; short, so that a deadline is never what a passing test costs."""


def eventually(look: Callable[[], Value], *, within: float = 15.0, what: str = "") -> Value:
    """Calls `look` until it returns something true and yields that.

    A `look` that raises AssertionError counts as "not yet". Raises AssertionError, naming `what` and the
    last value or complaint seen, when `within` seconds pass.
    """
    deadline = time.monotonic() + within
    last: object = None
    while True:
        try:
            value = look()
            if value:
                return value
            last = value
        except AssertionError as complaint:
            last = complaint
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within} s: {what or look}; last seen: {last!r}")
        time.sleep(INTERVAL)
