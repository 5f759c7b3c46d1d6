"""--systemd-cgroup with the real systemd, on cgroup v2 and on v1: each scenario on Debian's runc and on ours."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.linux.runtimes import Runtime
from tests.peers.waiting import eventually

UNIFIED = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
SLICE = "harbour-pier.slice"
BELOW = "/harbour.slice/harbour-pier.slice"
LIMITS = {
    "memory": {"limit": 1 << 26, "swap": 1 << 27, "reservation": 1 << 25},
    "cpu": {"shares": 512, "quota": 33_333, "period": 100_000, "cpus": "0"},
    "pids": {"limit": 30},
}
# What of a unit's limits the two must have said the same; runc 1.1 makes another weight of the shares.
LIMITED = (
    "AllowedCPUs", "BlockIOAccounting", "CPUAccounting", "CPUQuotaPerSecUSec", "CPUQuotaPeriodUSec", "CPUShares",
    "DefaultDependencies", "Delegate", "DevicePolicy", "IOAccounting", "MemoryAccounting", "MemoryLimit", "MemoryLow",
    "MemoryMax", "MemorySwapMax", "TasksAccounting", "TasksMax",
)  # fmt: skip
FILES = ("memory.max", "memory.swap.max", "memory.low", "cpu.max", "pids.max", "cpuset.cpus", "memory.limit_in_bytes",
         "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes", "cpu.shares", "cpu.cfs_quota_us")  # fmt: skip


class Unit(Runtime):
    """A runtime that is told of systemd, with a scope for its container."""

    def __init__(self, name: str, scratch: str) -> None:
        super().__init__(name, scratch)
        self.command = [*self.command, "--systemd-cgroup"]
        self.cgroup = f"{SLICE}:boat:{self.id}"
        self.unit = f"boat-{self.id}.scope"
        self.below = f"{BELOW}/{self.unit}"

    def show(self, *names: str) -> dict[str, str]:
        """The unit's properties."""
        shown = systemctl("show", self.unit, *(f"--property={name}" for name in names))
        found: dict[str, str] = {}
        for line in shown.splitlines():
            name, _, value = line.partition("=")
            found[name] = f"{found[name]} {value}" if name in found else value
        return found

    def cgroup_dirs(self) -> list[str]:
        top = "/sys/fs/cgroup"
        places = [top] if UNIFIED else [f"{top}/{name}" for name in os.listdir(top)]
        return [f"{place}{self.below}" for place in places if os.path.isdir(f"{place}{self.below}")]

    def files(self) -> dict[str, str]:
        """The limits in the cgroups, whatever the version."""
        found = {}
        for directory in self.cgroup_dirs():
            for name in FILES:
                if os.path.exists(f"{directory}/{name}"):
                    found[name] = Path(f"{directory}/{name}").read_text().strip()
        return found


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def units(tmp_path: Path) -> Iterator[Callable[[str], Unit]]:
    made: list[Unit] = []

    def make(name: str) -> Unit:
        made.append(Unit(name, str(tmp_path / f"{name}-{len(made)}")))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(params=["runc", "sampan-runc"])
def boat(request: pytest.FixtureRequest, units: Callable[[str], Unit]) -> Unit:
    return units(request.param)


def limited(resources: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    return lambda spec: spec["linux"]["resources"].update(resources)


SLEEP = ["/bin/sleep", "1000"]


def test_a_container_is_a_scope_of_the_slice_that_its_path_names(boat: Unit) -> None:
    pid = boat.background(SLEEP)["pid"]
    shown = boat.show("Slice", "Description", "ActiveState", "Delegate", "Transient", "ControlGroup")
    assert shown == {
        "Slice": SLICE, "Description": f"libcontainer container {boat.id}", "ActiveState": "active", "Delegate": "yes",
        "Transient": "yes", "ControlGroup": boat.below,
    }  # fmt: skip
    seen = [Path(f"/proc/{pid}/cgroup").read_text()]
    seen.append(boat("exec", boat.id, "/bin/cat", "/proc/self/cgroup", check=True).stdout)
    for text in seen:
        places = {line.split(":")[1]: line.split(":")[2] for line in text.splitlines()}
        if boat.name == "runc":  # does not know misc, and systemd moves its processes out of the devices tree
            places = {key: value for key, value in places.items() if key not in ("misc", "devices")}
        assert set(places.values()) == {boat.below}
    boat("delete", "-f", boat.id, check=True)
    assert systemctl("list-units", "--all", "--no-legend", boat.unit) == ""
    assert boat.traces() == []


def test_without_a_path_the_scope_is_runcs_in_the_systems_slice(boat: Unit) -> None:
    boat.cgroup = ""
    boat.unit = f"runc-{boat.id}.scope"
    boat.background(SLEEP)
    assert boat.show("ControlGroup", "ActiveState") == {
        "ControlGroup": f"/system.slice/{boat.unit}", "ActiveState": "active",
    }  # fmt: skip


def test_the_state_says_who_made_the_cgroups(boat: Unit) -> None:
    boat.background(SLEEP)
    state = json.loads(Path(f"{boat.root}/{boat.id}/state.json").read_text())
    kept = state["config"]["cgroups"]
    assert (kept["Systemd"], kept["parent"], kept["scope_prefix"], kept["name"]) == (True, SLICE, "boat", boat.id)
    assert set(state["cgroup_paths"].values()) <= set(boat.cgroup_dirs())
    assert os.path.isdir(state["cgroup_paths"]["" if UNIFIED else "name=systemd"])


def test_limits_are_properties_and_files_as_with_runc(units: Callable[[str], Unit]) -> None:
    seen = {}
    for name in ("runc", "sampan-runc"):
        one = units(name)
        one.background(SLEEP, limited(LIMITS))
        devices = one.show("DeviceAllow")["DeviceAllow"].replace("/dev/char/10:200 rwm", "").split()
        seen[name] = one.show(*LIMITED), one.files(), devices
    assert seen["runc"] == seen["sampan-runc"]
    properties, files, devices = seen["sampan-runc"]
    # Whole percents in systemd, what was asked for in the file.
    assert properties["CPUQuotaPerSecUSec"] == "340ms"
    assert files["cpu.max" if UNIFIED else "cpu.cfs_quota_us"].split()[0] == "33333"
    assert properties["MemoryMax" if UNIFIED else "MemoryLimit"] == str(1 << 26)
    assert devices


def test_an_update_reaches_both_and_a_reload_sets_nothing_back(units: Callable[[str], Unit]) -> None:
    seen = {}
    for name in ("runc", "sampan-runc"):
        one = units(name)
        one.background(SLEEP, limited(LIMITS))
        done = one(
            "update", "--memory", "32m", "--memory-swap", "64m", "--pids-limit", "40", "--cpu-quota", "25000", one.id
        )
        assert done.returncode == 0, done.stderr
        before = one.files()
        systemctl("daemon-reload")
        assert one.files() == before
        seen[name] = one.show(*LIMITED), before
        one("update", "--pids-limit", "-1", one.id, check=True)
        assert one.show("TasksMax") == {"TasksMax": "infinity"}
        assert one.files()["pids.max"] == "max"
    assert seen["runc"] == seen["sampan-runc"]
    properties, files = seen["sampan-runc"]
    assert (properties["TasksMax"], files["pids.max"]) == ("40", "40")
    assert properties["CPUQuotaPerSecUSec"] == "250ms"


def test_device_rules_hold_also_after_a_reload_and_an_update(boat: Unit) -> None:
    def rules(spec: dict[str, Any]) -> None:
        spec["linux"]["resources"]["devices"].append(
            {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "rw"}
        )
        spec["process"]["capabilities"]["bounding"].append("CAP_MKNOD")
        for kind in ("effective", "permitted"):
            spec["process"]["capabilities"][kind].append("CAP_MKNOD")
        spec["root"]["readonly"] = False

    boat.background(SLEEP, rules)
    script = "mknod /kmsg c 1 11; mknod /port c 1 4; (exec 3<>/kmsg) && (exec 3<>/port) 2>/dev/null || echo refused"
    assert boat("exec", boat.id, "/bin/sh", "-c", script).stdout == "refused\n"
    assert "/dev/char/1:11 rw" in boat.show("DeviceAllow")["DeviceAllow"]
    systemctl("daemon-reload")
    boat("update", "--pids-limit", "50", boat.id, check=True)
    again = "(exec 3<>/kmsg) && (exec 3<>/port) 2>/dev/null || echo refused"
    assert boat("exec", boat.id, "/bin/sh", "-c", again).stdout == "refused\n"


def test_all_devices_are_allowed_by_a_rule_that_says_so(boat: Unit) -> None:
    boat.background(SLEEP, limited({"devices": [{"allow": True, "access": "rwm"}]}))
    if UNIFIED:
        assert boat.show("DevicePolicy", "DeviceAllow") == {"DevicePolicy": "auto"}
    else:
        assert Path(f"/sys/fs/cgroup/devices{boat.below}/devices.list").read_text() == "a *:* rwm\n"


def test_annotations_set_properties_of_the_unit(boat: Unit) -> None:
    def ask(spec: dict[str, Any]) -> None:
        spec["annotations"] = {
            "org.systemd.property.TimeoutStopUSec": "uint64 123456789",
            "org.systemd.property.RuntimeMaxSec": "1000",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.After": "['harbour.target', 'sea.target']",
        }

    boat.background(SLEEP, ask)
    assert boat.show("TimeoutStopUSec", "RuntimeMaxUSec", "CollectMode") == {
        "TimeoutStopUSec": "2min 3.456789s", "RuntimeMaxUSec": "16min 40s", "CollectMode": "inactive-or-failed",
    }  # fmt: skip
    assert {"harbour.target", "sea.target"} <= set(boat.show("After")["After"].split())


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("org.systemd.property.x", "1", True),
        ("org.systemd.property.Two-Words", "1", True),
        ("org.systemd.property.TimeoutStopSec", "'soon'", True),
        ("org.systemd.property.TimeoutStopUSec", "uint64 [", False),
        ("org.systemd.property.NoSuchProperty", "uint64 1", False),
    ],
)
def test_a_wrong_annotation_is_refused_and_leaves_nothing(
    units: Callable[[str], Unit], key: str, value: str, same: bool
) -> None:
    texts = []
    for name in ("runc", "sampan-runc"):
        one = units(name)
        done = one.run(SLEEP, lambda spec: spec.update(annotations={key: value}))
        assert done.returncode == 1
        texts.append(one.message(done).replace(one.unit, "UNIT"))
        assert one.traces() == []
    assert texts[0] == texts[1] or not same
    assert key.rpartition(".")[2] in texts[1]


@pytest.mark.parametrize("path", ["/harbour/boat", "a.slice:boat", "a/b.slice:boat:x", "-a.slice:boat:x", "a:boat:x"])
def test_a_path_that_names_no_unit_is_refused(units: Callable[[str], Unit], path: str) -> None:
    texts = []
    for name in ("runc", "sampan-runc"):
        one = units(name)
        one.cgroup = path
        done = one.run(SLEEP)
        assert done.returncode == 1
        texts.append(one.message(done))
        assert one.traces() == []
    assert texts[1] == texts[0]


def test_pause_resume_kill_and_the_figures_are_those_of_the_scope(boat: Unit) -> None:
    boat.background(SLEEP)
    boat("pause", boat.id, check=True)
    assert boat.state()["status"] == "paused"
    boat("resume", boat.id, check=True)
    assert boat.state()["status"] == "running"
    stats = json.loads(boat("events", "--stats", boat.id, check=True).stdout)
    assert stats["data"]["pids"]["current"] == 1
    if UNIFIED or boat.name != "runc":  # which asks the devices tree
        assert json.loads(boat("ps", "--format", "json", boat.id, check=True).stdout) == [boat.state()["pid"]]
    boat("kill", boat.id, "KILL", check=True)
    eventually(lambda: boat.state()["status"] == "stopped")
    boat("delete", boat.id, check=True)
    assert boat.traces() == []


def test_a_run_to_the_end_leaves_no_unit(boat: Unit) -> None:
    done = boat.run(["/bin/sh", "-c", "sleep 1000 & exit 3"])
    assert done.returncode == 3
    assert systemctl("list-units", "--all", "--no-legend", boat.unit) == ""
    assert boat.traces() == []


def test_a_created_container_waits_in_its_scope_and_can_be_deleted(boat: Unit) -> None:
    assert boat.create(limited(LIMITS), SLEEP) == 0
    assert boat.show("ActiveState") == {"ActiveState": "active"}
    # The file that the driver has not left to systemd.
    assert boat.files()["cpu.max" if UNIFIED else "cpu.cfs_quota_us"].split()[0] == "33333"
    boat("start", boat.id, check=True)
    assert boat.state()["status"] == "running"
    boat("delete", "--force", boat.id, check=True)
    assert boat.traces() == []


def test_a_unit_in_use_is_left_alone(units: Callable[[str], Unit]) -> None:
    """runc 1.1 warns and goes in; runc 1.2, in these words, does not either."""
    first = units("runc")
    pid = first.background(SLEEP)["pid"]
    one = units("sampan-runc")
    one.cgroup = first.cgroup
    assert one.message(one.run(SLEEP)).endswith("container's cgroup is not empty: 1 process(es) found")
    assert not os.path.exists(f"{one.root}/{one.id}")
    assert os.path.exists(f"/proc/{pid}")
    assert first.show("ActiveState") == {"ActiveState": "active"}


def test_a_failed_unit_of_the_same_name_is_forgotten(units: Callable[[str], Unit]) -> None:
    """runc 1.1 leaves it failed, and its container in no unit."""
    boat = units("sampan-runc")
    words = ["systemd-run", "--scope", "--unit", boat.unit, "-p", "RuntimeMaxSec=100ms", "-p", "TimeoutStopSec=100ms"]
    subprocess.run([*words, "sh", "-c", "trap '' TERM; sleep 20"], capture_output=True, check=False)
    eventually(lambda: boat.show("ActiveState") == {"ActiveState": "failed"})
    boat.background(SLEEP)
    assert boat.show("ActiveState") == {"ActiveState": "active"}


def test_without_the_bus_systemd_itself_is_asked(boat: Unit, tmp_path: Path) -> None:
    boat.write(args=SLEEP)
    hidden = 'mount -t tmpfs none /run/dbus && exec "$@"'
    words = [*boat.command, "--root", boat.root]
    with open(tmp_path / "err", "w+") as errors:
        for more in (["run", "-d", boat.id], ["update", "--pids-limit", "20", boat.id], ["delete", "-f", boat.id]):
            done = subprocess.run(
                ["busybox", "unshare", "-m", "sh", "-c", hidden, "sh", *words, *more], cwd=boat.bundle,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, check=False, timeout=30,
            )  # fmt: skip
            assert done.returncode == 0, Path(tmp_path / "err").read_text()
            if more[0] == "update":
                assert boat.show("TasksMax") == {"TasksMax": "20"}
    assert boat.traces() == []


@pytest.mark.skipif(not UNIFIED, reason="linux.resources.unified is v2's")
def test_unified_entries_are_properties_where_systemd_has_them(units: Callable[[str], Unit]) -> None:
    seen = {}
    entries = {"memory.high": "50000000", "memory.min": "1048576", "cpu.weight": "77", "cpu.max": "20000 50000",
               "pids.max": "25", "cpuset.cpus": "0", "memory.swap.max": "max"}  # fmt: skip
    for name in ("runc", "sampan-runc"):
        one = units(name)
        one.background(SLEEP, limited({"unified": entries}))
        seen[name] = one.show("CPUWeight", "MemoryHigh", "MemoryMin", *LIMITED), one.files()
    assert seen["runc"] == seen["sampan-runc"]
    assert seen["sampan-runc"][0]["CPUWeight"] == "77"
    assert seen["sampan-runc"][0]["MemoryHigh"] == "50000000"


@pytest.mark.skipif(not UNIFIED, reason="a cgroup is delegated on v2 only")
def test_a_container_with_cgroups_of_its_own_can_divide_them(boat: Unit) -> None:
    def own(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"] += [{"type": "cgroup"}, {"type": "user"}]
        for kind in ("uidMappings", "gidMappings"):
            spec["linux"][kind] = [{"containerID": 0, "hostID": 100_000, "size": 65_536}]
        mount = next(one for one in spec["mounts"] if one["type"] == "cgroup")
        mount["options"] = ["nosuid", "noexec", "nodev"]

    open_up(boat.bundle)
    script = "cd /sys/fs/cgroup; mkdir below && echo 1 > below/cgroup.procs && cat /proc/self/cgroup"
    assert boat.shell(script, own) == "0::/below\n"


class Rootless(Unit):
    """As user 1000, whose own manager has the units."""

    def __init__(self, name: str, scratch: str) -> None:
        super().__init__(name, scratch)
        open_up(self.bundle)
        for top, directories, files in os.walk(scratch):
            for one in (".", *directories, *files):
                os.chown(f"{top}/{one}", 1000, 1000, follow_symlinks=False)
        self.command = ["/usr/bin/setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "env",
                        "XDG_RUNTIME_DIR=/run/user/1000", *self.command]  # fmt: skip
        self.unit = f"boat-{self.id}.scope"
        self.below = f"/user.slice/user-1000.slice/user@1000.service{BELOW}/{self.unit}"

    def write(self, change: Callable[[dict[str, Any]], object] | None = None, args: list[str] | None = None) -> None:
        def rootless(spec: dict[str, Any]) -> None:
            spec["linux"]["namespaces"] = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "user", "cgroup")]
            for kind in ("uidMappings", "gidMappings"):
                spec["linux"][kind] = [{"containerID": 0, "hostID": 1000, "size": 1}]
            # A user without mapped groups cannot have tty's, and without a network namespace no sysfs.
            spec["mounts"] = [one for one in spec["mounts"] if one["type"] != "sysfs"]
            for one in spec["mounts"]:
                one["options"] = [word for word in one.get("options", []) if word != "gid=5"]
                if one["type"] == "cgroup":
                    one["destination"] = "/mnt"
            if change:
                change(spec)

        super().write(rootless, args)
        os.chmod(f"{self.bundle}/config.json", 0o644)


def open_up(path: str) -> None:
    """Let somebody else come to it: pytest's directories are root's alone."""
    while path != "/tmp":
        os.chmod(path, 0o755)
        path = os.path.dirname(path)


@pytest.mark.skipif(not UNIFIED, reason="systemd delegates to users on v2 only")
@pytest.mark.parametrize("name", ["runc", "sampan-runc"])
def test_without_root_the_users_own_systemd_has_the_scope(name: str, tmp_path: Path) -> None:
    boat = Rootless(name, str(tmp_path / name))
    try:
        pid = boat.background(SLEEP, limited({"pids": {"limit": 33}, "memory": {"limit": 1 << 26}}))["pid"]
        assert Path(f"/proc/{pid}/cgroup").read_text() == f"0::{boat.below}\n"
        assert (boat.files()["pids.max"], boat.files()["memory.max"]) == ("33", str(1 << 26))
        boat("update", "--pids-limit", "44", boat.id, check=True)
        assert boat.files()["pids.max"] == "44"
        boat("pause", boat.id, check=True)
        assert boat.state()["status"] == "paused"
        boat("resume", boat.id, check=True)
        if name != "runc":  # 1.1 leaves it where the caller is
            seen = boat("exec", boat.id, "/bin/cat", "/proc/self/cgroup", check=True).stdout
            assert seen == "0::/\n"
        boat("delete", "-f", boat.id, check=True)
        assert boat.cgroup_dirs() == []
    finally:
        boat.close()


KEEPER = """
import json, select, sys
from sampan.keeper.library import Library
bundle, root, name = sys.argv[1:]
with open(f"{bundle}/config.json") as file:
    spec = json.load(file)
made = Library().launch(spec, container_id=name, bundle=bundle, root=root, rootfs_mounts=[], stdio=None, terminal=False,
                        console_size=None, systemd=True)
poller = select.poll()
poller.register(made.channel)
event = None
while event != ("running",):
    poller.poll()
    event = made.step()
    if event == ("ready",):
        made.proceed()
"""


def test_a_keeper_makes_units_too(units: Callable[[str], Unit]) -> None:
    """For containerd's option SystemdCgroup; the keeper calls the same library."""
    boat = units("sampan-runc")
    boat.write(limited(LIMITS), SLEEP)
    os.makedirs(boat.root)
    subprocess.run(
        ["python3", "-c", KEEPER, boat.bundle, boat.root, boat.id], check=True, timeout=60,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert boat.show("ActiveState", "ControlGroup") == {"ActiveState": "active", "ControlGroup": boat.below}
    assert boat.show("TasksMax") == {"TasksMax": "30"}
    assert boat.state()["status"] == "running"
    boat("delete", "-f", boat.id, check=True)
    assert boat.traces() == []
