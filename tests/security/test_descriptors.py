"""What of the host a process of a container can reach through its descriptors, its directory, or its neighbours'.

CVE-2024-21626 (a leaked descriptor and a working directory behind it), CVE-2016-9962 (a process on its way into a
container that others there may look into).
"""

from __future__ import annotations

import os
import re
import shlex
import socket

import pytest
from tests.peers.runtimes import Runtime

NUMBERS = range(3, 16)
"""Descriptors that runc 1.1.11 and older leaked were 7 to 9; 1.1.5+ds1-1+deb12u1 has Debian's patch and resists."""

LOOK = "readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2; echo --; for f in /proc/$$/fd/*; do echo $f; done"


@pytest.fixture
def secret(scratch: str) -> str:
    with open(f"{scratch}/secret", "w") as file:
        file.write("secret\n")
    return f"{scratch}/secret"


def climb(secret: str) -> str:
    """A script that reads the host's file by climbing from wherever it stands."""
    return f"cat {'../' * 20}{secret[1:]} 2>/dev/null; echo from $(pwd)"


def test_a_container_holds_only_the_standard_streams(runtime: Runtime, secret: str) -> None:
    """Although the caller leaks a directory and a socket of the host to the runtime."""
    leaked = [os.open(os.path.dirname(secret), os.O_RDONLY), socket.socket(socket.AF_UNIX).detach()]
    script = "for f in /proc/self/fd/*; do readlink $f >/dev/null && echo ${f##*/}; done"
    try:
        done = runtime.run(runtime.bundle().shell(script), pass_fds=leaked)
        assert done.out.split() == ["0", "1", "2"], done
        runtime.start(runtime.bundle().command("sleep", "1000"), id="two")
        done = runtime.exec("sh", "-c", script, id="two", pass_fds=leaked)
        assert done.out.split() == ["0", "1", "2"], done
    finally:
        for fd in leaked:
            os.close(fd)


def test_no_working_directory_behind_a_descriptor_leads_to_the_host(runtime: Runtime, secret: str) -> None:
    leaked = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    try:
        for number in NUMBERS:
            bundle = runtime.bundle()
            bundle.spec["process"]["cwd"] = f"/proc/self/fd/{number}"
            done = runtime.run(bundle.shell(climb(secret)), pass_fds=[leaked])
            assert "secret" not in done.out, number
            assert done.status != 0, f"{number}: a directory that is not there is no working directory: {done.out}"
    finally:
        os.close(leaked)


def test_no_symlink_in_the_image_makes_it_so(runtime: Runtime, secret: str) -> None:
    for number in NUMBERS:
        bundle = runtime.bundle()
        os.symlink(f"/proc/self/fd/{number}", f"{bundle.rootfs}/work")
        bundle.spec["process"]["cwd"] = "/work"
        done = runtime.run(bundle.shell(climb(secret)))
        assert "secret" not in done.out, number
        assert done.status != 0


def test_not_even_a_descriptor_passed_on_purpose_is_a_working_directory(runtime: Runtime, secret: str) -> None:
    """The control too: with --preserve-fds the directory is there for sure, and the check must see it."""
    held = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    command = " ".join(map(shlex.quote, runtime.argv("run", "--preserve-fds", "1", "--bundle")))
    try:
        bundle = runtime.bundle()
        bundle.spec["process"]["cwd"] = "/proc/self/fd/3"
        bundle.shell(climb(secret))
        os.set_inheritable(held, True)
        import subprocess

        done = subprocess.run(
            ["sh", "-c", f"exec 3</proc/self/fd/{held}; exec {command} {bundle.path} one"],
            pass_fds=[held], capture_output=True, text=True,
        )  # fmt: skip
        assert "secret" not in done.stdout
        assert done.returncode == 1
        assert re.search("outside of container mount namespace root|/proc/self/fd/3: too many levels of", done.stderr)
    finally:
        os.close(held)


def test_exec_has_no_such_working_directory_either(runtime: Runtime, secret: str) -> None:
    bundle = runtime.bundle()
    for number in NUMBERS:
        os.symlink(f"/proc/self/fd/{number}", f"{bundle.rootfs}/work{number}")
    runtime.start(bundle.command("sleep", "1000"))
    for number in NUMBERS:
        for cwd in (f"/proc/self/fd/{number}", f"/work{number}"):
            done = runtime.exec("sh", "-c", climb(secret), flags=["--cwd", cwd])
            assert "secret" not in done.out, cwd
            assert done.status != 0, (cwd, done.out)


def test_exec_into_a_working_directory_replaced_by_a_symlink_stays_inside(runtime: Runtime, secret: str) -> None:
    """The container moves the directory that the spec names after it has started."""
    bundle = runtime.bundle()
    os.makedirs(f"{bundle.rootfs}/work")
    bundle.spec["process"]["cwd"] = "/work"
    runtime.start(bundle.shell("rm -r /work; ln -s /proc/1/cwd/../../../.. /work; sleep 1000"))
    done = runtime.exec("sh", "-c", climb(secret))
    assert "secret" not in done.out


NEIGHBOUR = """
p={pid}
readlink /proc/$p/fd/0 >/dev/null 2>&1 && echo fd
readlink /proc/$p/cwd >/dev/null 2>&1 && echo cwd
readlink /proc/$p/exe >/dev/null 2>&1 && echo exe
cat /proc/$p/environ >/dev/null 2>&1 && echo environ
(: <>/proc/$p/mem) 2>/dev/null && echo mem
echo looked
"""


def _two_in_one_pid_namespace(runtime: Runtime, second_waits: bool) -> str:
    """What a container sees of another process in its pid namespace: of one still waiting before its program, which is
    the runtime's own code, or of an ordinary one."""
    first = runtime.start(runtime.bundle().command("sleep", "1000"))
    bundle = runtime.bundle()
    for namespace in bundle.spec["linux"]["namespaces"]:
        if namespace["type"] == "pid":
            namespace["path"] = f"/proc/{first}/ns/pid"
    bundle.command("sleep", "1000")
    pid = runtime.create(bundle, id="two") if second_waits else _started(runtime, bundle)
    with open(f"/proc/{pid}/status") as file:
        inner = next(line.split()[-1] for line in file if line.startswith("NSpid:"))
    script = NEIGHBOUR.format(pid=inner)
    done = runtime.exec("sh", "-c", script)
    runtime.delete("two")
    runtime.delete("one")
    return done.out


def _started(runtime: Runtime, bundle: object) -> int:
    return runtime.start(bundle, id="two")  # type: ignore[arg-type]


def test_the_waiting_process_of_a_container_cannot_be_looked_into(runtime: Runtime) -> None:
    """CVE-2016-9962: its descriptors, directory, program and memory are the host's until execve."""
    assert _two_in_one_pid_namespace(runtime, second_waits=True) == "looked\n"


def test_whereas_an_ordinary_neighbour_can(runtime: Runtime) -> None:
    """The control: the same look works on a process with the same privileges that is not protected."""
    assert _two_in_one_pid_namespace(runtime, second_waits=False) == "fd\ncwd\nexe\nenviron\nmem\nlooked\n"


def test_init_holds_exactly_what_it_needs_while_it_waits(sampan: Runtime) -> None:
    """Ours: a created container's init has its three streams, the exec.fifo, and directories inside the rootfs only."""
    pid = sampan.create(sampan.bundle().command("true"))
    links = {int(fd): os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    streams = {fd: links.pop(fd) for fd in (0, 1, 2)}
    assert set(streams) == {0, 1, 2}
    fifo = [fd for fd, link in links.items() if link.endswith("exec.fifo")]
    assert len(fifo) == 1
    del links[fifo[0]]
    # The rest are O_PATH handles of the container's own root and /dev/null; their names are seen from inside it.
    assert sorted(links.values()) in (["/"], ["/", "/dev/null"], ["/", "/null"]), links
    for fd in links:
        with open(f"/proc/{pid}/fdinfo/{fd}") as info:
            flags = next(int(line.split()[1], 8) for line in info if line.startswith("flags:"))
        assert flags & os.O_CLOEXEC
