"""Ids and errors on their way through the driver. The driving itself: tests/contract/test_tasks.py."""

import pytest

from sampan import errors
from sampan.keeper.native import failure, owner, to_host

MAPS = [{"containerID": 0, "hostID": 100000, "size": 1000}, {"containerID": 5000, "hostID": 7, "size": 1}]


@pytest.mark.parametrize(("number", "host"), [(0, 100000), (999, 100999), (5000, 7), (1000, 0)])
def test_a_container_s_id_is_mapped_to_the_host_s(number, host):
    assert to_host(number, MAPS) == host


def test_without_a_user_namespace_ids_are_the_same():
    assert owner({"user": {"uid": 5, "gid": 6}}, {}) == (5, 6)
    assert owner(None, {}) == (0, 0)


def test_user_and_group_have_maps_of_their_own():
    linux = {"uidMappings": MAPS, "gidMappings": [{"containerID": 0, "hostID": 200000, "size": 10}]}
    assert owner({"user": {"uid": 1, "gid": 2}}, {"linux": linux}) == (100001, 200002)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("NotFound", errors.NotFound), ("Error", errors.Error), ("OSError", errors.Error), ("__doc__", errors.Error)],
)
def test_a_kind_by_name_is_one_of_ours_or_a_plain_error(kind, wanted):
    error = failure(kind, "text")
    assert type(error) is wanted
    assert str(error) == "text"
