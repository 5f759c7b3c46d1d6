"""CVE-2019-5736: the runtime's own program, reached through /proc/PID/exe of a process that is about to be a container.

For runc that program is runc; for sampan-runc it is the host's Python interpreter, which half the host runs by. An
attacker keeps a read-only handle on it, waits until nobody executes it any more, and opens it again for writing
through /proc/self/fd. No test here writes: that the opening succeeds is the proof.
"""

from __future__ import annotations

import _ctypes
import os
import re
import shutil
import subprocess
import sys
import sysconfig

import pytest
from tests.peers.runtimes import CAPABILITIES, PATHS, Bundle, Runtime, wait_status

import sampan as sampan_package

HELD = "/proc/self/fd/{}"

ATTACK = """#!/proc/self/exe
import os, sys
fd = os.open("/proc/self/exe", os.O_RDONLY)
os.set_inheritable(fd, True)
print("inside", flush=True)
os.execv("/bin/sh", ["sh", "-c", '''
n=%d; i=0
while [ $i -lt 20 ]; do
    if (exec 9>>/proc/self/fd/$n) 2>/dev/null; then echo overwritten; exit; fi
    usleep 10000; i=$((i+1))
done
echo resisted''' % fd])
"""
"""Run by the runtime's own executable inside the container; it opens that for writing as soon as it has left it."""


REMOUNT = """#!/proc/self/exe
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def tried(name, done):
    print(name, ctypes.get_errno() if done < 0 else "done", flush=True)
    ctypes.set_errno(0)
fd = os.open("/proc/self/exe", os.O_RDONLY)
path = b"/proc/self/fd/%d" % fd
tried("remount", libc.mount(None, path, None, 4096 | 32, None))
attr = (ctypes.c_uint64 * 4)(0, 1, 0, 0)
tried("setattr", libc.syscall(442, fd, b"", 0x1000, ctypes.byref(attr), 32))
tried("clone", libc.syscall(428, fd, b"", 0x1000 | 1 | 0o2000000))
os.close(os.open("/tmp/place", os.O_CREAT))
tried("bind", libc.mount(path, b"/tmp/place", None, 4096, None))
os.execv("/bin/attack", ["attack"])
"""
"""What a root that may mount would try on the handle: MS_REMOUNT|MS_BIND, mount_setattr clearing MOUNT_ATTR_RDONLY,
open_tree with OPEN_TREE_CLONE, MS_BIND; then the attack itself."""

ONCE = """#!/bin/sh
exec {python} -I -S -c '
import sys
sys.path.append("{source}")
from sampan.runtime.__main__ import main
main()
' "$@"
"""
"""Ours without what an earlier start has left in /run: each start seals the interpreter for itself."""


@pytest.fixture(params=["from what stands in /run", "sealed for one start"])
def sampan(request: pytest.FixtureRequest, sampan: Runtime) -> Runtime:
    if request.param == "sealed for one start":
        sampan.path = f"{sampan.scratch}/sampan-runc"
        source = os.path.dirname(os.path.dirname(sampan_package.__file__))
        with open(sampan.path, "w") as file:
            file.write(ONCE.format(python=sys.executable, source=source))
        os.chmod(sampan.path, 0o755)
    return sampan


def writable(fd: int) -> bool:
    """Whether the file behind a read-only handle can be opened for writing now."""
    try:
        os.close(os.open(HELD.format(fd), os.O_WRONLY))
    except OSError:
        return False
    return True


def test_the_attack_would_succeed_on_an_interpreter_that_is_not_sealed(scratch: str) -> None:
    """The control: a copy of the interpreter, started plainly, is exactly what an attacker needs."""
    program = f"{scratch}/python3"
    shutil.copy(os.path.realpath(sys.executable), program)
    child = subprocess.Popen([program, "-I", "-S", "-c", "print('up', flush=True); input()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             env={"PYTHONHOME": sys.base_prefix})  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    fd = os.open(f"/proc/{child.pid}/exe", os.O_RDONLY)
    try:
        assert not writable(fd), "it is busy while it runs"
        child.communicate(b"\n")
        assert writable(fd)
    finally:
        os.close(fd)


def test_a_handle_on_a_created_containers_program_is_never_writable(runtime: Runtime) -> None:
    pid = runtime.create(runtime.bundle().command("true"))
    fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
    try:
        runtime.delete()
        assert not writable(fd)
    finally:
        os.close(fd)


def give_interpreter(bundle: Bundle) -> Bundle:
    """Lets the host's interpreter run inside the rootfs: its loader, its libraries, its standard library."""
    real = os.path.realpath(sys.executable)
    shown = subprocess.run(["ldd", real, _ctypes.__file__], capture_output=True, text=True).stdout
    for library in set(re.findall(r"(/\S+\.so\S*) \(0x", shown)):
        os.makedirs(os.path.dirname(bundle.rootfs + library), exist_ok=True)
        shutil.copy(library, bundle.rootfs + library)
    bundle.mount(sysconfig.get_path("stdlib"), sysconfig.get_path("stdlib"), "rbind", "ro")
    bundle.spec["process"]["env"].append(f"PYTHONHOME={sys.base_prefix}")
    with open(f"{bundle.rootfs}/bin/attack", "w") as file:
        file.write(ATTACK)
    os.chmod(f"{bundle.rootfs}/bin/attack", 0o755)
    return bundle


def test_an_entrypoint_that_is_proc_self_exe_cannot_overwrite_the_interpreter(sampan: Runtime) -> None:
    done = sampan.run(give_interpreter(sampan.bundle()).command("/bin/attack"))
    assert done.out == "inside\nresisted\n", done


def test_proc_self_exe_as_the_program_itself_cannot_either(sampan: Runtime) -> None:
    bundle = give_interpreter(sampan.bundle())
    done = sampan.run(bundle.command("/proc/self/exe", "-I", "-S", "/bin/attack"))
    assert done.out == "inside\nresisted\n", done


def test_exec_of_proc_self_exe_cannot_either(sampan: Runtime) -> None:
    sampan.start(give_interpreter(sampan.bundle()).command("sleep", "1000"))
    for argv in (["/bin/attack"], ["/proc/self/exe", "-I", "-S", "/bin/attack"]):
        done = sampan.exec(*argv)
        assert done.out == "inside\nresisted\n", done


def test_runc_executed_in_its_own_container_is_a_copy(runtime: Runtime) -> None:
    """An entrypoint of /proc/self/exe alone, on either runtime: it fails or prints help, and the host's program of
    the runtime is the same file as before."""
    program = os.path.realpath(sys.executable if runtime.name == "sampan" else runtime.path)
    before = os.stat(program)
    runtime.run(runtime.bundle().command("/proc/self/exe"))
    after = os.stat(program)
    assert (before.st_ino, before.st_mtime_ns, before.st_size) == (after.st_ino, after.st_mtime_ns, after.st_size)


def test_the_waiting_process_runs_from_what_nobody_can_write(sampan: Runtime) -> None:
    pid = sampan.create(sampan.bundle().command("true"))
    wait_status(sampan, "created")
    link = os.readlink(f"/proc/{pid}/exe")
    fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
    try:
        assert os.fstatvfs(fd).f_flag & os.ST_RDONLY or link.startswith("/memfd:")
        assert link.startswith("/run/sampan-start/") == (sampan.path == PATHS["sampan"])
    finally:
        os.close(fd)


def test_root_of_a_container_that_may_mount_cannot_make_it_writable(sampan: Runtime) -> None:
    """The handle is on a mount of another mount namespace, whose flags CAP_SYS_ADMIN of this one does not reach."""
    bundle = give_interpreter(sampan.bundle())
    more = [*CAPABILITIES, "CAP_SYS_ADMIN", "CAP_LINUX_IMMUTABLE"]
    bundle.spec["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), more)
    with open(f"{bundle.rootfs}/bin/remount", "w") as file:
        file.write(REMOUNT)
    os.chmod(f"{bundle.rootfs}/bin/remount", 0o755)
    done = sampan.run(bundle.command("/bin/remount"))
    assert done.out == "remount 22\nsetattr 22\nclone 22\nbind 22\ninside\nresisted\n", done
