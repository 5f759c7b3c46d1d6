"""Whatever is wrong with what a runtime is given: one clear line, exit code 1, nothing left behind.

Where Debian's runc has a text for it, ours is the same; `shared` says which part of the line both must have.
"""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest
from tests.peers.runtimes import Runtime, cgroups_below, command_of
from tests.peers.waiting import eventually


def one_line(runtime: Runtime, status: int, err: str, shared: str = "", code: int = 1) -> None:
    """Checks the manner of a failure."""
    assert status == code, err
    assert "Traceback" not in err
    assert len(err) < 70_000
    if runtime.name == "sampan":
        assert err.count("\n") == 1, err
        assert re.match(r'time="[^"]+" level=error msg="', err), err
    assert shared in err


def processes_of(cgroup: str) -> list[str]:
    try:
        with open(f"{cgroup}/cgroup.procs") as file:
            return file.read().split()
    except OSError:
        return []  # removed meanwhile, or no cgroup of its own


BROKEN = {
    "empty": "",
    "truncated": '{"ociVersion": "1.0.2", "process": {"args": ["sh"',
    "not an object": "[1, 2, 3]",
    "a number": "42",
    "null": "null",
    "nothing in it": "{}",
    "wrong types": '{"ociVersion": 1, "process": "sh", "root": [], "linux": 7}',
    "deep": "[" * 100_000,
    "deep object": '{"a":' * 50_000,
    "not UTF-8": b"\xff\xfe{}",
    "null bytes": b"\0" * 1000,
    "trailing": "{} {}",
    "huge number": '{"process": {"user": {"uid": 1' + "0" * 5000 + "}}}",
    "mounts null": '{"ociVersion":"1.0.2","root":{"path":"rootfs"},"mounts":[null],"process":{"args":["a"],"cwd":"/"}}',
    "args number": '{"ociVersion":"1.0.2","root":{"path":"rootfs"},"process":{"args":[1],"cwd":"/"}}',
    "cwd relative": '{"ociVersion":"1.0.2","root":{"path":"rootfs"},"process":{"args":["a"],"cwd":"x","user":{}}}',
    "lone surrogate": '{"ociVersion":"1.0.2","root":{"path":"\\ud800"},"process":{"args":["a"],"cwd":"/","user":{}}}',
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_document_that_is_broken(runtime: Runtime, name: str) -> None:
    if runtime.is_known_runc and name in ("null", "mounts null"):
        return  # it panics, the second time with a mount left on the host
    bundle = runtime.bundle()
    content = BROKEN[name]
    with open(f"{bundle.path}/config.json", "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    for verb in ("run", "create"):
        done = runtime(verb, "--bundle", bundle.path, "one")
        one_line(runtime, done.status, done.err)
        assert runtime.leftovers() == []


def test_of_a_name_that_comes_twice_the_last_counts(runtime: Runtime) -> None:
    """As in Go's decoder, so that nobody who checks a document with the one sees another than the other runs."""
    bundle = runtime.bundle().command("echo", "first")
    with open(f"{bundle.path}/config.json") as file:
        text = file.read()
    assert text.count('"args": ["echo", "first"]') == 1
    with open(f"{bundle.path}/config.json", "w") as file:
        file.write(text.replace('"args": ["echo", "first"]', '"args": ["echo", "first"], "args": ["echo", "last"]'))
    assert runtime("run", "--bundle", bundle.path, "one").out == "last\n"


REFUSED = [
    (("process", "args"), [], "args must not be empty"),
    (("process", "cwd"), "relative", "Cwd must be an absolute path"),
    (("process", "args"), ["/no/such"], 'exec: "/no/such": stat /no/such: no such file or directory'),
    (("process", "args"), ["nonesuch"], 'exec: "nonesuch": executable file not found in $PATH'),
    (("process", "args"), ["/etc/passwd"], 'exec: "/etc/passwd": permission denied'),
    (("root", "path"), "missing", ""),
    (("root", "path"), "config.json", ""),
    (("linux", "sysctl"), {"kernel.sysrq": "1"}, "sysctl"),
    (("linux", "sysctl"), {"net/../kernel/sysrq": "1"}, ""),
    (("linux", "namespaces"), [{"type": "mount"}, {"type": "nonesuch"}], ""),
    (
        ("linux", "namespaces"),
        [{"type": "mount"}, {"type": "uts"}, {"type": "pid", "path": "/no/such"}],
        "lstat /no/such",
    ),
    (("linux", "namespaces"), [{"type": "mount"}, {"type": "uts"}, {"type": "pid", "path": "/etc/passwd"}], ""),
    (("linux", "seccomp"), {"defaultAction": "SCMP_ACT_NONE"}, ""),
    (("linux", "rootfsPropagation"), "sideways", "rootfsPropagation"),
]


@pytest.mark.parametrize(("place", "value", "shared"), REFUSED)
def test_a_value_that_cannot_be(runtime: Runtime, place: tuple[str, str], value: object, shared: str) -> None:
    bundle = runtime.bundle()
    bundle.spec[place[0]][place[1]] = value
    done = runtime.run(bundle.write())
    one_line(runtime, done.status, done.err)
    assert shared in done.err.replace('\\"', '"')
    assert runtime.leftovers() == []


@pytest.mark.parametrize(
    ("mount", "shared"),
    [
        ({"destination": "/x", "type": "bind", "source": "/no/such", "options": ["bind"]}, "no such file or directory"),
        ({"destination": "/x", "type": "nonesuch", "source": "x"}, "no such device"),
        ({"destination": "/etc/passwd/x", "type": "tmpfs", "source": "x"}, "not a directory"),
        ({"destination": "/" + "x/" * 3000, "type": "tmpfs", "source": "x"}, ""),
        ({"destination": "/" + "x" * 300, "type": "tmpfs", "source": "x"}, "file name too long"),
        ({"destination": "/x", "type": "tmpfs", "source": "x", "options": ["nonesuch=1"]}, ""),
        ({"destination": "", "type": "tmpfs", "source": "x"}, ""),
        ({"destination": "/x\0y", "type": "tmpfs", "source": "x"}, ""),
    ],
)
def test_a_mount_that_cannot_be(runtime: Runtime, mount: dict[str, object], shared: str) -> None:
    bundle = runtime.bundle()
    bundle.spec["mounts"].append(mount)
    done = runtime.run(bundle.write())
    if runtime.name == "runc" and not shared and done.status == 0:
        return  # it mounts over the root itself, or the like
    one_line(runtime, done.status, done.err, shared)
    assert runtime.leftovers() == []


def test_a_bundle_without_a_document(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    done = runtime("run", "--bundle", bundle.path, "one")
    one_line(runtime, done.status, done.err, "config.json")
    done = runtime("run", "--bundle", f"{bundle.path}/nowhere", "one")
    one_line(runtime, done.status, done.err, f"chdir {bundle.path}/nowhere: no such file or directory")
    assert runtime.leftovers() == []


def test_symlinks_that_lead_in_a_circle(runtime: Runtime) -> None:
    bundle = runtime.bundle()
    os.symlink("b", f"{bundle.rootfs}/a")
    os.symlink("a", f"{bundle.rootfs}/b")
    done = runtime.run(bundle.mount("/a/x", "tmpfs", type="tmpfs").command("true"), within=10)
    assert done.status in (0, 1)
    if runtime.name == "sampan":
        one_line(runtime, done.status, done.err, "too many levels of symbolic links")
    second = runtime.bundle().command("/a")
    os.symlink("a", f"{second.rootfs}/a")
    done = runtime.run(second, id="two")
    one_line(runtime, done.status, done.err, "too many levels of symbolic links")


@pytest.mark.parametrize("id", ["a/b", "../a", "..", ".", "", "a b", "\u00e9", "a\nb", "x" * 5000, "a\\b", "*"])
def test_an_id_that_is_no_name(runtime: Runtime, id: str) -> None:
    bundle = runtime.bundle().command("true")
    done = runtime("run", "--bundle", bundle.path, "--", id)
    one_line(runtime, done.status, done.err, "" if len(id) > 1000 else "invalid" if id else "")
    for verb in ("state", "start", "kill", "delete"):
        done = runtime(verb, "--", id)
        assert done.status == 1, verb
        assert "Traceback" not in done.err
    assert runtime.leftovers() == []


def test_arguments_and_variables_of_64_kibibytes_arrive_whole(runtime: Runtime) -> None:
    long = "x" * 65536
    bundle = runtime.bundle()
    bundle.spec["process"]["env"].append(f"LONG={long}")
    done = runtime.run(bundle.command("sh", "-c", "echo ${#1} ${#LONG}", "sh", long))
    assert done.out == "65536 65536\n", done.err
    runtime.start(runtime.bundle().command("sleep", "1000"))
    assert runtime.exec("sh", "-c", "echo ${#1}", "sh", long).out == "65536\n"


def test_more_than_the_kernel_takes_is_an_error(runtime: Runtime) -> None:
    done = runtime.run(runtime.bundle().command("true", "x" * (1 << 18)))
    assert done.status == 1
    assert "argument list too long" in done.err
    assert runtime.leftovers() == []


def test_a_missing_program_named_with_64_kibibytes(runtime: Runtime) -> None:
    done = runtime.run(runtime.bundle().command("/" + "y" * 65536))
    assert done.status == 1
    assert "file name too long" in done.err
    assert runtime.leftovers() == []


def test_an_id_that_is_taken(runtime: Runtime) -> None:
    runtime.start(runtime.bundle().command("sleep", "1000"))
    pid = runtime.pid()
    for verb in ("run", "create"):
        done = runtime(verb, "--bundle", runtime.bundle().command("true").path, "one")
        one_line(
            runtime,
            done.status,
            done.err,
            "container with given ID already exists" if runtime.name == "sampan" else "exist",
        )
    assert runtime.state()["status"] == "running"
    assert runtime.pid() == pid


def test_a_container_that_is_not_there(runtime: Runtime) -> None:
    for verb in ("state", "start", "pause", "resume", "ps", "kill", "delete"):
        done = runtime(verb, "none")
        one_line(runtime, done.status, done.err, "container does not exist")
    done = runtime("exec", "none", "true")
    one_line(runtime, done.status, done.err, "container does not exist", code=255)
    done = runtime("update", "--memory", "1000000", "none")
    one_line(runtime, done.status, done.err, "container does not exist")
    assert runtime("delete", "--force", "none").status == 0


def test_an_init_that_has_died_behind_the_runtimes_back(runtime: Runtime) -> None:
    pid = runtime.start(runtime.bundle().command("sleep", "1000"))
    os.kill(pid, 9)
    eventually(lambda: not command_of(pid), what="it is dead")
    assert runtime.state()["status"] == "stopped"
    assert runtime.state()["pid"] == 0
    done = runtime.exec("true")
    one_line(runtime, done.status, done.err, "cannot exec", code=255)
    for verb, shared in (("start", "cannot start a container that has stopped"), ("pause", "not running"),
                         ("kill", "not running")):  # fmt: skip
        done = runtime(verb, "one")
        one_line(runtime, done.status, done.err, shared)
    assert runtime("delete", "one").status == 0
    assert runtime.leftovers() == []


def test_a_created_init_that_has_died(runtime: Runtime) -> None:
    pid = runtime.create(runtime.bundle().command("true"))
    os.kill(pid, 9)
    eventually(lambda: not command_of(pid), what="it is dead")
    done = runtime("start", "one", within=10)
    one_line(runtime, done.status, done.err, "cannot start a container that has stopped")
    assert runtime("delete", "one").status == 0
    assert runtime.leftovers() == []


def test_a_state_directory_that_has_been_removed(runtime: Runtime) -> None:
    """Nothing is known of the container any more; that is said, and a forced delete is content."""
    pid = runtime.start(runtime.bundle().command("sleep", "1000"))
    subprocess.run(["rm", "-r", f"{runtime.root}/one"], check=True)
    for verb in ("state", "kill", "delete"):
        done = runtime(verb, "one")
        one_line(runtime, done.status, done.err, "container does not exist")
    assert runtime("list", "-q").out == ""
    os.kill(pid, 9)


STATES = {"empty": "", "cut": "{", "array": "[]", "null": "null", "partial": '{"id": "one"}', "zeros": "\0" * 100,
          "types": '{"init_process_pid": "x"}',
          "another's": '{"id": "two", "init_process_pid": 1, "init_process_start": 1, "created": "", "config": {"root'
          'fs": "/", "version": "", "namespaces": []}, "cgroup_paths": {}, "bundle": "/", "spec": {}}'}  # fmt: skip


@pytest.mark.parametrize("content", STATES.values(), ids=STATES)
def test_a_state_file_that_is_broken(sampan: Runtime, content: str) -> None:
    """A half-written or foreign state.json is an error of one line for every verb; a forced delete clears it away."""
    os.makedirs(f"{sampan.root}/one")
    with open(f"{sampan.root}/one/state.json", "w") as file:
        file.write(content)
    for verb in ("state", "start", "kill", "pause", "ps"):
        done = sampan(verb, "one")
        one_line(sampan, done.status, done.err)
    assert sampan("list").status == 0
    done = sampan("delete", "--force", "one")
    assert done.status == 0, done
    assert sampan.leftovers() == []


def test_a_full_disk_below_root(sampan: Runtime) -> None:
    """A tmpfs of two pages: the state cannot be written, so there is no container."""
    os.makedirs(sampan.root)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=20", "full", sampan.root], check=True)
    try:
        with open(f"{sampan.root}/filler", "wb") as file:
            file.write(bytes(4096))
        bundle = sampan.bundle().command("sleep", "1000")
        for verb in (("run",), ("run", "--detach"), ("create",)):
            done = sampan(*verb, "--bundle", bundle.path, "one")
            one_line(sampan, done.status, done.err, "no space left on device")
        os.unlink(f"{sampan.root}/filler")
        assert os.listdir(sampan.root) == []
    finally:
        subprocess.run(["umount", "-l", sampan.root], check=True)
    assert sampan.leftovers() == []


def test_no_inode_left_below_root(sampan: Runtime) -> None:
    os.makedirs(sampan.root)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=1", "full", sampan.root], check=True)
    try:
        done = sampan.run(sampan.bundle().command("true"))
        one_line(sampan, done.status, done.err, "no space left on device")
    finally:
        subprocess.run(["umount", "-l", sampan.root], check=True)
    assert sampan.leftovers() == []


def test_a_root_that_is_a_file(sampan: Runtime) -> None:
    with open(sampan.root, "w"):
        pass
    done = sampan.run(sampan.bundle().command("true"))
    one_line(sampan, done.status, done.err)
    os.unlink(sampan.root)


def test_a_command_line_that_is_wrong(runtime: Runtime) -> None:
    for arguments, code in (
        (("run",), 1), (("run", "--nonesuch", "x"), 1), (("kill", "one", "NONESUCH"), 1), (("nonesuch",), 3),
        (("state", "a", "b"), 1), (("list", "--format", "xml"), 1), (("--log-format", "xml", "list"), 1),
    ):  # fmt: skip
        done = runtime(*arguments)
        assert done.status == code, (arguments, done)
        assert "Traceback" not in done.err


def test_an_error_reaches_the_log_and_stderr(runtime: Runtime) -> None:
    log = f"{runtime.scratch}/log.json"
    done = runtime("--log", log, "--log-format", "json", "state", "none")
    assert done.status == 1
    with open(log) as file:
        entry = json.loads(file.read().splitlines()[-1])
    assert (entry["level"], entry["msg"]) == ("error", "container does not exist")
    assert done.err == "container does not exist\n"


def test_a_failing_hook_stops_everything(runtime: Runtime) -> None:
    for name in ("prestart", "createRuntime", "createContainer", "startContainer"):
        bundle = runtime.bundle().hook(name, "echo said >&2; exit 3")
        if name == "startContainer":
            bundle.spec["hooks"][name][0]["path"] = "/bin/sh"
        done = runtime.run(bundle.command("echo", "started"), id=name)
        assert done.status == 1, (name, done)
        assert "started" not in done.out
        assert "exit status 3" in done.err
        runtime.delete(name)
        assert runtime.leftovers() == []


def test_a_caller_that_dies_leaves_no_half_made_container(sampan: Runtime) -> None:
    """SIGKILL at every point that strace can stop it at would be too many; here while a hook holds the parent."""
    bundle = sampan.bundle().hook("createRuntime", f"touch {sampan.scratch}/held; sleep 30")
    child = subprocess.Popen(sampan.argv("run", "--bundle", bundle.command("sleep", "1000").path, "one"))
    eventually(lambda: os.path.exists(f"{sampan.scratch}/held"), what="the hook runs")

    def empty() -> bool:
        return not [pid for path in cgroups_below(sampan.cgroup) for pid in processes_of(path)]

    assert not empty()
    child.kill()
    child.wait()
    eventually(empty, what="init ends with its parent, though the hook goes on")
    assert sampan("delete", "--force", "one").status == 0
    assert not [one for one in sampan.leftovers() if one.startswith("state")]
