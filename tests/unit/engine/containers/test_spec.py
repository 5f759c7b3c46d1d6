"""The spec planner: Docker's defaults, and what each option changes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.unit.engine.containers.rooms import FACTS

from sampan.api.docker.containers import Config, HostConfig, Ulimit
from sampan.engine.containers import capabilities, spec
from sampan.engine.containers.model import Container, Mount
from sampan.engine.containers.spec import Resolved, runtime_spec
from sampan.engine.containers.users import User
from sampan.errors import InvalidArgument

ROOT = User(0, 0, (0, 10), "/root")


def plan(
    host: dict[str, Any] | None = None, config: dict[str, Any] | None = None, facts: Any = FACTS, **resolved: Any
) -> Any:
    """The spec of a container with these HostConfig, Config and Resolved fields."""
    mounts = resolved.pop("mounts", [])
    container = Container(
        id="c" * 64,
        name="web",
        created_at=1,
        image_id="sha256:1",
        parent="chain",
        path="sh",
        args=["-c", "true"],
        config=Config(**(config or {})),
        host_config=HostConfig(**(host or {})),
        mounts=mounts,
    )
    return runtime_spec(container, Resolved(**{"hostname": "web", "user": ROOT, **resolved}), facts)


def mount_of(found: Any, destination: str) -> Any:
    return next((mount for mount in found["mounts"] if mount["destination"] == destination), None)


def test_the_default_capabilities_are_dockers_fourteen():
    found = plan()["process"]["capabilities"]
    assert len(found["bounding"]) == 14
    assert found["bounding"] == found["effective"] == found["permitted"] == list(capabilities.DEFAULT)
    assert "inheritable" not in found and "ambient" not in found


def test_a_user_that_is_not_root_keeps_only_the_bounding_set():
    found = plan(user=User(7, 8, (8,), "/"))["process"]
    assert found["capabilities"]["effective"] == found["capabilities"]["permitted"] == []
    assert len(found["capabilities"]["bounding"]) == 14
    assert found["user"] == {"uid": 7, "gid": 8, "additionalGids": [8]}


@pytest.mark.parametrize(
    ("add", "drop", "has", "lacks"),
    [
        (["NET_ADMIN"], [], "CAP_NET_ADMIN", "CAP_SYS_ADMIN"),
        (["cap_sys_time"], ["CHOWN"], "CAP_SYS_TIME", "CAP_CHOWN"),
        (["ALL"], ["SYS_ADMIN"], "CAP_SYS_BOOT", "CAP_SYS_ADMIN"),
        (["KILL"], ["ALL"], "CAP_KILL", "CAP_CHOWN"),
    ],
)
def test_capabilities_are_added_and_dropped_by_name(add, drop, has, lacks):
    found = plan({"cap_add": add, "cap_drop": drop})["process"]["capabilities"]["bounding"]
    assert has in found and lacks not in found


def test_an_unknown_capability_is_refused_in_dockers_words():
    with pytest.raises(InvalidArgument, match='unknown capability: "CAP_NONSENSE"'):
        plan({"cap_add": ["nonsense"]})


def test_masked_and_read_only_paths_are_dockers():
    linux = plan()["linux"]
    assert "/proc/kcore" in linux["maskedPaths"] and "/sys/firmware" in linux["maskedPaths"]
    assert linux["readonlyPaths"] == ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


@pytest.mark.parametrize("host", [{"privileged": True}, {"masked_paths": [], "readonly_paths": []}])
def test_privileged_and_unconfined_system_paths_are_open(host):
    linux = plan(host)["linux"]
    assert linux["maskedPaths"] == linux["readonlyPaths"] == []


def test_the_default_mounts_have_dockers_flags_in_mounting_order():
    found = plan()["mounts"]
    assert [mount["destination"] for mount in found[:7]] == [
        "/proc",
        "/dev",
        "/dev/pts",
        "/sys",
        "/sys/fs/cgroup",
        "/dev/mqueue",
        "/dev/shm",
    ]
    assert mount_of(plan(), "/sys")["options"] == ["nosuid", "noexec", "nodev", "ro"]
    assert mount_of(plan(), "/sys/fs/cgroup")["options"][0] == "ro"
    assert "size=67108864" in mount_of(plan(), "/dev/shm")["options"]
    assert "size=4096" in mount_of(plan({"shm_size": 4096}), "/dev/shm")["options"]


def test_privileged_makes_sys_and_cgroups_writable_and_has_no_seccomp_and_all_devices():
    found = plan({"privileged": True})
    assert "ro" not in mount_of(found, "/sys")["options"]
    assert "ro" not in mount_of(found, "/sys/fs/cgroup")["options"]
    assert "seccomp" not in found["linux"]
    assert found["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert set(found["process"]["capabilities"]["bounding"]) == set(capabilities.ALL)


def test_the_device_rules_begin_with_deny_all():
    rules = plan({"device_cgroup_rules": ["c 13:* rw"]})["linux"]["resources"]["devices"]
    assert rules[0] == {"allow": False, "access": "rwm"}
    assert rules[-1] == {"allow": True, "type": "c", "major": 13, "access": "rw"}


def test_a_device_is_made_and_allowed():
    from sampan.api.docker.containers import DeviceMapping

    device = DeviceMapping(path_on_host="/dev/null", path_in_container="/dev/hole", cgroup_permissions="r")
    linux = plan({"devices": [device]})["linux"]
    assert (linux["devices"][0]["path"], linux["devices"][0]["major"], linux["devices"][0]["minor"]) == (
        "/dev/hole",
        1,
        3,
    )
    assert linux["resources"]["devices"][-1] == {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}


@pytest.mark.parametrize(
    ("host", "resolved", "lacks", "has"),
    [
        ({}, {}, [], {"mount", "network", "uts", "pid", "ipc"}),
        ({"pid_mode": "host"}, {}, ["pid"], {"ipc"}),
        ({"ipc_mode": "host"}, {}, ["ipc"], {"pid"}),
        ({"uts_mode": "host"}, {}, ["uts"], {"pid"}),
        ({}, {"network": "host"}, ["network"], {"pid"}),
        ({"cgroupns_mode": "private"}, {}, [], {"cgroup"}),
    ],
)
def test_namespaces_follow_the_modes(host, resolved, lacks, has):
    types = {entry["type"] for entry in plan(host, **resolved)["linux"]["namespaces"]}
    assert has <= types and not types & set(lacks)


def test_the_cgroup_namespace_is_private_by_default_only_on_cgroup_v2():
    import dataclasses

    v2 = dataclasses.replace(FACTS, cgroup_version=2)
    assert {"type": "cgroup"} in plan(facts=v2)["linux"]["namespaces"]
    assert {"type": "cgroup"} not in plan()["linux"]["namespaces"]


def test_joined_namespaces_are_paths_of_the_others_pid():
    found = plan({"pid_mode": "container:x"}, network="container", joined={"network": 5, "pid": 6})
    assert {"type": "network", "path": "/proc/5/ns/net"} in found["linux"]["namespaces"]
    assert {"type": "pid", "path": "/proc/6/ns/pid"} in found["linux"]["namespaces"]


def test_environment_order_and_replacement():
    env = plan(config={"env": ["A=1", "A=2", "HOSTNAME", "PATH=/p"], "tty": True})["process"]["env"]
    assert env == ["PATH=/p", "TERM=xterm", "A=2", "HOME=/root"]


def test_init_is_put_before_the_command_and_bound_read_only():
    found = plan(init="/run/x/docker-init")
    assert found["process"]["args"] == ["/sbin/docker-init", "--", "sh", "-c", "true"]
    bound = mount_of(found, "/sbin/docker-init")
    assert bound["source"] == "/run/x/docker-init" and "ro" in bound["options"]


def test_read_only_root_leaves_dockers_writable_places():
    found = plan({"readonly_rootfs": True}, files={"/etc/hosts": "/h"})
    assert found["root"]["readonly"] is True
    assert "ro" not in mount_of(found, "/dev")["options"]
    assert "ro" in mount_of(found, "/etc/hosts")["options"]


def test_mounts_are_parents_first_and_replace_defaults_of_the_same_place():
    mounts = [
        Mount(type="bind", source="/b", destination="/a/b", rw=False),
        Mount(type="volume", name="v", source="/v", destination="/a"),
        Mount(type="bind", source="/shm", destination="/dev/shm", propagation="rprivate"),
    ]
    found = plan(mounts=mounts, sources={"/a": "/real"})
    order = [mount["destination"] for mount in found["mounts"]]
    assert order.index("/a") < order.index("/a/b")
    assert order.count("/dev/shm") == 1 and mount_of(found, "/dev/shm")["type"] == "bind"
    assert mount_of(found, "/a")["source"] == "/real"
    assert {"ro", "rro"} <= set(mount_of(found, "/a/b")["options"])


def test_a_shared_bind_opens_the_roots_propagation():
    mounts = [Mount(type="bind", source="/b", destination="/b", propagation="rshared")]
    assert plan(mounts=mounts)["linux"]["rootfsPropagation"] == "shared"
    assert "rootfsPropagation" not in plan()["linux"]


def test_tmpfs_options_are_dockers_defaults_and_the_given_ones():
    found = mount_of(plan({"tmpfs": {"/run": "exec,size=64k"}}), "/run")
    assert found["options"] == ["nosuid", "nodev", "exec", "size=64k"]


def test_limits_become_resources():
    found = plan(
        {"memory": 1 << 26, "memory_swap": 1 << 27, "nano_cpus": 1_500_000_000, "pids_limit": 0, "cpu_shares": 512}
    )["linux"]["resources"]
    assert found["memory"] == {"limit": 1 << 26, "swap": 1 << 27}
    assert found["cpu"] == {"quota": 150000, "period": 100000, "shares": 512}
    assert found["pids"] == {"limit": -1}


def test_ulimits_override_the_daemons():
    found = plan({"ulimits": [Ulimit(name="nofile", soft=10, hard=20)]}, ulimits=["nofile=1:2", "core=-1"])
    assert found["process"]["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20},
        {"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1},
    ]


def test_a_netns_of_its_own_lets_root_ping_and_bind_low_ports():
    assert plan()["linux"]["sysctl"] == {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
    }
    assert "sysctl" not in plan(network="host")["linux"]
    with pytest.raises(InvalidArgument, match="not allowed in host network namespace"):
        plan({"sysctls": {"net.core.somaxconn": "1"}}, network="host")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], False),
        (["no-new-privileges"], True),
        (["no-new-privileges:true"], True),
        (["no-new-privileges=false"], False),
    ],
)
def test_no_new_privileges_follows_security_opt(options, expected):
    assert plan({"security_opt": options})["process"]["noNewPrivileges"] is expected


def test_seccomp_is_the_default_profile_unless_told_otherwise():
    assert plan()["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert "seccomp" not in plan({"security_opt": ["seccomp=unconfined"]})["linux"]
    own = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}'
    assert plan({"security_opt": [f"seccomp={own}"]})["linux"]["seccomp"] == {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [],
    }
    with pytest.raises(InvalidArgument, match="invalid --security-opt"):
        plan({"security_opt": ["nonsense=1"]})


def test_the_host_uts_mode_sets_no_hostname():
    assert "hostname" not in plan({"uts_mode": "host"})
    assert (plan()["hostname"], plan(domainname="d")["domainname"]) == ("web", "d")


def test_the_whole_is_json():
    assert msgspec.json.decode(msgspec.json.encode(plan()))["ociVersion"] == "1.2.0"
    assert plan()["linux"]["cgroupsPath"] == "/sampan/" + "c" * 64
    assert spec.environment([], "h", False, "/")[0] == spec.PATH


def test_systemd_is_told_a_slice_a_prefix_and_a_name():
    name = "c" * 64
    assert plan(systemd_cgroup=True)["linux"]["cgroupsPath"] == f"system.slice:sampan:{name}"
    assert plan(systemd_cgroup=True, cgroup_parent="own.slice")["linux"]["cgroupsPath"] == f"own.slice:sampan:{name}"
    found = plan({"cgroup_parent": "web.slice"}, systemd_cgroup=True, cgroup_parent="own.slice")
    assert found["linux"]["cgroupsPath"] == f"web.slice:sampan:{name}"
