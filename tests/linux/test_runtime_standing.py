"""`bin/sampan-runc` and what it leaves in /run for its next start: the interpreter on a mount of its own, the code.

Each test has a mount namespace with an empty /run and an installation of its own, of which it may change anything.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator

import pytest
from tests.linux.runtimes import REPOSITORY, SPEC, make_rootfs

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox", "unshare", "nsenter")]

ROOM = "/run/sampan-start"
UID = 1000


class Installation:
    """A prefix as of a virtual environment with the package in it, in a mount namespace with a /run of its own."""

    def __init__(self, scratch: str) -> None:
        self.scratch = scratch
        self.python = f"{scratch}/prefix/bin/python3"
        self.packages = f"{scratch}/prefix/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        self.place = ROOM + self.python
        self.bundle = f"{scratch}/bundle"
        os.makedirs(f"{scratch}/prefix/bin")
        for part in ("linux", "oci", "runtime"):
            shutil.copytree(f"{REPOSITORY}/src/sampan/{part}", f"{self.packages}/sampan/{part}")
        for part in ("__init__.py", "errors.py"):
            shutil.copy(f"{REPOSITORY}/src/sampan/{part}", f"{self.packages}/sampan/{part}")
        shutil.copy(f"{REPOSITORY}/bin/sampan-runc", f"{scratch}/prefix/bin/sampan-runc")
        # A copy and not a link, so that it can be replaced; it finds its library as a virtual environment's does.
        shutil.copy(os.path.realpath(sys.executable), self.python)
        with open(f"{scratch}/prefix/pyvenv.cfg", "w") as file:
            file.write(f"home = {sys.base_prefix}/bin\n")
        make_rootfs(f"{self.bundle}/rootfs")
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c",
             "mount -t tmpfs -o mode=755 tmpfs /run && echo && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.pid = self._holder.pid
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"\n"

    def inside(self, *argv: str) -> str:
        """What a command in the mount namespace prints; it must succeed."""
        done = self.attempt(*argv)
        assert done.returncode == 0, (argv, done.stdout, done.stderr)
        return done.stdout

    def attempt(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["nsenter", "-t", str(self.pid), "-m", "--wd=/", "--", *argv],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip

    def command(self, *words: str) -> list[str]:
        return [f"{self.scratch}/prefix/bin/sampan-runc", "--root", f"{self.scratch}/state", *words]

    def run(self, *args: str) -> str:
        """The output of a container."""
        return self.inside(*self.prepared("run", *args))

    def prepared(self, verb: str, *args: str) -> list[str]:
        """The command line of `verb` for a new container with these args."""
        self.id = f"stand-{uuid.uuid4().hex[:8]}"
        spec = json.loads(json.dumps(SPEC))
        spec["linux"]["cgroupsPath"] = f"/sampan-runtime-tests-{os.getpid()}/{self.id}"
        spec["process"]["args"] = list(args)
        with open(f"{self.bundle}/config.json", "w") as file:
            json.dump(spec, file)
        return self.command(verb, "--bundle", self.bundle, self.id)

    def executable_of_a_waiting_container(self) -> tuple[str, int, int]:
        """(path, inode, whether its file system is read-only) of the executable of a created container's init."""
        shell = ' "$@" </dev/null >/dev/null 2>&1 || exit 9'
        self.inside("sh", "-c", shell, "sh", *self.prepared("create", "true"))
        try:
            pid = json.loads(self.inside(*self.command("state", self.id)))["pid"]
            exe = f"/proc/{pid}/exe"
            fd = os.open(exe, os.O_RDONLY)
            try:
                self.inside(*self.command("delete", "--force", self.id))
                # Nobody executes it any more: that it was busy is no longer what protects it.
                with pytest.raises(OSError, match=r"Read-only|not permitted"):
                    os.open(f"/proc/self/fd/{fd}", os.O_WRONLY)
                return os.readlink(f"/proc/self/fd/{fd}"), os.fstat(fd).st_ino, os.fstatvfs(fd).f_flag & os.ST_RDONLY
            finally:
                os.close(fd)
        finally:
            self.attempt(*self.command("delete", "--force", self.id))

    def mounts(self) -> list[str]:
        """Where the namespace has interpreters of this installation; the host's own are hidden below the new /run."""
        with open(f"/proc/{self.pid}/mountinfo") as table:
            return [line.split()[4] for line in table if line.split()[4].startswith(f"{ROOM}{self.scratch}/")]

    def code_files(self) -> list[str]:
        listed = self.inside("sh", "-c", f"ls {self.place}").split()
        return [f"{self.place}/{name}" for name in listed if name.startswith("code-")]

    def seen(self, path: str) -> str:
        """The path by which a file of the namespace is reached from outside."""
        return f"/proc/{self.pid}/root{path}"

    def stamp(self) -> tuple[int, int]:
        """What changes when the code file of `run` is written again."""
        (path,) = (path for path in self.code_files() if path.endswith("-run"))
        found = os.stat(self.seen(path))
        return found.st_ino, found.st_mtime_ns

    def close(self) -> None:
        assert self._holder.stdin is not None and self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()
        for place in os.listdir("/sys/fs/cgroup"):
            try:
                os.rmdir(f"/sys/fs/cgroup/{place}/sampan-runtime-tests-{os.getpid()}")
            except OSError:
                pass


@pytest.fixture
def installed() -> Iterator[Installation]:
    scratch = tempfile.mkdtemp(prefix="sampan-standing-")
    os.chmod(scratch, 0o755)
    made = Installation(scratch)
    yield made
    made.close()
    shutil.rmtree(scratch)


def test_the_first_start_leaves_an_interpreter_and_the_code_and_the_next_executes_them(installed: Installation) -> None:
    assert installed.run("echo", "one") == "one\n"
    assert installed.mounts() == [f"{installed.place}/python3"]
    before = installed.stamp()
    # With another library in its place the package could not be imported; only what stands in /run runs.
    os.rename(f"{installed.packages}/sampan/runtime/plan", f"{installed.packages}/sampan/runtime/away")
    assert installed.run("echo", "two") == "two\n"
    assert installed.stamp() == before
    os.rename(f"{installed.packages}/sampan/runtime/away", f"{installed.packages}/sampan/runtime/plan")
    path, inode, read_only = installed.executable_of_a_waiting_container()
    assert (path, inode) == (f"{installed.place}/python3", os.stat(installed.python).st_ino)
    assert read_only


def test_what_stands_is_roots_alone_to_change(installed: Installation) -> None:
    installed.run("true")
    for path in (ROOM, installed.place, *installed.code_files(), f"{installed.place}/pyvenv.cfg"):
        found = os.stat(installed.seen(path))
        assert (found.st_uid, stat.S_IMODE(found.st_mode) & 0o022) == (0, 0), path
    rows = installed.inside("cat", "/proc/self/mountinfo").split("\n")
    (row,) = [row for row in rows if f"{installed.place}/python3" in row]
    assert row.split()[5].startswith("ro,")
    done = installed.attempt("sh", "-c", f": >> {installed.place}/python3")
    assert "Read-only file system" in done.stderr


def test_an_upgraded_interpreter_is_not_mistaken_for_the_old_one(installed: Installation) -> None:
    installed.run("true")
    shutil.copy(installed.python, f"{installed.python}.new")
    os.rename(f"{installed.python}.new", installed.python)
    _, inode, read_only = installed.executable_of_a_waiting_container()
    assert inode == os.stat(installed.python).st_ino and read_only
    assert installed.mounts() == [f"{installed.place}/python3"], "the old one is gone"


def test_what_stands_for_a_removed_installation_goes_when_another_is_made(installed: Installation) -> None:
    installed.run("true")
    gone = installed.place
    os.rename(f"{installed.scratch}/prefix", f"{installed.scratch}/moved")
    installed.inside(f"{installed.scratch}/moved/bin/sampan-runc", "--root", f"{installed.scratch}/state",
                     "run", "--bundle", installed.bundle, "again")  # fmt: skip
    assert installed.mounts() == [f"{ROOM}{installed.scratch}/moved/bin/python3/python3"]
    assert not os.path.exists(installed.seen(gone))


def test_each_verb_of_a_containers_life_has_its_code_and_others_have_none(installed: Installation) -> None:
    installed.executable_of_a_waiting_container()
    installed.inside(*installed.command("list"))
    installed.attempt(*installed.command("--log-format", "json", "kill", "nobody"))
    assert {path.rpartition("-")[2] for path in installed.code_files()} == {"create", "state", "delete", "kill"}


def test_a_changed_package_is_run_from_its_files_and_written_again(installed: Installation) -> None:
    installed.run("true")
    before = installed.stamp()
    path = f"{installed.packages}/sampan/runtime/cli.py"
    with open(path) as file:
        text = file.read()
    with open(f"{path}.new", "w") as file:
        file.write(text.replace("invalid log-format", "no such log-format"))
    # As an installer leaves it: new files, and an entry more or less beside the package.
    os.rename(f"{path}.new", path)
    os.mkdir(f"{installed.packages}/sampan-2.dist-info")
    done = installed.attempt(*installed.command("--log-format", "x", "run", "y"))
    assert "no such log-format" in done.stderr
    assert installed.run("echo", "on") == "on\n"
    assert installed.stamp() != before
    done = installed.attempt(*installed.command("--log-format", "x", "run", "y"))
    assert "no such log-format" in done.stderr, "from the new code file, too"


def test_an_editable_install_sees_each_changed_file(installed: Installation) -> None:
    os.rename(f"{installed.packages}/sampan", f"{installed.scratch}/sampan")
    with open(f"{installed.packages}/__editable__.sampan-1.pth", "w") as file:
        file.write(f"{installed.scratch}\n")
    installed.run("true")
    path = f"{installed.scratch}/sampan/runtime/cli.py"
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace("invalid log-format", "no such log-format"))
    done = installed.attempt(*installed.command("--log-format", "x", "run", "y"))
    assert "no such log-format" in done.stderr


def test_code_that_is_not_roots_is_not_run(installed: Installation) -> None:
    installed.run("true")
    (path,) = installed.code_files()
    assert path.endswith("-run")
    os.chown(installed.seen(path), UID, UID)
    # Marshalled code that would end the interpreter with 77.
    code = "import marshal,sys; c=compile('import os; os._exit(77)','x','exec'); " \
           "open(sys.argv[1],'wb').write(marshal.dumps((c,[],[],'')))"  # fmt: skip
    subprocess.run([sys.executable, "-c", code, installed.seen(path)], check=True)
    assert installed.run("echo", "mine") == "mine\n"
    os.chown(installed.seen(path), 0, 0)


def test_a_shared_run_has_it_in_every_mount_namespace_that_shares_it(installed: Installation) -> None:
    """As systemd has it: a service with mounts of its own sees what is made outside, and what is taken away."""
    installed.inside("mount", "--make-shared", "/run")
    script = "echo && exec cat"
    service = subprocess.Popen(
        ["nsenter", "-t", str(installed.pid), "-m", "--", "unshare", "--mount", "--propagation", "slave",
         "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert service.stdin is not None and service.stdout is not None
    try:
        assert service.stdout.readline() == b"\n"
        installed.run("true")
        path = f"{installed.place}/python3"
        assert os.path.samefile(f"/proc/{service.pid}/root{path}", installed.python)
        assert os.statvfs(f"/proc/{service.pid}/root{path}").f_flag & os.ST_RDONLY
        installed.inside("umount", path)
        assert os.stat(f"/proc/{service.pid}/root{path}").st_size == 0
    finally:
        service.stdin.close()
        service.wait()
        service.stdout.close()


def test_a_mount_namespace_without_the_mount_makes_its_own(installed: Installation) -> None:
    """The files are there, the interpreter is not: what the mount covers is no program."""
    installed.run("true")
    installed.inside("umount", f"{installed.place}/python3")
    assert os.stat(installed.seen(f"{installed.place}/python3")).st_size == 0
    assert installed.run("echo", "here") == "here\n"
    assert installed.mounts() == [f"{installed.place}/python3"]
    assert installed.executable_of_a_waiting_container()[2]


def test_a_run_that_cannot_be_written_seals_the_interpreter_for_one_start(installed: Installation) -> None:
    installed.inside("mount", "-o", "remount,ro", "/run")
    assert installed.run("echo", "sealed") == "sealed\n"
    assert installed.mounts() == []
    path, _, read_only = installed.executable_of_a_waiting_container()
    assert read_only and not path.startswith(ROOM)


def test_a_room_that_others_may_write_to_is_not_used(installed: Installation) -> None:
    installed.inside("mkdir", "-m", "777", ROOM)
    assert installed.run("echo", "alone") == "alone\n"
    assert installed.mounts() == []


def test_without_root_nothing_is_left_and_what_root_left_may_be_executed(installed: Installation) -> None:
    drop = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    if installed.attempt(*drop, installed.python, "-I", "-S", "-c", "pass").returncode:
        pytest.skip("the interpreter's library is not readable for others")
    version = [*drop, f"{installed.scratch}/prefix/bin/sampan-runc", "--version"]
    spec = [*drop, f"{installed.scratch}/prefix/bin/sampan-runc", "run", "--bundle", "/nowhere", "x"]
    assert "nowhere" in installed.attempt(*spec).stderr or "config.json" in installed.attempt(*spec).stderr
    assert installed.attempt("test", "-e", ROOM).returncode == 1
    installed.run("true")
    assert installed.inside(*version).startswith("runc version")


def test_starts_at_the_same_time_leave_one_mount(installed: Installation) -> None:
    spec = installed.prepared("run", "true")[:-1]
    quoted = " ".join(spec)
    script = "".join(f"{quoted} stand-many-{number} & " for number in range(4)) + "wait"
    installed.inside("sh", "-c", script)
    assert installed.mounts() == [f"{installed.place}/python3"]
    assert len(installed.code_files()) == 1


def test_the_script_is_found_through_a_link_and_by_a_relative_path(installed: Installation) -> None:
    installed.run("true")
    os.symlink("prefix/bin/sampan-runc", f"{installed.scratch}/linked")
    for command in (f"{installed.scratch}/linked", "./prefix/bin/sampan-runc", "prefix/bin/../bin/sampan-runc"):
        shown = installed.inside("sh", "-c", f"cd {installed.scratch} && exec {command} --version")
        assert shown.startswith("runc version"), command
    shown = installed.inside(
        "sh", "-c", f"cd {installed.scratch}/prefix/bin && PATH=.:$PATH exec sampan-runc --version"
    )
    assert shown.startswith("runc version")
