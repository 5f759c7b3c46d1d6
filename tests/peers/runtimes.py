"""OCI runtimes under test, each given by the path of its program, and bundles of busybox for them to run.

Nothing here knows which runtime it drives: the command line, the state and the texts are runc's, so that an attack
or a piece of bad input is tried on Debian's runc and on sampan-runc by the same lines.
"""

from __future__ import annotations

import copy
import ctypes
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.peers.client import Outcome
from tests.peers.machine import CGROUPS
from tests.peers.waiting import eventually

SAMPAN_RUNC = os.path.join(os.path.dirname(sys.executable), "sampan-runc")
PATHS = {"runc": shutil.which("runc") or "runc", "sampan": SAMPAN_RUNC}
"""The runtimes that the same test is tried on, the reference first."""

DEBIAN_RUNC = "1.1.5+ds1"
"""The version that the tests' statements about runc's own weaknesses are about."""

BUSYBOX = "/bin/busybox"
APPLETS = (
    "awk", "cat", "chmod", "cp", "cut", "dd", "echo", "env", "false", "grep", "head", "hostname", "id",
    "ionice", "kill", "ln", "ls", "mkdir", "mknod", "mount", "mv", "nsenter", "printf", "ps", "pwd", "readlink",
    "rm", "sed", "seq", "sh", "sleep", "sort", "stat", "test", "touch", "tr", "true", "tty", "umount", "uname",
    "usleep", "wc", "yes",
)  # fmt: skip

CAPABILITIES = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
                "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
                "CAP_AUDIT_WRITE"]  # fmt: skip
"""What Docker gives a container."""

SPEC: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {
        "user": {"uid": 0, "gid": 0},
        "args": ["true"],
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        "cwd": "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
    },
    "root": {"path": "rootfs"},
    "hostname": "attacked",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev"]},
    ],
    "linux": {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": kind} for kind in ("mount", "network", "uts", "pid", "ipc")],
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}  # fmt: skip
"""Docker's spec of a plain container, without its cgroup mount and filter."""


class Bundle:
    """A bundle directory: `spec` is a document to change, `write` puts it in place; `rootfs` is a tree of busybox."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.rootfs = f"{path}/rootfs"
        self.spec: dict[str, Any] = copy.deepcopy(SPEC)
        for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            os.makedirs(f"{self.rootfs}/{name}")
        shutil.copy(BUSYBOX, f"{self.rootfs}/bin/busybox")
        for name in APPLETS:
            os.symlink("busybox", f"{self.rootfs}/bin/{name}")
        with open(f"{self.rootfs}/etc/passwd", "w") as file:
            file.write("root:x:0:0:root:/root:/bin/sh\n")

    def write(self) -> Bundle:
        with open(f"{self.path}/config.json", "w") as file:
            json.dump(self.spec, file)
        return self

    def command(self, *args: str) -> Bundle:
        """Sets process.args and writes the document."""
        self.spec["process"]["args"] = list(args)
        return self.write()

    def shell(self, script: str) -> Bundle:
        return self.command("sh", "-c", script)

    def without_mount(self, *destinations: str) -> Bundle:
        self.spec["mounts"] = [one for one in self.spec["mounts"] if one["destination"] not in destinations]
        return self

    def mount(self, destination: str, source: str, *options: str, type: str = "bind") -> Bundle:
        self.spec["mounts"].append(
            {"destination": destination, "source": source, "type": type, "options": list(options)}
        )
        return self

    def hook(self, name: str, script: str) -> Bundle:
        """A hook that is a shell script; $ROOTFS is the rootfs on the host."""
        script = f"ROOTFS={self.rootfs}\n{script}"
        entry = {"path": "/bin/sh", "args": ["sh", "-ec", script], "env": [f"PATH={os.environ['PATH']}"]}
        self.spec.setdefault("hooks", {}).setdefault(name, []).append(entry)
        return self


class Runtime:
    """One runtime with a state directory and a cgroup of its own. `name` is a key of `PATHS`."""

    def __init__(self, name: str, scratch: str) -> None:
        self.name, self.path, self.scratch = name, PATHS[name], scratch
        self.root = f"{scratch}/state"
        self.cgroup = f"sampan-tests-{os.getpid()}-{name}"
        self._bundles = 0
        self._made: set[str] = set()
        self.children = _children()

    @property
    def is_known_runc(self) -> bool:
        """Whether it is the runc that the tests have statements about."""
        if self.name != "runc":
            return False
        return DEBIAN_RUNC in subprocess.run([self.path, "--version"], capture_output=True, text=True).stdout

    def bundle(self) -> Bundle:
        self._bundles += 1
        made = Bundle(f"{self.scratch}/bundle{self._bundles}")
        made.spec["linux"]["cgroupsPath"] = f"/{self.cgroup}/c{self._bundles}"
        return made

    def argv(self, *arguments: str) -> list[str]:
        return [self.path, "--root", self.root, *arguments]

    def __call__(self, *arguments: str, stdin: bytes = b"", within: float = 30, **more: Any) -> Outcome:
        """Runs the runtime's command line; stdout and stderr are files, so that a container may outlive the call."""
        out, err = f"{self.scratch}/stdout", f"{self.scratch}/stderr"
        with open(out, "wb") as out_file, open(err, "wb") as err_file:
            done = subprocess.run(
                self.argv(*arguments), input=stdin, stdout=out_file, stderr=err_file, timeout=within, **more
            )
        with open(out, errors="replace") as out_text, open(err, errors="replace") as err_text:
            return Outcome(done.returncode, out_text.read(), err_text.read())

    def run(self, bundle: Bundle, *flags: str, id: str = "one", **more: Any) -> Outcome:
        """`run`: its standard output and error are the container's."""
        self._made.add(id)
        return self("run", "--bundle", bundle.path, *flags, id, **more)

    def start(self, bundle: Bundle, id: str = "one") -> int:
        """`run --detach`; the pid of the container's first process."""
        done = self.run(bundle, "--detach", id=id)
        assert done.status == 0, done
        return self.pid(id)

    def create(self, bundle: Bundle, id: str = "one") -> int:
        self._made.add(id)
        done = self("create", "--bundle", bundle.path, id)
        assert done.status == 0, done
        return self.pid(id)

    def exec(self, *arguments: str, id: str = "one", flags: Sequence[str] = (), **more: Any) -> Outcome:
        return self("exec", *flags, id, *arguments, **more)

    def state(self, id: str = "one") -> dict[str, Any]:
        done = self("state", id)
        assert done.status == 0, done
        found: dict[str, Any] = json.loads(done.out)
        return found

    def pid(self, id: str = "one") -> int:
        return int(self.state(id)["pid"])

    def delete(self, id: str = "one") -> None:
        self("delete", "--force", id)

    def leftovers(self) -> list[str]:
        """What it has left on the host: state, cgroups, mounts and processes of ours, in words; [] is clean."""
        kept = {".seccomp"}  # ours keeps compiled filters there, for all containers
        found = [f"state {name}" for name in (os.listdir(self.root) if os.path.isdir(self.root) else [])]
        found = [one for one in found if one[6:] not in kept]
        found += [f"cgroup {path}" for path in cgroups_below(self.cgroup)]
        with open("/proc/self/mountinfo") as table:
            found += [f"mount {line.split()[4]}" for line in table if self.scratch in line.split()[4]]
        for pid in _children() - self.children:
            words = command_of(pid)
            if words:  # a zombie has none, and is ours to reap: the kernel gave us what its parents left
                found.append(f"process {pid} {words}")
        return found

    def tidy(self) -> None:
        """Delete the containers that are left, reap what became ours, remove the cgroups."""
        for id in sorted(self._made):
            self.delete(id)
        eventually(self._reaped, what="all adopted processes are gone")
        for path in reversed(cgroups_below(self.cgroup)):
            os.rmdir(path)
        for kind in [*os.listdir(CGROUPS), "."]:
            try:
                os.rmdir(f"{CGROUPS}/{kind}/{self.cgroup}")
            except OSError:
                continue  # not there, or not a hierarchy

    def _reaped(self) -> bool:
        """Ends and reaps what has become our child; what those leave becomes it in its turn, until there is none."""
        for pid in _children() - self.children:
            try:
                if command_of(pid):
                    os.kill(pid, 9)
                os.waitpid(pid, os.WNOHANG)
            except (ChildProcessError, ProcessLookupError):
                continue  # the reaper was first
        return not _children() - self.children


def _children() -> set[int]:
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as file:
            found.update(int(word) for word in file.read().split())
    return found


def command_of(pid: int) -> str:
    """The command line of a living process, "" for one that has ended."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] in "ZX":
                return ""
        with open(f"/proc/{pid}/cmdline", "rb") as raw:
            return raw.read().replace(b"\0", b" ").decode(errors="replace")[:200] or "(nameless)"
    except OSError:
        return ""


def cgroups_below(name: str) -> list[str]:
    """Directories of cgroups strictly below the one named, in every hierarchy, wherever it is; parents first."""
    found: list[str] = []
    for top, directories, _ in os.walk(CGROUPS):
        if f"/{name}/" in f"{top}/" and not top.endswith(f"/{name}"):
            found.append(top)
        directories.sort()
    return found


@contextmanager
def adopting() -> Iterator[None]:
    """Processes that lose their parent become ours meanwhile (PR_SET_CHILD_SUBREAPER), so that none goes uncounted."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(36, 1, 0, 0, 0) == 0
    done = threading.Event()
    reaper = threading.Thread(target=_reap_adopted, args=(done,))
    reaper.start()
    try:
        yield
    finally:
        done.set()
        reaper.join()
        libc.prctl(36, 0, 0, 0, 0)


def _reap_adopted(done: threading.Event) -> None:
    """Reaps at once, as an init does, for a runtime that kills a container waits for its process to be gone."""
    here = os.getsid(0)
    while not done.wait(0.02):
        for pid in _children():
            try:
                with open(f"/proc/{pid}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
                # A container's process leads a session of its own; what a test has started itself is not ours to reap.
                if fields[0] == "Z" and int(fields[3]) != here:
                    os.waitpid(pid, os.WNOHANG)
            except (OSError, ValueError):
                continue  # reaped meanwhile


class ConsoleSocket:
    """What a caller with --console-socket listens on. A context manager; `master` waits for the terminal's fd."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> ConsoleSocket:
        self._listener.bind(self.path)
        self._listener.listen(1)
        self._listener.settimeout(10)
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.close()
        os.unlink(self.path)

    def master(self) -> tuple[str, int]:
        """(the name sent with it, the descriptor)."""
        connection, _ = self._listener.accept()
        with connection:
            room = array("i", [0])
            data, extra, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
            room.frombytes(extra[0][2][:4])
            return data.decode(), room[1]


def read_until_closed(master: int) -> str:
    """All that is written to a terminal until its last writer has gone; closes `master`."""
    parts = []
    try:
        while part := os.read(master, 4096):
            parts.append(part)
    except OSError:
        pass  # EIO: the other side is closed
    finally:
        os.close(master)
    return b"".join(parts).decode(errors="replace").replace("\r\n", "\n")


def wait_status(runtime: Runtime, status: str, id: str = "one") -> None:
    """Waits until `state` says so."""
    eventually(lambda: runtime.state(id)["status"] == status, what=f"{id} is {status}")


def environment(**more: str) -> Mapping[str, str]:
    return {**os.environ, **more}
