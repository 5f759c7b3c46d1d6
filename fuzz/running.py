"""Running a target: which input comes next, and what of what happens is a finding."""

from __future__ import annotations

import importlib
import signal
import time
import traceback
from collections.abc import Callable
from random import Random
from types import ModuleType

from fuzz.mutation import of_bytes
from fuzz.targets import TARGETS

PATIENCE = 10
"""Seconds that one input may take."""


class Slow(BaseException):
    """One input took too long. Not an Exception, so that no parser catches it."""


class Finding(AssertionError):
    """An input that a target neither took nor refused as it should; the text says how to see it again."""


def load(name: str) -> ModuleType:
    """The module of a target. Errors: KeyError for a name that is not in the table."""
    return importlib.import_module(TARGETS[name])


def run(name: str, *, seed: int = 0, first: int = 0, count: int | None = None, seconds: float | None = None) -> int:
    """Feed inputs from number `first` on, until `count` or `seconds` are through; how many. Errors: Finding."""
    target = load(name)
    until = None if seconds is None else time.monotonic() + seconds
    number = first
    before = signal.signal(signal.SIGALRM, _too_slow)
    try:
        while (count is None or number < first + count) and (until is None or time.monotonic() < until):
            _one(name, target, seed, number)
            number += 1
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return number - first


def _one(name: str, target: ModuleType, seed: int, number: int) -> None:
    # Each input depends on its number alone, so that any can be made again without those before it.
    random = Random(f"{name} {seed} {number}")
    mutate: Callable[[bytes, Random], bytes] = getattr(target, "mutate", of_bytes)
    data = random.choice(target.SEEDS)
    if number >= len(target.SEEDS):
        data = mutate(data, random)
    else:
        data = target.SEEDS[number]
    signal.alarm(PATIENCE)
    try:
        target.feed(data, random)
    except target.ERRORS:
        pass
    except (Exception, Slow) as problem:
        shown = repr(data if len(data) < 2000 else data[:2000] + b"...")
        raise Finding(
            f"{name}: input {number} of seed {seed} ({len(data)} bytes)\n{shown}\n{traceback.format_exc(limit=-8)}\n"
            f"again: python -m fuzz {name} --seed {seed} --only {number}"
        ) from problem
    signal.alarm(0)


def _too_slow(number: int, frame: object) -> None:
    raise Slow(f"more than {PATIENCE} s")
