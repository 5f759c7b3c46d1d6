"""What a container is, on the real kernel. Each test runs on Debian's runc first, so that it is known to be true."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.linux.runtimes import COMMANDS, UNIFIED, Runtime
from tests.peers.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]


@pytest.fixture(params=[pytest.param("runc", marks=pytest.mark.needs("runc")), "sampan-runc"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Runtime]:
    made = Runtime(request.param, str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Runtime]:
    made = Runtime("sampan-runc", str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def both(tmp_path: Path) -> Iterator[list[Runtime]]:
    made = [Runtime(name, str(tmp_path / name)) for name in COMMANDS]
    yield made
    for one in made:
        one.close()


def test_the_exit_code_is_the_programs_own(runtime: Runtime) -> None:
    assert runtime.run(["/bin/sh", "-c", "exit 42"]).returncode == 42
    assert runtime.traces() == []


def test_death_by_a_signal_is_128_plus_its_number(runtime: Runtime) -> None:
    script = "kill -KILL $$; sleep 1"

    def without_pidns(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "pid"]

    assert runtime.run(["/bin/sh", "-c", script], without_pidns).returncode == 128 + 9


def test_no_signal_stays_ignored_however_the_runtime_was_started(runtime: Runtime) -> None:
    """As by a shell's "&", which ignores INT and QUIT, and by nohup; 32 and 33 are what posix_spawn(3) may leave."""
    runtime.write(None, ["/bin/sh", "-c", "exec grep -E 'Sig(Ign|Blk)' /proc/self/status"])
    script = (
        "import os, signal, sys, ctypes\n"
        "for n in (1, 2, 3, 13, 15, 17, 25, 40, 64): signal.signal(n, signal.SIG_IGN)\n"
        "action = (ctypes.c_ulong * 4)(1)\n"
        "number = 13 if os.uname().machine == 'x86_64' else 134\n"
        "for n in (32, 33): assert ctypes.CDLL(None).syscall(number, n, action, None, 8) == 0\n"
        "assert int(next(l for l in open('/proc/self/status') if 'SigIgn' in l).split()[1], 16) >> 31 & 3 == 3\n"
        "os.execvp(sys.argv[1], sys.argv[1:])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *runtime.command, "--root", runtime.root, "run", runtime.id],
        cwd=runtime.bundle, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    left = 1 << 31 if runtime.name == "runc" else 0  # Go's own library cannot change 32
    assert done.stdout.split() == ["SigBlk:", "0" * 16, "SigIgn:", f"{left:016x}"], done.stderr


def test_stdout_and_stderr_are_separate(runtime: Runtime) -> None:
    done = runtime.run(["/bin/sh", "-c", "echo out; echo err >&2"])
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_standard_input_reaches_the_program(runtime: Runtime) -> None:
    runtime.write(None, ["/bin/cat"])
    done = subprocess.run(
        [*runtime.command, "--root", runtime.root, "run", runtime.id],
        cwd=runtime.bundle, input=b"over the side", capture_output=True, timeout=30,
    )  # fmt: skip
    assert done.stdout == b"over the side"


def test_signals_are_passed_to_the_program(runtime: Runtime) -> None:
    runtime.write(None, ["/bin/sh", "-c", "trap 'exit 7' TERM; echo ready; while true; do sleep 0.05; done"])
    with subprocess.Popen(
        [*runtime.command, "--root", runtime.root, "run", runtime.id],
        cwd=runtime.bundle, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 7


FAILURES: list[tuple[str, Any, str]] = [
    ("no such program", {"process": {"args": ["/bin/nosuch"]}},
     'unable to start container process: exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory'),
    ("not on PATH", {"process": {"args": ["nosuch"]}},
     'unable to start container process: exec: "nosuch": executable file not found in $PATH'),
    ("not executable", {"process": {"args": ["/etc/passwd"]}},
     'unable to start container process: exec: "/etc/passwd": permission denied'),
    ("bind source missing", {"mounts+": [{"destination": "/mnt", "type": "bind", "source": "/nosuch",
                                          "options": ["bind"]}]},
     'error during container init: error mounting "/nosuch" to rootfs at "/mnt": stat /nosuch: no such file or '
     "directory"),
    ("a limit above the hard one", {"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1 << 40, "soft": 1}]}},
     "error setting rlimits for ready process: error setting rlimit type 7: operation not permitted"),
    ("a hook that fails", {"hooks": {"prestart": [{"path": "/bin/false"}]}},
     "hook #0"),
    ("a capability that the host lacks", {"process": {"capabilities": {"effective": ["CAP_SYS_RESOURCE"],
                                                                       "permitted": ["CAP_SYS_RESOURCE"]}}},
     "unable to start container process: unable to apply caps: operation not permitted"),
    ("relative cwd", {"process": {"cwd": "tmp"}}, "Cwd must be an absolute path"),
    ("sysctl of the host's network", {"linux": {
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "namespaces": [{"type": "mount"}, {"type": "uts"}, {"type": "network", "path": "/proc/self/ns/net"}],
    }}, 'sysctl "net.ipv4.ip_forward" not allowed in host network namespace'),
    ("a rule that notifies nobody", {"linux": {"seccomp": {
        "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    }}}, "listenerPath is not set"),
    ("no args", {"process": {"args": []}}, "args must not be empty"),
    ("a namespace twice", {"linux": {"namespaces": [{"type": "pid"}, {"type": "pid"}]}},
     "malformed spec file: duplicated"),
    ("a sysctl of the host", {"linux": {"sysctl": {"kernel.panic": "1"}}},
     'sysctl "kernel.panic" is not in a separate kernel namespace'),
    ("a limit too small", {"linux": {"resources": {"memory": {"limit": 1000}}}},
     "container init was OOM-killed (memory limit too low?)" if UNIFIED else
     "unable to set memory limit to 1000 (current usage:"),
]  # fmt: skip


def merge(target: dict[str, Any], change: dict[str, Any]) -> None:
    for key, value in change.items():
        if key.endswith("+"):
            target.setdefault(key[:-1], []).extend(value)
        elif isinstance(value, dict):
            merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


@pytest.mark.parametrize(("change", "text"), [case[1:] for case in FAILURES], ids=[case[0] for case in FAILURES])
def test_a_failure_has_runcs_text_and_leaves_nothing(runtime: Runtime, change: dict[str, Any], text: str) -> None:
    runtime.write(lambda spec: merge(spec, change))
    done = runtime("run", runtime.id)
    assert done.returncode == 1
    assert text in runtime.message(done)
    assert runtime.traces() == []


def test_the_error_line_is_runcs_also_in_json_and_in_a_log_file(runtime: Runtime, tmp_path: Path) -> None:
    runtime.write(None, ["nosuch"])
    log = tmp_path / "log.json"
    done = runtime("--log", str(log), "--log-format", "json", "run", runtime.id)
    lines = [line for line in log.read_text().splitlines() if '"level":"error"' in line]
    assert "executable file not found in $PATH" in lines[-1]
    assert re.search(r'"msg":"runc run failed: unable to start', lines[-1])
    assert re.search(r'"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"', lines[-1])
    assert done.stderr.startswith("runc run failed: unable")


def test_a_program_the_kernel_cannot_execute_says_so_on_stderr(runtime: Runtime) -> None:
    bad = f"{runtime.bundle}/rootfs/bad"
    Path(bad).write_text("hello")
    os.chmod(bad, 0o755)
    done = runtime.run(["/bad"])
    assert (done.returncode, done.stderr) == (1, "exec /bad: exec format error\n")


def test_user_groups_umask_and_home_are_the_specs(runtime: Runtime) -> None:
    def sailor(spec: dict[str, Any]) -> None:
        spec["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [5, 6], "umask": 0o027}

    assert runtime.shell("id; umask; echo $HOME", sailor) == (
        "uid=1000(sailor) gid=1000 groups=5,6\n0027\n/home/sailor\n"
    )


def test_a_missing_working_directory_is_made(runtime: Runtime) -> None:
    def far(spec: dict[str, Any]) -> None:
        spec["process"]["cwd"] = "/far/away"
        spec["root"]["readonly"] = False

    assert runtime.shell("pwd", far) == "/far/away\n"


STATUS = "grep -E '^(Cap|NoNewPrivs|Seccomp:|SigIgn|SigBlk)' /proc/self/status"


def test_privileges_and_signals_are_as_with_runc(both: list[Runtime]) -> None:
    found = [one.shell(STATUS) for one in both]
    assert found[0] == found[1]
    assert "CapEff:\t0000000020000420" in found[1]


def mounts_of(text: str) -> dict[str, tuple[str, str, str]]:
    """mount point to (root within its file system, options, type) without what differs from boot to boot."""
    found: dict[str, tuple[str, str, str]] = {}
    for line in text.splitlines():
        fields = line.split()
        separator = fields.index("-")
        root = "" if fields[separator + 1] in ("cgroup", "ext4", "overlay") else fields[3]
        found[fields[4]] = (root, fields[5], fields[separator + 1])
    return found


def test_the_mounts_are_as_with_runc(both: list[Runtime]) -> None:
    theirs, ours = (mounts_of(one.shell("cat /proc/self/mountinfo")) for one in both)
    if not UNIFIED:
        # runc 1.1 forgets to make the small tmpfs above the cgroup trees read-only; newer ones do.
        theirs.pop("/sys/fs/cgroup")
        assert ours.pop("/sys/fs/cgroup")[1].startswith("ro,")
    assert ours == theirs


@pytest.mark.parametrize("place", ["/dev", "/dev/pts", "/proc/self/fd/..", "/sys/fs/cgroup", "/"])
def test_directories_hold_what_they_hold_with_runc(both: list[Runtime], place: str) -> None:
    script = f"ls -lan {place}/ | grep -v ^total | while read m n u g s rest; do echo $m $u $g ${{rest##*[0-9] }}; done"
    theirs, ours = (one.shell(script) for one in both)
    # The directory itself: runc 1.1 gives a tmpfs the mode of the place, newer ones let the option win.
    assert sorted(ours.split("\n")[1:]) == sorted(theirs.split("\n")[1:])


def test_only_the_standard_streams_are_open(runtime: Runtime) -> None:
    names = runtime.shell("cd /proc/self/fd; ls").split()
    # 3 is what ls reads the directory with.
    assert names == ["0", "1", "2", "3"]


def test_masked_paths_are_empty_and_read_only_paths_refuse_writing(runtime: Runtime) -> None:
    out = runtime.shell("cat /proc/keys; ls /sys/firmware; (echo 1 > /proc/sys/kernel/panic) 2>&1; true")
    assert out == "/bin/sh: can't create /proc/sys/kernel/panic: Read-only file system\n"


def test_host_and_domain_name_are_set_in_a_namespace_of_its_own(runtime: Runtime) -> None:
    before = os.uname().nodename
    assert runtime.shell("hostname") == "boat\n"
    assert os.uname().nodename == before


def test_loopback_is_up_in_a_new_network(runtime: Runtime) -> None:
    assert runtime.shell("cat /sys/class/net/lo/flags /proc/net/dev | head -1") == "0x9\n"


def test_sysctls_of_a_namespace_are_set(runtime: Runtime) -> None:
    def sysctls(spec: dict[str, Any]) -> None:
        spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}

    assert runtime.shell("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax", sysctls) == "1\n4096\n"


def test_binds_of_files_and_directories_with_their_options(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("cargo\n")

    def binds(spec: dict[str, Any]) -> None:
        spec["root"]["readonly"] = False
        spec["mounts"] += [
            {
                "destination": "/hold",
                "type": "bind",
                "source": str(tmp_path / "d"),
                "options": ["rbind", "ro", "nosuid"],
            },
            {"destination": "/deep/er/file", "type": "bind", "source": str(tmp_path / "d/f"), "options": ["bind"]},
        ]

    script = (
        "cat /hold/f /deep/er/file; touch /hold/x; echo $?; echo more >> /deep/er/file; "
        "grep ' /hold ' /proc/self/mounts"
    )
    out = runtime.shell(f"({script}) 2>/dev/null", binds).split("\n")
    assert out[:3] == ["cargo", "cargo", "1"]
    assert out[3].split()[3].startswith("ro,nosuid,")
    assert (tmp_path / "d" / "f").read_text() == "cargo\nmore\n"


def test_a_symlink_as_mount_destination_stays_inside_the_rootfs(runtime: Runtime, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(str(outside), f"{runtime.bundle}/rootfs/link")

    def onto_link(spec: dict[str, Any]) -> None:
        spec["mounts"].append({"destination": "/link/sub", "type": "tmpfs", "source": "tmpfs"})
        spec["root"]["readonly"] = False

    runtime.shell("grep -c /sub /proc/self/mounts", onto_link)
    assert os.listdir(outside) == []


@pytest.mark.parametrize("place", ["/proc", "/sys"])
def test_proc_and_sys_must_be_real_directories(runtime: Runtime, place: str) -> None:
    os.rmdir(f"{runtime.bundle}/rootfs{place}")
    os.symlink("/tmp", f"{runtime.bundle}/rootfs{place}")
    done = runtime.run(["/bin/true"])
    assert done.returncode == 1
    assert "must be mounted on ordinary directory" in runtime.message(done)


def test_a_mount_inside_proc_is_refused(runtime: Runtime) -> None:
    done = runtime.run(["/bin/true"], lambda spec: spec["mounts"].append(
        {"destination": "/proc/irq", "type": "bind", "source": "/tmp", "options": ["bind"]}))  # fmt: skip
    assert done.returncode == 1
    assert "cannot be mounted because it is inside /proc" in runtime.message(done)


def test_devices_of_the_spec_are_made_and_others_may_not_be_used(runtime: Runtime) -> None:
    def devices(spec: dict[str, Any]) -> None:
        spec["linux"]["devices"] = [
            {"path": "/dev/kernel-log", "type": "c", "major": 1, "minor": 11, "fileMode": 0o600, "uid": 7, "gid": 8}
        ]
        spec["process"]["capabilities"] = {
            name: ["CAP_MKNOD", "CAP_DAC_OVERRIDE"] for name in ("bounding", "effective", "permitted")
        }

    script = (
        "stat -c '%t:%T %a %u %g' /dev/kernel-log; head -c1 /dev/kernel-log; echo $?; mknod /dev/x c 1 11; "
        "head -c1 /dev/x; echo $?; head -c1 /dev/zero >/dev/null && echo zero"
    )
    out = runtime.shell(f"({script}) 2>/dev/null", devices)
    assert out == "1:b 600 7 8\n1\n1\nzero\n"


def test_limits_reach_the_cgroups(runtime: Runtime) -> None:
    def limits(spec: dict[str, Any]) -> None:
        spec["linux"]["resources"] |= {
            "memory": {"limit": 64 << 20, "swap": 128 << 20, "reservation": 32 << 20, "swappiness": 10},
            "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
            "pids": {"limit": 33},
        }

    if UNIFIED:
        files = "memory.max memory.swap.max memory.low cpu.max cpuset.cpus pids.max"
        out = runtime.shell(f"cd /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); cat {files}", limits)
        assert out.split() == ["67108864", "67108864", "33554432", "50000", "100000", "0", "33"]
        return
    files = (
        "memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes memory/memory.soft_limit_in_bytes "
        "memory/memory.swappiness cpu/cpu.shares cpu/cpu.cfs_quota_us cpuset/cpuset.cpus pids/pids.max"
    )
    out = runtime.shell(f"cd /sys/fs/cgroup; cat {files}", limits)
    assert out.split() == ["67108864", "134217728", "33554432", "10", "512", "50000", "0", "33"]


def test_a_private_cgroup_namespace_shows_the_container_as_root(runtime: Runtime) -> None:
    def cgroupns(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"].append({"type": "cgroup"})

    file = "memory.max" if UNIFIED else "memory/tasks"  # the first is in no root but a namespace's
    out = runtime.shell(f"cat /proc/self/cgroup; ls /sys/fs/cgroup/{file}", cgroupns)
    assert {line.split(":")[2] for line in out.splitlines()[:-1]} == {"/"}


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_user_namespace_maps_root_to_somebody_else(name: str) -> None:
    def userns(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"].append({"type": "user"})
        for kind in ("uidMappings", "gidMappings"):
            spec["linux"][kind] = [{"containerID": 0, "hostID": 100000, "size": 65536}]

    # pytest's own directory is closed to everybody but root, and the namespace's root is somebody else.
    with tempfile.TemporaryDirectory() as scratch:
        os.chmod(scratch, 0o755)
        runtime = Runtime(name, scratch)
        try:
            out = runtime.shell("id -u; cat /proc/self/uid_map; stat -c %t:%T /dev/null", userns)
        finally:
            runtime.close()
    assert out.split() == ["0", "0", "100000", "65536", "1:3"]


def test_joining_a_network_namespace_by_path(runtime: Runtime) -> None:
    holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "ip link set lo mtu 9000; echo; cat"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    try:
        assert holder.stdout is not None
        holder.stdout.readline()

        def join(spec: dict[str, Any]) -> None:
            for namespace in spec["linux"]["namespaces"]:
                if namespace["type"] == "network":
                    namespace["path"] = f"/proc/{holder.pid}/ns/net"

        assert runtime.shell("cat /sys/class/net/lo/mtu", join) == "9000\n"
    finally:
        holder.communicate()


def logging_hooks(log: Path, *names: str) -> Callable[[dict[str, Any]], None]:
    """Hooks that write where they are, the status that they are told, their environment's OF and their directory."""

    def hook(name: str) -> list[dict[str, Any]]:
        host = os.readlink("/proc/self/ns/mnt")
        script = (
            f'state=$(cat); ns=$(readlink /proc/self/ns/mnt); here=outside; [ "$ns" = "{host}" ] '
            f'|| here=inside; echo {name} $here $(echo "$state" | grep -o \'"status":"[a-z]*"\') $OF $(pwd) >> {log}'
        )
        return [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["OF=hook", "PATH=/bin:/usr/bin"]}]

    def change(spec: dict[str, Any]) -> None:
        spec["hooks"] = {name: hook(name) for name in names}
        folder = str(log.parent)
        spec["mounts"].append({"destination": folder, "source": folder, "type": "bind", "options": ["bind"]})

    return change


HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@pytest.mark.parametrize("verbs", ["run", "create and start"])
def test_hooks_run_in_their_order_place_and_with_the_state(runtime: Runtime, tmp_path: Path, verbs: str) -> None:
    log = tmp_path / "log"
    if verbs == "run":
        runtime.write(logging_hooks(log, *HOOKS), ["/bin/true"])
        runtime("run", "--bundle", runtime.bundle, runtime.id, check=True, cwd="/")
    else:
        assert runtime.create(logging_hooks(log, *HOOKS), ["/bin/true"]) == 0
        runtime("start", runtime.id, check=True)
        eventually(lambda: runtime.state()["status"] == "stopped")
        runtime("delete", runtime.id, check=True)
    lines = log.read_text().split("\n")[:-1]
    bundle = runtime.bundle
    if runtime.name == "runc":  # it does not wait for the program before it runs the poststart hooks
        lines.sort(key=lambda line: HOOKS.index(line.split()[0]))
    assert lines == [
        f'prestart outside "status":"creating" hook {bundle}',
        f'createRuntime outside "status":"creating" hook {bundle}',
        f'createContainer inside "status":"creating" hook {bundle}/rootfs',
        'startContainer inside "status":"created" hook /',
        # The spec says "running" for poststart (runtime.md#lifecycle); runc 1.1 still says "created".
        f'poststart outside "status":"{"created" if runtime.name == "runc" else "running"}" hook {bundle}',
        f'poststop outside "status":"stopped" hook {bundle}',
    ]


def test_a_poststart_hook_sees_the_program_and_not_the_runtime(ours: Runtime, tmp_path: Path) -> None:
    """Although a startContainer hook keeps init from it for a while."""
    log = tmp_path / "log"
    script = f"pid=$(grep -o '\"pid\":[0-9]*' | cut -d: -f2); tr '\\0' ' ' < /proc/$pid/cmdline > {log}"

    def hooks(spec: dict[str, Any]) -> None:
        spec["hooks"] = {
            "startContainer": [{"path": "/bin/sleep", "args": ["sleep", "0.3"]}],
            "poststart": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}],
        }

    assert ours.create(hooks, ["/bin/sleep", "1000"]) == 0
    ours("start", ours.id, check=True)
    assert log.read_text() == "/bin/sleep 1000 "


def test_a_poststart_hook_that_fails_ends_the_container(runtime: Runtime) -> None:
    def failing(spec: dict[str, Any]) -> None:
        spec["hooks"] = {"poststart": [{"path": "/bin/sh", "args": ["sh", "-c", "echo why >&2; exit 4"]}]}

    done = runtime.run(["/bin/sleep", "1000"], failing)
    assert done.returncode == 1
    assert "exit status 4, stdout: , stderr: why" in runtime.message(done)
    assert runtime.traces() == []
    if runtime.name == "runc":
        return  # runs these hooks at create already
    assert runtime.create(failing, ["/bin/sleep", "1000"]) == 0
    done = runtime("start", runtime.id)
    assert done.returncode == 1
    assert "exit status 4, stdout: , stderr: why" in runtime.message(done)
    assert runtime.state()["status"] == "stopped"


def test_a_poststop_hook_that_fails_is_told_and_changes_nothing(runtime: Runtime) -> None:
    def failing(spec: dict[str, Any]) -> None:
        spec["hooks"] = {"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $$"]}]}

    done = runtime.run(["/bin/true"], failing)
    assert done.returncode == 0
    assert "level=error" in done.stderr
    assert "signal: killed, stdout: , stderr: " in runtime.message(done)
    assert runtime.traces() == []


@pytest.mark.parametrize("timeout", [0, -1])
@pytest.mark.parametrize("name", HOOKS[:4])
def test_a_hook_must_have_more_than_no_time(ours: Runtime, name: str, timeout: int) -> None:
    """config.md: "timeout MUST be greater than zero"."""

    def hasty(spec: dict[str, Any]) -> None:
        spec["hooks"] = {name: [{"path": "/bin/true"}, {"path": "/bin/true", "timeout": timeout}]}

    done = ours.run(["/bin/true"], hasty)
    assert done.returncode == 1
    assert ours.message(done) == f"runc run failed: hooks.{name}[1].timeout: must be greater than zero"


def test_a_hook_that_takes_too_long_is_killed(runtime: Runtime) -> None:
    def slow(spec: dict[str, Any]) -> None:
        spec["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "30"], "timeout": 1}]}

    done = runtime.run(["/bin/true"], slow)
    assert "hook ran past specified timeout of 1" in runtime.message(done)
    assert runtime.traces() == []


def test_a_start_hook_that_fails_keeps_the_program_from_running(runtime: Runtime) -> None:
    def failing(spec: dict[str, Any]) -> None:
        spec["hooks"] = {"startContainer": [{"path": "/bin/false"}]}

    done = runtime.run(["/bin/echo", "ran"], failing)
    assert done.returncode != 0
    assert done.stdout == ""


PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
}


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_seccomp_profile_holds_with_and_without_no_new_privileges(runtime: Runtime, no_new_privileges: bool) -> None:
    def profile(spec: dict[str, Any]) -> None:
        spec["linux"]["seccomp"] = PROFILE
        spec["process"]["noNewPrivileges"] = no_new_privileges

    out = runtime.shell("mkdir /tmp/x 2>&1; grep Seccomp: /proc/self/status", profile)
    assert out == "mkdir: can't create directory '/tmp/x': No space left on device\nSeccomp:\t2\n"


def test_preserved_descriptors_keep_their_numbers(runtime: Runtime, tmp_path: Path) -> None:
    (tmp_path / "three").write_text("3")
    (tmp_path / "four").write_text("4")
    runtime.write(None, ["/bin/sh", "-c", "cat <&3; cat <&4; ls /proc/self/fd | grep -c '^[5-9]'"])
    line = " ".join(
        quoted(word) for word in [*runtime.command, "--root", runtime.root, "run", "--preserve-fds", "2", runtime.id]
    )
    done = subprocess.run(
        ["sh", "-c", f"exec {line} 3<{tmp_path}/three 4<{tmp_path}/four"],
        cwd=runtime.bundle, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    # The fifth is what ls itself opens.
    assert done.stdout == "341\n", done.stderr


def quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def test_rlimits_are_set_also_for_another_user(runtime: Runtime) -> None:
    def limits(spec: dict[str, Any]) -> None:
        spec["process"]["user"]["uid"] = 1000
        spec["process"]["rlimits"] = [
            {"type": "RLIMIT_NOFILE", "hard": 900, "soft": 800}, {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
        ]  # fmt: skip

    assert runtime.shell("ulimit -Sn; ulimit -Hn; ulimit -c", limits) == "800\n900\n0\n"
