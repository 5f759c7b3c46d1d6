from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.oci.spec import validate, validate_process

GOOD: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
    "root": {"path": "rootfs"},
    "linux": {"namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "network"}]},
}


def changed(path: list[Any], value: object) -> dict[str, Any]:
    spec = copy.deepcopy(GOOD)
    here: Any = spec
    for key in path[:-1]:
        here = here.setdefault(key, {})
    here[path[-1]] = value
    return spec


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (["process", "args"], "sh", "process.args: expected an array, not a string"),
        (["process", "args"], ["sh", 1], "process.args[1]: expected a string, not a number"),
        (["process", "args"], ["a\0b"], "process.args[0]: must not contain a null byte"),
        (["process", "args"], [], "args must not be empty"),
        (["process", "cwd"], "here", "Cwd must be an absolute path"),
        (["process", "user", "uid"], 1 << 32, "process.user.uid: 4294967296 is out of range"),
        (["process", "user", "uid"], (1 << 32) - 1, "process.user.uid: 4294967295 is out of range"),
        (["process", "user", "uid"], -1, "process.user.uid: -1 is out of range"),
        (["process", "terminal"], 1, "process.terminal: expected true or false, not a number"),
        (
            ["process", "rlimits"],
            [{"type": "RLIMIT_CORE", "soft": 1.5}],
            "process.rlimits[0].soft: expected an integer",
        ),
        (["mounts"], [{"destination": "/a"}, {"options": [None]}], "mounts[1].options[0]: expected a string, not null"),
        (["mounts"], [{}], "mounts[0].destination: must not be empty"),
        (["root"], {}, "root.path: must not be empty"),
        (["linux", "namespaces"], [{"type": "sea"}], 'linux.namespaces[0].type: namespace "sea" does not exist'),
        (["linux", "namespaces"], [{"type": "pid"}, {"type": "pid"}], "malformed spec file: duplicated ns"),
        (["linux", "sysctl"], {"a": 1}, 'linux.sysctl["a"]: expected a string'),
        (["linux", "sysctl"], {"kernel.panic": "1"}, 'sysctl "kernel.panic" is not in a separate kernel namespace'),
        (["linux", "sysctl"], {"kernel.shmmax": "1"}, 'sysctl "kernel.shmmax" is not allowed in the hosts ipc'),
        (["linux", "uidMappings"], [{"containerID": 0, "hostID": 0, "size": 1}], "user namespace isn't enabled"),
        (["linux", "maskedPaths"], ["proc"], "linux.maskedPaths[0]: must be an absolute path"),
        (["linux", "devices"], [{"path": "/dev/x", "type": "z"}], "linux.devices[0].type"),
        (["linux", "resources", "pids"], {"limit": "many"}, "linux.resources.pids.limit: expected an integer"),
        (["hooks", "prestart"], [{"path": "true"}], "hooks.prestart[0].path: must be an absolute path"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(path: list[Any], value: object, text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        validate(changed(path, value))
    assert text in str(refused.value)


def test_a_good_spec_is_the_same_document() -> None:
    spec = copy.deepcopy(GOOD)
    assert validate(spec) is spec
    assert spec == GOOD


def test_null_is_not_given_and_unknown_fields_stay() -> None:
    spec = validate(changed(["process", "capabilities"], None) | {"future": {"x": [1]}})
    assert "capabilities" not in spec["process"]
    assert spec["future"] == {"x": [1]}  # type: ignore[typeddict-item]


@pytest.mark.parametrize("name", ["hostname", "domainname"])
def test_a_name_needs_a_namespace_to_be_set_in(name: str) -> None:
    spec = copy.deepcopy(GOOD) | {name: "boat"}
    spec["linux"]["namespaces"] = [{"type": "mount"}]
    with pytest.raises(InvalidArgument, match=f"unable to set {name} without a private UTS namespace"):
        validate(spec)


def test_a_process_alone_is_checked_the_same_way() -> None:
    with pytest.raises(InvalidArgument, match="args must not be empty"):
        validate_process({"cwd": "/"})
    with pytest.raises(InvalidArgument, match=r"process\.env: expected an array"):
        validate_process({"cwd": "/", "args": ["a"], "env": {}})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
PATHS = [
    ["process"], ["process", "user"], ["process", "args"], ["root"], ["mounts"], ["hooks"], ["linux"],
    ["linux", "namespaces"], ["linux", "seccomp"], ["linux", "resources"], ["linux", "devices"], ["annotations"],
    ["linux", "sysctl"], ["process", "capabilities"],
]  # fmt: skip


@given(st.sampled_from(PATHS), JSON)
def test_garbage_is_accepted_or_refused_and_nothing_else(path: list[str], value: object) -> None:
    try:
        validate(changed(path, value))
    except InvalidArgument:
        pass


@given(JSON)
def test_a_document_that_is_no_spec_is_refused(document: object) -> None:
    with pytest.raises(InvalidArgument):
        validate(document)
