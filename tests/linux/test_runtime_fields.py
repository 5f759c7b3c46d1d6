"""Each field of the spec reaches the kernel: asked of the program inside, of Debian's runc first where it knows it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from tests.peers.machine import CGROUPS
from tests.peers.runtimes import PATHS, Runtime, adopting

pytestmark = pytest.mark.root

V1 = os.path.isdir(f"{CGROUPS}/memory")


# The host's number of a disk to limit.
DISK = os.stat("/dev/vda").st_rdev if os.path.exists("/dev/vda") else os.makedev(7, 0)
DISK_NUMBER = f"{os.major(DISK)}:{os.minor(DISK)}"
# Where a container without a cgroup namespace finds its own cgroup v2 in a mount of all.
V2_DIRECTORY = "cd /c$(cut -d: -f3 /proc/self/cgroup)"


class Field(NamedTuple):
    """`change` is merged into the spec; `script` must print `answer`. Without `runc` runc 1.1.5 does not know the
    field; `v2` is (script, answer) on a host with cgroup v2 where the files are others."""

    change: dict[str, Any]
    script: str
    answer: str
    runc: bool = True
    v2: tuple[str, str] | None = None


def process(**fields: Any) -> dict[str, Any]:
    return {"process": fields}


def linux(**fields: Any) -> dict[str, Any]:
    return {"linux": fields}


def mounted(source: str, *options: str, type: str = "tmpfs", **more: Any) -> dict[str, Any]:
    return {"mounts": [{"destination": "/m", "type": type, "source": source, "options": list(options), **more}]}


def capabilities(**sets: list[str]) -> dict[str, Any]:
    return process(capabilities=sets)


def ofcgroup(resources: dict[str, Any]) -> dict[str, Any]:
    return {
        "linux": {"resources": resources},
        "mounts": [{"destination": "/c", "type": "cgroup", "source": "cgroup", "options": ["ro"]}],
    }


OPTIONS = "grep ' /m ' /proc/self/mountinfo | cut -d' ' -f6"
KILL = ["CAP_KILL"]

FIELDS = {
    "process.user.umask": Field(process(user={"uid": 0, "gid": 0, "umask": 0o27}), "umask", "0027"),
    "process.user.additionalGids": Field(
        process(user={"uid": 7, "gid": 8, "additionalGids": [9, 10]}), "id -u; id -G", "7\n8 9 10"
    ),
    "process.env": Field(process(env=["PATH=/bin", "A=1", "B=", "A=2"]), "echo $A,$B,", "2,,"),
    "process.cwd": Field(process(cwd="/tmp"), "pwd", "/tmp"),
    "process.capabilities.ambient": Field(
        capabilities(bounding=KILL, permitted=KILL, inheritable=KILL, effective=KILL, ambient=KILL),
        "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | cut -f2 | sort -u",
        "0000000000000020",
    ),
    "process.capabilities (none)": Field(
        capabilities(), "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | cut -f2 | sort -u", "0000000000000000"
    ),
    "process.rlimits": Field(
        process(
            rlimits=[{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, {"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}]
        ),
        "ulimit -c; ulimit -n; ulimit -Hn",
        "0\n50\n60",
    ),
    "process.noNewPrivileges": Field(process(noNewPrivileges=True), "grep NoNew /proc/self/status | cut -f2", "1"),
    "process.oomScoreAdj": Field(process(oomScoreAdj=234), "cat /proc/self/oom_score_adj", "234"),
    "process.scheduler": Field(
        process(scheduler={"policy": "SCHED_BATCH", "nice": 5}), "cut -d' ' -f19,41 /proc/self/stat", "5 3", runc=False
    ),
    "process.ioPriority": Field(
        process(ioPriority={"class": "IOPRIO_CLASS_IDLE", "priority": 0}), "ionice -p 1", "idle", runc=False
    ),
    "root.readonly": Field({"root": {"path": "rootfs", "readonly": True}}, "touch /x 2>/dev/null || echo ro", "ro"),
    "hostname": Field({"hostname": "named"}, "hostname", "named"),
    "domainname": Field({"domainname": "here"}, "cat /proc/sys/kernel/domainname", "here", runc=False),
    "mounts[].options nosuid,noexec,nodev": Field(
        mounted("t", "nosuid", "noexec", "nodev", "noatime"), OPTIONS, "rw,nosuid,nodev,noexec,noatime"
    ),
    "mounts[].options ro": Field(mounted("t", "ro", "nodiratime"), OPTIONS, "ro,nodiratime,relatime"),
    "mounts[].options strictatime": Field(mounted("t", "strictatime"), OPTIONS, "rw"),
    "mounts[].options data": Field(mounted("t", "size=64k", "mode=700"), "stat -c %a /m", "700"),
    "mounts[].options data in one word": Field(
        mounted("tmpfs", "size=16k,mode=711"), "stat -c %a /m; grep -c ' /m .*size=16k' /proc/self/mountinfo", "711\n1"
    ),
    "mounts[].options norelatime": Field(mounted("tmpfs", "norelatime"), OPTIONS, "rw,relatime"),
    "mounts[].options tmpcopyup": Field(
        {"mounts": [{"destination": "/etc", "type": "tmpfs", "source": "t", "options": ["tmpcopyup", "ro"]}]},
        "head -1 /etc/passwd; touch /etc/x 2>/dev/null || echo ro",
        "root:x:0:0:root:/root:/bin/sh\nro",
    ),
    "mounts[].options rbind,rro": Field(
        mounted("/sys/fs", "rbind", "rro", type="bind"),
        "grep ' /m.* rw,.* - ' /proc/self/mountinfo | wc -l",
        "0",
    ),
    "mounts[].options rshared": Field(
        mounted("/sys/fs", "rbind", "rprivate", type="bind"), "grep ' /m .* shared' /proc/self/mountinfo | wc -l", "0"
    ),
    "mounts[].source relative": Field(mounted("rootfs/etc", "bind", type="bind"), "ls /m", "passwd"),
    "linux.devices": Field(
        linux(
            devices=[{"path": "/dev/zz", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600, "uid": 1, "gid": 2}]
        ),
        "stat -c '%F %t:%T %a %u %g' /dev/zz",
        "character special file 1:5 600 1 2",
    ),
    "linux.devices fifo": Field(
        linux(devices=[{"path": "/dev/pp", "type": "p", "fileMode": 0o600}]), "stat -c %F /dev/pp", "fifo"
    ),
    "linux.sysctl": Field(
        linux(sysctl={"net.ipv4.ip_forward": "1", "kernel.msgmax": "4242"}),
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax",
        "1\n4242",
    ),
    "linux.maskedPaths": Field(
        linux(maskedPaths=["/etc/passwd", "/tmp", "/no/such"]),
        "wc -c </etc/passwd; touch /tmp/x 2>/dev/null || echo ro",
        "0\nro",
    ),
    "linux.readonlyPaths": Field(
        linux(readonlyPaths=["/tmp", "/no/such"]), "touch /tmp/x 2>/dev/null || echo ro", "ro"
    ),
    "linux.rootfsPropagation": Field(
        linux(rootfsPropagation="shared"),
        "grep ' / [^ ]* shared:' /proc/self/mountinfo | wc -l",
        "1",
        runc=False,  # which makes the container's root private all the same
    ),
    "linux.personality": Field(linux(personality={"domain": "LINUX32"}), "uname -m", "i686", runc=False),
    "linux.timeOffsets": Field(
        linux(timeOffsets={"boottime": {"secs": 1_000_000, "nanosecs": 0}}, namespaces_add=[{"type": "time"}]),
        "[ $(cut -d. -f1 /proc/uptime) -gt 1000000 ] && echo later",
        "later",
        runc=False,
    ),
    "linux.memoryPolicy": Field(
        linux(memoryPolicy={"mode": "MPOL_BIND", "nodes": "0"}),
        "grep -q 'bind:0' /proc/self/numa_maps && echo bound",
        "bound",
        runc=False,
    ),
    "linux.seccomp": Field(
        linux(
            seccomp={
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
            }
        ),
        "mkdir /tmp/x 2>&1 | sed 's/.*: //'; grep Seccomp: /proc/self/status | cut -f2",
        "No space left on device\n2",
    ),
    "linux.resources.memory": Field(
        ofcgroup({"memory": {"limit": 50_003_968, "reservation": 30_003_200}}),
        "cat /c/memory/memory.limit_in_bytes /c/memory/memory.soft_limit_in_bytes",
        "50003968\n30003200",
        v2=("cat memory.max memory.low", "50003968\n30003200"),
    ),
    "linux.resources.cpu": Field(
        ofcgroup({"cpu": {"shares": 300, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0"}}),
        "cd /c/cpu; cat cpu.shares cpu.cfs_quota_us cpu.cfs_period_us; cd /c/cpuset; cat cpuset.cpus cpuset.mems",
        "300\n50000\n100000\n0\n0",
        v2=("cat cpu.max cpuset.cpus cpuset.mems", "50000 100000\n0\n0"),
    ),
    "linux.resources.pids": Field(
        ofcgroup({"pids": {"limit": 31}}), "cat /c/pids/pids.max", "31", v2=("cat pids.max", "31")
    ),
    "linux.resources.devices": Field(
        linux(
            resources={"devices": [{"allow": False, "access": "rwm"}]},
            devices=[{"path": "/dev/kk", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}],
        ),
        "cat /dev/kk 2>&1 | sed 's/.*: //'",
        "Operation not permitted",
    ),
    "linux.resources.devices (none)": Field(
        {
            "linux": {
                "resources": {"devices": None},
                "devices": [{"path": "/dev/kk", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}],
            }
        },
        "cat /dev/kk 2>&1 | sed 's/.*: //'; head -c 1 /dev/zero | wc -c",
        "Operation not permitted\n1",
    ),
    "linux.resources.blockIO": Field(
        ofcgroup(
            {
                "blockIO": {
                    "throttleReadBpsDevice": [{"major": os.major(DISK), "minor": os.minor(DISK), "rate": 1_000_000}]
                }
            }
        ),
        "cat /c/blkio/blkio.throttle.read_bps_device",
        f"{DISK_NUMBER} 1000000",
        v2=("cat io.max", f"{DISK_NUMBER} rbps=1000000 wbps=max riops=max wiops=max"),
    ),
    "linux.cgroupsPath": Field(linux(), "grep -c 'pids:/.*/c1$\\|0::/.*/c1$' /proc/self/cgroup", "2" if V1 else "1"),
    "linux.namespaces cgroup": Field(
        linux(namespaces_add=[{"type": "cgroup"}]), "cut -d: -f3 /proc/self/cgroup | sort -u", "/"
    ),
    "annotations and fields nobody knows": Field(
        {"annotations": {"a.b/c": "d"}, "windows": {}, "x-unknown": [1], "linux": {"x-unknown": {"y": None}}},
        "echo ok",
        "ok",
    ),
}


def merge(spec: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if key == "mounts":
            spec["mounts"] = spec["mounts"] + value
        elif key == "namespaces_add":
            spec["namespaces"] = spec["namespaces"] + value
        elif isinstance(value, dict) and isinstance(spec.get(key), dict) and key in ("process", "linux", "resources"):
            merge(spec[key], value)
        else:
            spec[key] = value


@pytest.fixture
def directory() -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="sampan-fields-")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(params=sorted(PATHS))
def runtime(request: pytest.FixtureRequest, directory: str) -> Iterator[Runtime]:
    if not shutil.which(PATHS[request.param]):
        pytest.skip(f"{request.param} is not installed here")
    with adopting():
        made = Runtime(request.param, directory)
        yield made
        made.tidy()
        assert made.leftovers() == []


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_does_what_it_says(runtime: Runtime, name: str) -> None:
    field = FIELDS[name]
    if runtime.name == "runc" and not field.runc:
        pytest.skip("runc 1.1.5 does not know the field")
    script, answer = field.script, field.answer
    if field.v2 and not V1:
        script, answer = f"{V2_DIRECTORY} && {field.v2[0]}", field.v2[1]
    bundle = runtime.bundle()
    bundle.command("sh", "-c", script)
    merge(bundle.spec, field.change)
    done = runtime.run(bundle.write())
    assert (done.status, done.out.strip(), done.err) == (0, answer, ""), bundle.spec
