"""Names, places and properties of a container's unit, as runc has them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.runtime.cgroup import dbus, systemd
from sampan.runtime.cgroup.systemd import INFINITY

DEVICES = """Character devices:
  1 mem
136 pts
250 harbour crane

Block devices:
  8 sd
136 blockish
"""


def group(kind: str, major: int) -> str:
    return systemd.device_group(DEVICES, kind, major)


def properties(resources: Any, unified: bool = True, update: bool = False, version: int = 252) -> dict[str, Any]:
    found = systemd.of_resources(resources, unified, update, version, group)
    for name, value in found:
        dbus.marshal("(sv)", [(name, value)])
    return {name: value for name, (_, value) in found}


@pytest.mark.parametrize(
    ("path", "rootless", "unit", "where"),
    [
        ("", False, "runc-one.scope", "system.slice"),
        ("", True, "runc-one.scope", "user.slice"),
        ("machine.slice:libpod:abc", False, "libpod-abc.scope", "machine.slice"),
        (":docker:abc", False, "docker-abc.scope", "system.slice"),
        ("-.slice:x:y", False, "x-y.scope", "-.slice"),
        ("kube.slice:cri:kube-pod.slice", False, "kube-pod.slice", "kube.slice"),
    ],
)
def test_a_path_of_three_parts_names_a_unit_and_its_slice(path: str, rootless: bool, unit: str, where: str) -> None:
    made = systemd.settings(path, "one", rootless)
    assert (systemd.unit_name(made), systemd.slice_of(made)) == (unit, where)


def test_another_path_is_refused_in_runcs_words() -> None:
    with pytest.raises(InvalidArgument) as caught:
        systemd.settings("/docker/abc", "one", False)
    assert str(caught.value) == (
        'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/docker/abc" instead'
    )


@pytest.mark.parametrize("name", ["a", ".slice", "a/b.slice", "a--b.slice", "-a.slice", "a-.slice", "a.scope"])
def test_what_names_no_slice_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"invalid slice name: "):
        systemd.expand(name)


def test_a_name_cannot_lead_to_another_directory() -> None:
    for path in ("a.slice:x:../../y", "a.slice:/x:y", "../a.slice:x:y"):
        with pytest.raises(InvalidArgument):
            systemd.settings(path, "one", False)


def test_a_slice_lies_in_those_that_its_name_begins_with() -> None:
    assert systemd.expand("a-b-c.slice") == "/a.slice/a-b.slice/a-b-c.slice"
    assert systemd.expand("-.slice") == "/"


def test_a_scope_is_made_with_its_process_delegated_and_accounted() -> None:
    made = systemd.settings("m.slice:x:y", "one", False)
    found = dict(systemd.at_start(made, [7], True, [("CollectMode", ("s", "inactive"))]))
    assert found == {
        "Description": ("s", "libcontainer container y"), "Slice": ("s", "m.slice"), "Delegate": ("b", True),
        "PIDs": ("au", [7]), "MemoryAccounting": ("b", True), "CPUAccounting": ("b", True),
        "IOAccounting": ("b", True), "TasksAccounting": ("b", True), "DefaultDependencies": ("b", False),
        "CollectMode": ("s", "inactive"),
    }  # fmt: skip


def test_a_slice_is_wanted_by_its_parent_and_not_delegated() -> None:
    found = dict(systemd.at_start(systemd.settings("m.slice:x:m-y.slice", "one", False), [7], True, []))
    assert found["Wants"] == ("as", ["m.slice"])
    assert "Slice" not in found
    assert "Delegate" not in found


def test_on_v1_the_unit_has_a_devices_cgroup_from_the_start() -> None:
    found = dict(systemd.at_start(systemd.settings("", "one", False), [7], False, []))
    assert found["DeviceAllow"] == ("a(ss)", [("block-*", "rwm"), ("char-*", "rwm")])
    assert "BlockIOAccounting" in found


def test_limits_become_v2s_properties() -> None:
    assert properties({
        "memory": {"limit": 1000, "swap": 1500, "reservation": 500},
        "cpu": {"shares": 1024, "quota": 33_333, "period": 100_000, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 30},
        "unified": {"memory.high": "900", "memory.min": "max", "hugetlb.2MB.max": "1"},
    }) == {
        "MemoryMax": 1000, "MemorySwapMax": 500, "MemoryLow": 500, "CPUWeight": 100, "CPUQuotaPeriodUSec": 100_000,
        "CPUQuotaPerSecUSec": 340_000, "AllowedCPUs": b"\3", "AllowedMemoryNodes": b"\1", "TasksMax": 30,
        "MemoryHigh": 900, "MemoryMin": INFINITY,
    }  # fmt: skip


def test_limits_become_v1s_properties() -> None:
    assert properties({
        "memory": {"limit": 1000, "swap": 1500}, "cpu": {"shares": 512, "quota": 50_000}, "pids": {"limit": -1},
        "blockIO": {"weight": 300},
    }, unified=False) == {
        "MemoryLimit": 1000, "CPUShares": 512, "CPUQuotaPerSecUSec": 500_000, "TasksMax": INFINITY,
        "BlockIOWeight": 300,
    }  # fmt: skip


@pytest.mark.parametrize("unified", [True, False])
def test_no_limit_is_infinity(unified: bool) -> None:
    found = properties({"memory": {"limit": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}}, unified)
    assert found["CPUQuotaPerSecUSec"] == found["TasksMax"] == INFINITY
    assert found["MemoryMax" if unified else "MemoryLimit"] == INFINITY


def test_an_older_systemd_is_not_told_what_it_does_not_know() -> None:
    resources = {"cpu": {"quota": 1000, "period": 50_000, "cpus": "0"}}
    assert set(properties(resources, version=241)) == {"CPUQuotaPerSecUSec"}
    assert set(properties(resources, version=243)) == {"CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec"}


@pytest.mark.parametrize("resources", [{"unified": {"pids.max": "many"}}, {"unified": {"cpuset.cpus": "3-1"}},
                                       {"cpu": {"cpus": "x"}}, {"unified": {"cpu.max": "1 2 3"}}])  # fmt: skip
def test_a_number_that_is_none_is_refused_by_its_field(resources: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"linux\.resources\.(unified|cpu)"):
        properties(resources)


def test_devices_are_paths_of_numbers_or_groups_of_drivers() -> None:
    found = systemd.of_resources(
        {"devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "type": "b", "major": 8, "access": "r"},
            {"allow": True, "type": "c", "major": 250, "minor": 3, "access": "rw"},
            {"allow": True, "type": "c", "major": 199, "access": "rw"},
            {"allow": True, "type": "c", "minor": 9, "access": "rw"},
        ]}, True, False, 252, group,
    )  # fmt: skip
    assert found[:2] == [("DevicePolicy", ("s", "strict")), ("DeviceAllow", ("a(ss)", []))]
    entries = found[2][1][1]
    assert [entry for entry in entries if "/dev/char/1:" not in entry[0] and "/dev/char/5:" not in entry[0]] == [
        ("block-*", "m"), ("block-sd", "r"), ("char-*", "m"), ("/dev/char/10:200", "rwm"), ("char-pts", "rwm"),
        ("/dev/char/250:3", "rw"),
    ]  # fmt: skip


def test_of_what_is_allowed_and_refused_again_the_rest_stays() -> None:
    found = systemd.of_resources(
        {"devices": [{"allow": True, "type": "c", "major": 250, "minor": 1, "access": "rwm"},
                     {"allow": False, "type": "c", "major": 250, "minor": 1, "access": "w"}]},
        True, False, 252, group,
    )  # fmt: skip
    assert ("/dev/char/250:1", "rm") in found[2][1][1]


def test_all_devices_are_no_policy_on_v2_and_leave_the_first_on_v1() -> None:
    everything = {"devices": [{"allow": True, "access": "rwm"}]}
    assert properties(everything) == {"DevicePolicy": "auto", "DeviceAllow": []}
    assert properties(everything, unified=False) == {}


def test_devices_refused_one_by_one_are_the_fs_drivers_alone() -> None:
    rules = {
        "devices": [
            {"allow": True, "access": "rwm"},
            {"allow": False, "type": "c", "major": 250, "minor": 1, "access": "r"},
        ]
    }
    assert properties(rules) == {"DevicePolicy": "strict", "DeviceAllow": []}


def test_an_update_leaves_devices_alone() -> None:
    assert properties({"devices": [{"allow": True}], "pids": {"limit": 3}}, update=True) == {"TasksMax": 3}


def test_annotations_are_properties_and_seconds_become_microseconds() -> None:
    assert systemd.annotated({
        "org.systemd.property.TimeoutStopSec": "1.5", "org.systemd.property.Sec": "3",
        "org.systemd.property.CollectMode": "'inactive'", "other": "x",
    }) == [("TimeoutStopUSec", ("t", 1_500_000)), ("Sec", ("i", 3)), ("CollectMode", ("s", "inactive"))]  # fmt: skip


@pytest.mark.parametrize("key", ["x", "Two-Words", "Ümlaut", ""])
def test_a_property_name_has_letters_only(key: str) -> None:
    with pytest.raises(InvalidArgument, match=f"annotation org.systemd.property.{key} name incorrect: "):
        systemd.annotated({f"org.systemd.property.{key}": "1"})


@given(st.dictionaries(st.from_regex(r"org\.systemd\.property\.[A-Za-z]{1,9}(Sec)?", fullmatch=True), st.text()))
def test_garbage_in_annotations_is_one_error(annotations: dict[str, str]) -> None:
    try:
        for one in systemd.annotated(annotations):
            dbus.marshal("(sv)", [one])
    except InvalidArgument:
        pass


@pytest.mark.parametrize(("text", "mask"), [("0", b"\1"), ("0-2,8", b"\7\1"), (" 1 , 3-4", b"\x1a"), ("15", b"\0\x80")])
def test_a_list_of_processors_is_a_mask(text: str, mask: bytes) -> None:
    assert systemd.bits(text) == mask


def test_the_cgroup_is_its_containers_only_with_a_namespace_and_a_mount_of_its_own() -> None:
    spec: Any = {
        "mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["nosuid"]}],
        "linux": {
            "namespaces": [{"type": "cgroup"}],
            "uidMappings": [{"containerID": 1, "hostID": 5, "size": 1}, {"containerID": 0, "hostID": 100, "size": 1}],
        },
    }
    assert systemd.owner(spec) == 100
    for change in ({"namespaces": [{"type": "cgroup", "path": "/proc/1/ns/cgroup"}]}, {"uidMappings": []}):
        assert systemd.owner({**spec, "linux": {**spec["linux"], **change}}) == 0
    spec["mounts"][0]["options"].append("ro")
    assert systemd.owner(spec) == 0
