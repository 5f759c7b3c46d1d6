"""A whole life of a container without root: Debian's runc first, where it can."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.linux.runtimes import REPOSITORY, make_rootfs
from tests.peers.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox", "setpriv")]

UID = 1000
_CODE = f"import sys; sys.path.insert(0, {REPOSITORY + '/src'!r}); from sampan.runtime.__main__ import main; main()"


def python() -> str:
    """An interpreter that somebody else may run, too: ours may be below root's home."""
    for path in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        done = subprocess.run(
            # Through a shell, for setpriv itself still has root's capabilities when it executes.
            ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "sh", "-c", 'exec "$0" "$@"', path,
             "-I", "-S", "-c", f"import sys; assert sys.version_info >= (3, 11); open({__file__!r})"],
            capture_output=True,
        )  # fmt: skip
        if done.returncode == 0:
            return path
    pytest.skip("no interpreter that another user may run, or the sources are not readable for others")


class Rootless:
    def __init__(self, name: str) -> None:
        self.name = name
        self.prefix = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        self.command = ["runc"] if name == "runc" else [python(), "-I", "-S", "-c", _CODE]
        self.scratch = tempfile.mkdtemp(prefix="sampan-rootless-")
        self.bundle = f"{self.scratch}/bundle"
        os.mkdir(f"{self.scratch}/run")
        os.mkdir(self.bundle)
        os.chmod(self.scratch, 0o755)
        make_rootfs(f"{self.bundle}/rootfs")
        for top, directories, files in os.walk(self.scratch):
            for one in (".", *directories, *files):
                os.chown(f"{top}/{one}", UID, UID, follow_symlinks=False)
        assert self("spec", "--rootless").returncode == 0

    def __call__(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        with open(f"{self.scratch}/out", "w+") as out:
            done = subprocess.run(
                [*self.prefix, *self.command, *words],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.bundle, timeout=30, text=True,
                env={"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": f"{self.scratch}/run", **environment},
            )  # fmt: skip
            out.seek(0)
            done.stdout = out.read()
        return done

    def write(self, *args: str, change: Callable[[dict[str, Any]], object] | None = None, **linux: Any) -> None:
        with open(f"{self.bundle}/config.json") as file:
            spec = json.load(file)
        spec["process"]["terminal"] = False
        spec["process"]["args"] = list(args)
        spec["linux"].update(linux)
        if change:
            change(spec)
        with open(f"{self.bundle}/config.json", "w") as file:
            json.dump(spec, file)


@pytest.fixture(params=[pytest.param("runc", marks=pytest.mark.needs("runc")), "sampan-runc"])
def runtime(request: pytest.FixtureRequest) -> Iterator[Rootless]:
    made = Rootless(request.param)
    yield made
    made("delete", "-f", "one")
    shutil.rmtree(made.scratch)


@pytest.fixture
def sampan() -> Iterator[Rootless]:
    made = Rootless("sampan-runc")
    yield made
    made("delete", "-f", "one")
    shutil.rmtree(made.scratch)


def test_without_root_a_user_is_root_in_his_container_alone(runtime: Rootless) -> None:
    runtime.write("/bin/sh", "-c", "id -u; cat /proc/self/uid_map; hostname; touch /home/x 2>/dev/null || echo ro")
    done = runtime("run", "one")
    lines = done.stdout.split("\n")
    assert (done.returncode, lines[0], lines[1].split(), lines[3]) == (0, "0", ["0", str(UID), "1"], "ro"), done.stdout
    assert os.listdir(f"{runtime.scratch}/run/{'runc' if runtime.name == 'runc' else 'sampan-runc'}") in (
        [], [".seccomp"],
    )  # fmt: skip


def test_without_root_a_container_is_created_started_entered_and_killed(runtime: Rootless) -> None:
    runtime.write("/bin/sleep", "100")
    assert runtime("create", "one").returncode == 0
    assert json.loads(runtime("state", "one").stdout)["status"] == "created"
    assert runtime("start", "one").returncode == 0
    entered = runtime("exec", "one", "/bin/sh", "-c", "id -u; echo $$; cat /proc/1/comm; hostname")
    first, pid, comm, _ = entered.stdout.split("\n")[:4]
    assert (entered.returncode, first, comm) == (0, "0", "sleep"), entered.stdout
    assert 1 < int(pid) < 100, "in the container's own pid namespace"
    assert runtime("exec", "one", "/bin/sh", "-c", "exit 42").returncode == 42
    assert runtime("kill", "one", "KILL").returncode == 0
    eventually(lambda: json.loads(runtime("state", "one").stdout)["status"] == "stopped")
    assert runtime("delete", "one").returncode == 0
    assert "container does not exist" in runtime("state", "one").stdout


def test_without_root_there_must_be_a_user_namespace(runtime: Rootless) -> None:
    kinds = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]
    runtime.write("/bin/true", namespaces=kinds, uidMappings=[], gidMappings=[])
    done = runtime("run", "one")
    assert done.returncode == 1
    assert "rootless container requires user namespaces" in done.stdout


def test_without_root_a_limit_that_cannot_be_held_is_refused(runtime: Rootless) -> None:
    runtime.write("/bin/true", resources={"memory": {"limit": 50_000_000}})
    done = runtime("run", "one")
    assert (done.returncode, "cgroup" in done.stdout) == (1, True), done.stdout


def test_the_rootless_flag_is_a_truth_or_auto(runtime: Rootless) -> None:
    runtime.write("/bin/true")
    for word in ("true", "auto"):
        assert runtime("--rootless", word, "run", "one").returncode == 0
    assert "invalid syntax" in runtime("--rootless", "perhaps", "run", "one").stdout


def test_an_explanation_alone_does_nothing_and_needs_no_root(sampan: Rootless) -> None:
    """Of a container that only root could run: without a user namespace, with limits."""
    kinds = [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]
    sampan.write("/bin/true", namespaces=kinds, uidMappings=[], gidMappings=[], resources={"pids": {"limit": 5}})
    alone = sampan("run", "--explain", "--dry-run", "one")
    assert alone.returncode == 0, alone.stdout
    assert "make the rootfs the root, and drop all mounts of the host" in alone.stdout
    assert "the parent limits pids" in alone.stdout
    assert os.listdir(f"{sampan.scratch}/run") == []
    assert sampan("run", "one").returncode == 1


def with_subordinate_ids(runtime: Rootless) -> None:
    """Give the user a name and ranges of ids in /etc, in a mount namespace of his own."""
    files = {"passwd": f"root:x:0:0::/:/bin/sh\nsailor:x:{UID}:{UID}::/:/bin/sh\n", "group": f"sailor:x:{UID}:\n",
             "subuid": "sailor:200000:1000\n", "subgid": "sailor:300000:1000\n"}  # fmt: skip
    for name, text in files.items():
        with open(f"{runtime.scratch}/{name}", "w") as file:
            file.write(text)
    binds = "".join(f"mount --bind {runtime.scratch}/{name} /etc/{name} && " for name in files)
    make = " && ".join(f"{{ [ -e /etc/{name} ] || touch /etc/{name}; }}" for name in files)
    subprocess.run(["sh", "-c", make], check=True)
    runtime.prefix = ["unshare", "-m", "sh", "-c", f'{binds}exec "$@"', "sh", *runtime.prefix]


MAPPINGS = {
    "uidMappings": [
        {"containerID": 0, "hostID": UID, "size": 1}, {"containerID": 1, "hostID": 200000, "size": 1000},
    ],
    "gidMappings": [
        {"containerID": 0, "hostID": UID, "size": 1}, {"containerID": 1, "hostID": 300000, "size": 1000},
    ],
}  # fmt: skip


@pytest.mark.needs("newuidmap")
def test_without_root_subordinate_ids_are_mapped_by_newuidmap(runtime: Rootless) -> None:
    with_subordinate_ids(runtime)
    script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g; touch /dev/shm/x; stat -c %u:%g /dev/shm/x"

    def somebody(spec: dict[str, Any]) -> None:
        spec["process"]["user"] = {"uid": 5, "gid": 6}

    runtime.write("/bin/sh", "-c", script, change=somebody, **MAPPINGS)
    done = runtime("run", "one")
    assert done.returncode == 0, done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[:4] == [["0", str(UID), "1"], ["1", "200000", "1000"], ["0", str(UID), "1"], ["1", "300000", "1000"]]
    assert lines[4:] == [["5"], ["6"], ["5:6"]]


@pytest.mark.needs("newuidmap")
def test_ids_that_are_not_the_users_are_refused(runtime: Rootless) -> None:
    with_subordinate_ids(runtime)
    mappings = {"containerID": 0, "hostID": 400000, "size": 1000}
    runtime.write("/bin/true", uidMappings=[mappings], gidMappings=[mappings])
    done = runtime("run", "one")
    assert done.returncode == 1
    # Already the streams cannot be given to such an owner, which is where runc stops.
    assert ("fchown" if runtime.name == "runc" else "newuidmap failed with exit status 1") in done.stdout


@pytest.mark.needs("newuidmap")
def test_exec_enters_a_user_namespace_of_subordinate_ids(runtime: Rootless) -> None:
    with_subordinate_ids(runtime)
    runtime.write("/bin/sleep", "100", **MAPPINGS)
    assert runtime("run", "-d", "one").returncode == 0
    done = runtime("exec", "--user", "7:8", "one", "/bin/sh", "-c", "id -u; id -g")
    assert (done.returncode, done.stdout) == (0, "7\n8\n")


@pytest.mark.parametrize("namespace", ["no user namespace of its own", "one more user namespace"])
def test_root_of_a_user_namespace_runs_containers(runtime: Rootless, namespace: str) -> None:
    """As in a container that runs containers: root here is somebody else outside, and may make no device."""
    runtime.prefix += ["unshare", "--user", "--map-root-user", "--mount"]

    def nested(spec: dict[str, Any]) -> None:
        linux = spec["linux"]
        if namespace.startswith("no"):
            linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "user"]
            del linux["uidMappings"], linux["gidMappings"]
        else:
            linux["uidMappings"][0]["hostID"] = linux["gidMappings"][0]["hostID"] = 0

    script = "id -u; cat /proc/self/uid_map; echo x > /dev/null && stat -c %t:%T /dev/null /dev/full; hostname; exit 4"
    runtime.write("/bin/sh", "-c", script, change=nested)
    done = runtime("--root", f"{runtime.scratch}/run/state", "run", "one")
    outside = str(UID) if namespace.startswith("no") else "0"
    assert (done.returncode, [line.split() for line in done.stdout.splitlines()]) == (
        4, [["0"], ["0", outside, "1"], ["1:3"], ["1:7"], ["runc"]],
    ), done.stdout  # fmt: skip
