"""CVE-2023-25809: a container of a user namespace must not write to the host's cgroups through its /sys/fs/cgroup."""

from __future__ import annotations

import os

import pytest
from tests.peers.machine import CGROUPS
from tests.peers.runtimes import Bundle, Runtime

NAME = "made-by-an-attacker"


def _of_user_namespace(bundle: Bundle, own_cgroup_namespace: bool) -> Bundle:
    bundle.spec["linux"]["namespaces"].append({"type": "user"})
    if own_cgroup_namespace:
        bundle.spec["linux"]["namespaces"].append({"type": "cgroup"})
    for name in ("uidMappings", "gidMappings"):
        bundle.spec["linux"][name] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    bundle.spec["linux"]["resources"] = {}
    for top, directories, files in os.walk(bundle.rootfs):
        for entry in ["", *directories, *files]:
            os.lchown(os.path.join(top, entry), 100000, 100000)
    return bundle


@pytest.mark.parametrize("own_cgroup_namespace", [False, True])
@pytest.mark.parametrize("options", [["ro"], ["rw"]])
def test_no_cgroup_of_the_host_is_writable(runtime: Runtime, own_cgroup_namespace: bool, options: list[str]) -> None:
    bundle = _of_user_namespace(runtime.bundle(), own_cgroup_namespace)
    bundle.mount("/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev", *options, type="cgroup")
    script = f"""
    for d in /sys/fs/cgroup /sys/fs/cgroup/*; do
        mkdir $d/{NAME} 2>/dev/null && echo made $d
        (echo 1 > $d/cgroup.procs) 2>/dev/null && echo moved $d
        [ -e $d/release_agent ] && (echo x > $d/release_agent) 2>/dev/null && echo agent $d
    done
    echo looked"""
    done = runtime.run(bundle.shell(script))
    assert done.status == 0, done
    assert done.out.endswith("looked\n")
    assert "agent" not in done.out
    found = [top for top, _, _ in os.walk(CGROUPS) if top.endswith(f"/{NAME}")]
    assert found == []


def test_without_a_cgroup_mount_sysfs_shows_none_that_can_be_written(runtime: Runtime) -> None:
    """The rootless case proper: /sys comes from the host by a recursive bind, its cgroups with it."""
    bundle = _of_user_namespace(runtime.bundle(), False)
    bundle.without_mount("/sys").mount("/sys", "/sys", "rbind", "ro", type="none")
    script = f"for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/{NAME} 2>/dev/null && echo made $d; done; echo ok"
    done = runtime.run(bundle.shell(script))
    assert done.out == "ok\n", done
    assert not [top for top, _, _ in os.walk(CGROUPS) if top.endswith(f"/{NAME}")]
