from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument, Unimplemented
from sampan.linux import abi
from sampan.linux.cgroupfs import Hierarchy
from sampan.runtime.host import HostFacts
from sampan.runtime.plan import Plan, Wishes, environment_of, plan_container, plan_exec
from sampan.runtime.steps import table

V1 = [
    Hierarchy(1, ("memory",), "", "/sys/fs/cgroup/memory", "/"),
    Hierarchy(1, ("cpu", "cpuacct"), "", "/sys/fs/cgroup/cpu,cpuacct", "/"),
    Hierarchy(1, (), "systemd", "/sys/fs/cgroup/systemd", "/"),
]
V2 = [Hierarchy(2, ("memory",), "", "/sys/fs/cgroup", "/")]

SPEC: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {"args": ["sh"], "cwd": "/", "user": {"uid": 1000, "gid": 5}, "env": ["A=1", "A=2"]},
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "boat",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "ro", "size=64k"]},
        {"destination": "/hold", "source": "cargo", "options": ["rbind", "ro", "rprivate"]},
    ],
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "mount", "uts", "ipc", "cgroup")],
        "maskedPaths": ["/proc/keys"],
        "readonlyPaths": ["/proc/sys"],
        "sysctl": {"kernel.msgmax": "1"},
    },
}


def facts(hierarchies: list[Hierarchy]) -> HostFacts:
    return HostFacts(hierarchies, {}, bounding=(1 << 41) - 1, last_cap=40, machine="x86_64", selinux=True)


def planned(change: dict[str, Any] | None = None, hierarchies: list[Hierarchy] = V1, **wishes: Any) -> Plan:
    spec = copy.deepcopy(SPEC)
    for key, value in (change or {}).items():
        here: Any = spec
        *path, last = key.split(".")
        for name in path:
            here = here.setdefault(name, {})
        here[last] = value
    paths = {"memory": "/sys/fs/cgroup/memory/x"}
    return plan_container(spec, Wishes("x", "/bundle", cgroup_paths=paths, **wishes), facts(hierarchies))  # type: ignore[arg-type]


def test_the_whole_plan_of_a_small_container_in_order() -> None:
    text = "\n".join(planned({"mounts": SPEC["mounts"]}).lines())
    assert text.split("\n") == [
        "clone3 new=mount,pid,ipc,uts  # linux.namespaces",
        "join_cgroups  # linux.cgroupsPath",
        "unshare flags=33554432  # linux.namespaces",
        "new_session  # process",
        "session_keyring name=_ses.x  # process",
        "host_propagation flags=524288 rootfs=/bundle/rootfs  # linux.rootfsPropagation",
        "root path=/bundle/rootfs  # root.path",
        "mount type=proc source=proc destination=/proc  # mounts[0]",
        "mount type=tmpfs source=tmpfs destination=/dev data=size=64k attributes=nosuid  # mounts[1]",
        "bind source=/bundle/cargo destination=/hold recursive=yes attributes=rdonly propagation=rprivate  # mounts[2]",
        *(
            f"device path=/dev/{name} kind=c major={major} {f'minor={minor} ' if minor else ''}mode=0o666  "
            "# config-linux.md#default-devices"
            for name, major, minor in (
                ("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("tty", 5, 0), ("random", 1, 8), ("urandom", 1, 9),
            )
        ),
        "symlink target=pts/ptmx path=/dev/ptmx replace=yes  # config-linux.md#default-devices",
        "symlink target=/proc/self/fd path=/dev/fd  # runtime-linux.md#dev-symbolic-links",
        "symlink target=/proc/self/fd/0 path=/dev/stdin  # runtime-linux.md#dev-symbolic-links",
        "symlink target=/proc/self/fd/1 path=/dev/stdout  # runtime-linux.md#dev-symbolic-links",
        "symlink target=/proc/self/fd/2 path=/dev/stderr  # runtime-linux.md#dev-symbolic-links",
        "pivot_root  # root.path",
        "null_streams  # config-linux.md#default-devices",
        "read_only_mount destination=/dev  # mounts[1]",
        "read_only_root  # root.readonly",
        "hostname name=boat  # hostname",
        "open_proc  # linux.sysctl",
        'sysctl key=kernel.msgmax value=1  # linux.sysctl["kernel.msgmax"]',
        "read_only_path path=/proc/sys  # linux.readonlyPaths[0]",
        "mask_path path=/proc/keys  # linux.maskedPaths[0]",
        "stdio_owner uid=1000  # process.user",
        "close_descriptors  # process",
        "bounding_set  # process.capabilities.bounding",
        "user uid=1000 gid=5 umask=0o22 cwd=/  # process.user",
        "capabilities  # process.capabilities",
        "environment env=A uid=1000  # process.env",
        "find_program name=sh  # process.args[0]",
        "ready  # process",
        "execve args=sh  # process.args",
    ]  # fmt: skip


EVERYTHING: dict[str, Any] = {
    "hooks": {name: [{"path": "/bin/true"}] for name in ("prestart", "createContainer", "startContainer")},
    "linux.namespaces": [
        {"type": "user"}, {"type": "mount"}, {"type": "network"}, {"type": "uts", "path": "/proc/1/ns/uts"},
        {"type": "cgroup"}, {"type": "time"}, {"type": "pid"}, {"type": "ipc"},
    ],
    "linux.uidMappings": [{"containerID": 0, "hostID": 1, "size": 2000}],
    "linux.gidMappings": [{"containerID": 0, "hostID": 1, "size": 2000}],
    "linux.rootfsPropagation": "shared",
    "linux.personality": {"domain": "LINUX32"},
    "linux.memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-1,3"},
    "linux.devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}],
    "process.scheduler": {"policy": "SCHED_BATCH", "nice": 1},
    "process.ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
    "process.rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}],
    "process.noNewPrivileges": True,
    "process.cwd": "/far",
    "process.apparmorProfile": "p",
    "process.selinuxLabel": "l",
    "domainname": "sea",
}  # fmt: skip


@pytest.mark.parametrize("hierarchies", [V1, V2])
def test_each_step_fits_the_function_that_performs_it(hierarchies: list[Hierarchy]) -> None:
    mounts = [*SPEC["mounts"], {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]}]
    plan = planned({**EVERYTHING, "mounts": mounts}, hierarchies, terminal=True, seccomp=b"x",
                   rootfs_mounts=[{"type": "overlay", "source": "overlay", "options": ["lowerdir=/a"]}])  # fmt: skip
    second = plan_exec(
        {"args": ["a"], "cwd": "/"}, {"pid": "", "user": ""}, Wishes("x", "/b", terminal=True), facts(V1)
    )
    for step in [*plan.steps, *second.steps]:
        function = table.resolve([step])[step.do]
        inspect.signature(function).bind(object(), **step.with_)


def test_every_function_is_used_by_some_plan() -> None:
    copied = {"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup"]}
    mounts = [*SPEC["mounts"], copied, {"destination": "/sys/fs/cgroup", "type": "cgroup"}]
    plans = [
        planned(
            {**EVERYTHING, "mounts": mounts}, hierarchies, terminal=True, seccomp=b"x", rootfs_mounts=[{"type": "t"}]
        )
        for hierarchies in (V1, V2)
    ]
    plans.append(planned())
    pinned: Any = {"args": ["a"], "cwd": "/", "execCPUAffinity": {"initial": "0-1", "final": "1,3"}}
    plans.append(plan_exec(pinned, {"pid": ""}, Wishes("x", "/b"), facts(V1)))
    used = {step.do for plan in plans for step in plan.steps}
    assert used == set(table.PLACES)
    assert set(table.resolve(step for plan in plans for step in plan.steps)) == used


def test_an_exec_is_pinned_before_and_after_it_joins_the_cgroup() -> None:
    pinned: Any = {"args": ["a"], "cwd": "/", "execCPUAffinity": {"initial": "0-1", "final": "1,3"}}
    plan = plan_exec(pinned, {"pid": ""}, Wishes("x", "/b"), facts(V1))
    assert [(step.do, step.with_.get("cpus")) for step in plan.steps[:3]] == [
        ("cpu_affinity", [0, 1]), ("join_cgroups", None), ("cpu_affinity", [1, 3])
    ]  # fmt: skip
    for wrong in ("x", "1-", "-1", "0-99999999999", "1,2-x"):
        pinned["execCPUAffinity"] = {"initial": wrong}
        with pytest.raises(InvalidArgument, match=r"execCPUAffinity\.initial: invalid CPU list"):
            plan_exec(pinned, {"pid": ""}, Wishes("x", "/b"), facts(V1))


def test_the_mount_label_goes_to_every_new_file_system_but_the_kernels_own() -> None:
    plan = planned({"mounts": SPEC["mounts"], "linux.mountLabel": "a:b:c"})
    labelled = {step.with_["type"] for step in plan.steps if ("context", "a:b:c") in step.with_.get("data", [])}
    assert labelled == {"tmpfs"}


def place(plan: Plan, *names: str) -> list[int]:
    order = [step.do for step in plan.steps]
    return [order.index(name) for name in names]


def test_the_filter_comes_before_the_capabilities_go_unless_no_new_privileges_makes_that_needless() -> None:
    early = planned({"process.noNewPrivileges": False}, seccomp=b"x")
    late = planned({"process.noNewPrivileges": True}, seccomp=b"x")
    for order in (
        place(early, "seccomp", "user", "ready"),
        place(late, "no_new_privileges", "user", "ready", "seccomp"),
    ):
        assert order == sorted(order)


def test_a_cgroup_namespace_comes_after_the_move_into_the_cgroup() -> None:
    order = place(planned(), "join_cgroups", "unshare", "root")
    assert order == sorted(order)


def test_namespaces_by_path_are_joined_the_user_namespace_first() -> None:
    plan = planned({"linux.namespaces": [{"type": kind, "path": f"/n/{kind}"} for kind in ("uts", "mount", "user")]})
    assert plan.clone_flags == 0
    assert [kind for kind, _ in plan.joins] == ["user", "uts", "mount"]


def test_a_bind_mounted_dev_is_left_alone() -> None:
    plan = planned({"mounts": [{"destination": "/dev", "source": "/dev", "options": ["rbind"]}]})
    assert not {"device", "symlink"} & {step.do for step in plan.steps}


def test_a_container_without_a_mount_namespace_is_refused() -> None:
    """runc 1.1 then leaves all the container's mounts on the host."""
    with pytest.raises(Unimplemented, match="without a mount namespace"):
        planned({"linux.namespaces": [{"type": "pid"}]})


@pytest.mark.parametrize(
    ("options", "attributes", "clear"),
    [
        (["ro"], abi.MOUNT_ATTR_RDONLY, 0),
        (["ro", "rw"], 0, abi.MOUNT_ATTR_RDONLY),
        (["nosuid", "nodev", "noexec"], 14, 0),
        (["noatime"], abi.MOUNT_ATTR_NOATIME, abi.MOUNT_ATTR__ATIME),
        (["suid"], 0, abi.MOUNT_ATTR_NOSUID),
        (["nosymfollow"], abi.MOUNT_ATTR_NOSYMFOLLOW, 0),
    ],
)
def test_options_set_and_clear_attributes_and_the_last_wins(options: list[str], attributes: int, clear: int) -> None:
    plan = planned({"mounts": [{"destination": "/a", "source": "/b", "options": ["bind", *options]}]})
    step = next(step for step in plan.steps if step.do == "bind")
    assert (step.with_["attributes"], step.with_["clear"]) == (attributes, clear)
    assert step.with_["recursive"] is False


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mounts": [{"destination": "/proc/irq", "type": "tmpfs"}]}, "cannot be mounted because it is inside /proc"),
        ({"mounts": [{"destination": "/x/../proc", "type": "tmpfs"}]}, "it is not of type proc"),
        ({"mounts": [{"destination": "/x"}]}, "mounts[0].type: must not be empty"),
        ({"mounts": [{"destination": "/x", "type": "bind"}]}, "mounts[0].source"),
        ({"process.rlimits": [{"type": "RLIMIT_TEA"}]}, "process.rlimits[0].type: invalid rlimit value: RLIMIT_TEA"),
        ({"process.rlimits": [{"type": "RLIMIT_CORE"}] * 2}, "process.rlimits[1].type: duplicated rlimit"),
        ({"process.env": ["novalue"]}, "process.env[0]"),
        ({"process.scheduler": {"policy": "SCHED_TEA"}}, "process.scheduler.policy"),
        ({"process.ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 9}}, "process.ioPriority.priority"),
        ({"linux.personality": {"domain": "VAX"}}, "linux.personality.domain"),
        ({"linux.memoryPolicy": {"mode": "MPOL_BIND", "nodes": "a"}}, "linux.memoryPolicy.nodes"),
        ({"linux.rootfsPropagation": "sideways"}, "linux.rootfsPropagation"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_the_fields_path(change: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        planned(change)
    assert text in str(refused.value)


@given(st.lists(st.text(alphabet="AB=\0x", max_size=4), max_size=5))
def test_an_environment_is_taken_or_refused_and_the_last_of_a_name_wins(entries: list[str]) -> None:
    try:
        found = environment_of(entries)
    except InvalidArgument:
        assert any("=" not in entry or entry.startswith("=") for entry in entries)
        return
    assert found == dict(entry.split("=", 1) for entry in entries)


def test_dev_core_is_linked_where_the_host_has_kcore() -> None:
    host = facts(V1)
    host.kcore = True
    made = plan_container(copy.deepcopy(SPEC), Wishes("x", "/bundle"), host)  # type: ignore[arg-type]
    links = [(step.with_["target"], step.with_["path"]) for step in made.steps if step.do == "symlink"]
    assert links[-1] == ("/proc/kcore", "/dev/core")
    plain = plan_container(copy.deepcopy(SPEC), Wishes("x", "/bundle"), facts(V1))  # type: ignore[arg-type]
    assert "/dev/core" not in [step.with_.get("path") for step in plain.steps]
