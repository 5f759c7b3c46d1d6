"""The table of statuses."""

import pytest

from sampan.errors import Conflict
from sampan.keeper.status import PUBLIC, TRANSITIONS, after

STATUSES = {"creating", "created", "starting", "running", "paused", "stopped", "deleting"}


def test_the_life_of_a_task():
    status = "creating"
    for verb in ("ready", "start", "running", "pause", "resume", "kill", "exit", "delete"):
        status = after("c1", status, verb)
    assert status == "deleting"


@pytest.mark.parametrize(
    ("status", "verb"),
    [("running", "start"), ("running", "delete"), ("stopped", "kill"), ("paused", "exec"), ("created", "pause")],
)
def test_an_unknown_pair_is_a_conflict_that_names_both(status, verb):
    with pytest.raises(Conflict, match=f'cannot {verb} container "c1": it is {status}'):
        after("c1", status, verb)


def test_every_status_is_known_and_may_end():
    assert {status for status, _ in TRANSITIONS} | set(TRANSITIONS.values()) == STATUSES
    for status in STATUSES - {"stopped"}:
        assert (status, "exit") in TRANSITIONS


def test_only_the_contract_s_statuses_are_shown():
    assert {PUBLIC.get(status, status) for status in STATUSES} == {"created", "running", "paused", "stopped"}
