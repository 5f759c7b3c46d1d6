"""Garbage in, one error out: a share of each fuzz target, always the same inputs.

`python -m fuzz` goes on from there.
"""

from __future__ import annotations

import glob
import os

import pytest
from fuzz import running
from fuzz.targets import TARGETS

FOLDER = os.path.dirname(os.path.abspath(running.__file__))
SUPPORT = {"__init__", "__main__", "documents", "mutation", "running", "targets"}


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_or_refuses_whatever_it_is_fed(name: str) -> None:
    assert running.run(name, count=300) == 300


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_its_seeds_or_says_with_its_error_why_not(name: str) -> None:
    """And at least one as it is, else nothing beyond the first check would be tried."""
    from random import Random

    target = running.load(name)
    taken = 0
    for data in target.SEEDS:
        try:
            target.feed(data, Random(0))
            taken += 1
        except target.ERRORS:
            continue
    assert taken


def test_every_module_is_in_the_table() -> None:
    modules = {os.path.basename(path)[:-3] for path in glob.glob(f"{FOLDER}/*.py")} - SUPPORT
    assert {f"fuzz.{name}" for name in modules} == set(TARGETS.values())


def test_a_wrong_error_is_found_and_can_be_seen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    target = running.load("digest")
    monkeypatch.setattr(target, "ERRORS", ())
    with pytest.raises(running.Finding, match=r"again: python -m fuzz digest --seed 3 --only (\d+)") as found:
        running.run("digest", seed=3, count=1000)
    number = int(str(found.value).rpartition(" ")[2])
    with pytest.raises(running.Finding):
        running.run("digest", seed=3, first=number, count=1)
