"""The parts of cgroup v2 that a hybrid host has: device programs and freezing in its controller-less tree."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from sampan.errors import Error
from sampan.linux import abi, bpf, process
from sampan.runtime import cgroup
from sampan.runtime.cgroup import v2
from sampan.runtime.host import host_facts

pytestmark = [pytest.mark.root]

DENY_ALL: Any = {"devices": [{"allow": False, "access": "rwm"}]}


@pytest.fixture
def directory() -> Iterator[str]:
    trees = [tree.mount_point for tree in host_facts().hierarchies if tree.version == 2]
    if not trees:
        pytest.skip("no cgroup v2 is mounted")
    path = f"{trees[0]}/sampan-runtime-v2-{os.getpid()}"
    cgroup.create({"": path})
    yield path
    cgroup.kill({"": path}, abi.SIGKILL)
    cgroup.remove({"": path})


def opens_inside(directory: str, path: str) -> bool:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    pid, pidfd = process.clone3(0, fd)
    if pid == 0:
        try:
            os.close(os.open(path, os.O_RDONLY))
            os._exit(0)
        except OSError:
            os._exit(1)
    os.close(fd)
    found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    os.close(pidfd)
    assert found is not None
    return found.si_status == 0


def test_the_device_program_lets_through_what_the_rules_allow(directory: str) -> None:
    assert opens_inside(directory, "/dev/kmsg")
    v2.set_devices(directory, DENY_ALL)
    assert opens_inside(directory, "/dev/zero")
    assert not opens_inside(directory, "/dev/kmsg")


def test_new_rules_take_the_place_of_the_old(directory: str) -> None:
    v2.set_devices(directory, DENY_ALL)
    v2.set_devices(directory, {"devices": [*DENY_ALL["devices"], {"allow": True, "type": "c", "major": 1, "minor": 11,
                                                                  "access": "r"}]})  # fmt: skip
    assert opens_inside(directory, "/dev/kmsg")
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    assert len(bpf.query_device(fd)) == 1
    os.close(fd)


def test_freezing_stops_and_thawing_lets_go_on(directory: str) -> None:
    paths = {"": directory}
    sleeper = subprocess.Popen(["sleep", "100"])
    with open(f"{directory}/cgroup.procs", "w") as file:
        file.write(str(sleeper.pid))
    cgroup.freeze(paths, True)
    assert cgroup.is_frozen(paths)
    cgroup.freeze(paths, False)
    assert not cgroup.is_frozen(paths)
    assert cgroup.pids(paths) == [sleeper.pid]
    cgroup.kill(paths, abi.SIGKILL)
    assert sleeper.wait(10) == -9


def test_a_cgroup_with_somebody_in_it_is_not_taken(directory: str) -> None:
    sleeper = subprocess.Popen(["sleep", "100"])
    with open(f"{directory}/cgroup.procs", "w") as file:
        file.write(str(sleeper.pid))
    with pytest.raises(Error, match=r"container's cgroup is not empty: 1 process\(es\) found"):
        cgroup.create({"": directory})
    cgroup.kill({"": directory}, abi.SIGKILL)
    sleeper.wait(10)


def test_a_limit_without_its_controller_is_refused_by_the_fields_name(directory: str) -> None:
    if "memory" in (tree for host in host_facts().hierarchies if host.version == 2 for tree in host.controllers):
        pytest.skip("this host's v2 tree has the controller")
    with pytest.raises(Error, match=r"linux\.resources\.memory\.limit"):
        v2.apply(directory, {"memory": {"limit": 1 << 26}}, update=False)
