"""A danger of a runtime in Python alone: once the root is the container's, whatever is loaded late is the attacker's.

A late import, a codec, an NSS module or a dlopen would run the image's code as root of the host with every capability.
The rootfs here is full of such bait; the kernel's own record (strace) tells what init has opened.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig

import pytest
from tests.peers.runtimes import Bundle, Runtime

pytestmark = pytest.mark.needs("strace")

EVIL = "import os\nfor n in (1, 2):\n    os.write(n, b'OWNED\\n')\nopen('/owned', 'w').write('x')\n"

NATIVE = ("libnss_files.so.2", "libnss_compat.so.2", "libnss_dns.so.2", "libnss_systemd.so.2", "libgcc_s.so.1",
          "libc.so.6", "libm.so.6", "libffi.so.8", "libpthread.so.0", "ld-linux-x86-64.so.2")  # fmt: skip

# What init opens inside the container for the spec's sake, beside mounts, devices, masks and the program.
SPEC_PATHS = re.compile(
    r"/?(proc|sys|dev)(/.*)?|/?etc/passwd|(/usr)?/s?bin(/.*)?|/?|\.|null|zero|full|tty|random|urandom|ptmx|fd|stdin|stdout|stderr"
    r"|pts|shm|/?work"
)

PIVOT = ' pivot_root("'
"""The call in a trace, and not a source text that is being read."""

OPENING = re.compile(
    r"^(?P<pid>\d+) +(?:open|openat|openat2|execve|execveat|stat|statx|newfstatat|access|faccessat2?|readlink|uselib)\("
)


def salted(bundle: Bundle) -> Bundle:
    """Puts bait where an interpreter or the C library would look: below every place on this one's own search path."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    stdlib = sysconfig.get_path("stdlib")
    packages = os.path.dirname(os.path.dirname(os.path.abspath(shutil.__file__)))
    source = os.path.abspath(f"{os.path.dirname(__file__)}/../../src")
    for top in {stdlib, packages, source, f"/usr/lib/{version}", f"/usr/local/lib/{version}", "/usr/lib/python3", ""}:
        for name in ("sitecustomize", "usercustomize", "encodings/__init__", "encodings/utf_8", "encodings/idna",
                     "encodings/ascii", "encodings/latin_1", "traceback", "linecache", "struct", "locale", "warnings",
                     "json/__init__", "subprocess", "pwd", "grp", "fcntl", "select", "re", "ctypes/__init__", "errno",
                     "signal", "time", "stat", "os", "sampan/__init__", "sampan/runtime/__init__", "io", "abc",
                     "sampan/runtime/hooks", "sampan/runtime/console", "sampan/runtime/steps/terminal"):  # fmt: skip
            place = f"{bundle.rootfs}{top}/{name}.py"
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with open(place, "w") as file:
                file.write(EVIL)
    for directory in (
        "lib",
        "lib64",
        "usr/lib",
        "usr/lib/x86_64-linux-gnu",
        "lib/x86_64-linux-gnu",
        f"{stdlib[1:]}/lib-dynload",
    ):
        os.makedirs(f"{bundle.rootfs}/{directory}", exist_ok=True)
        for name in NATIVE:
            with open(f"{bundle.rootfs}/{directory}/{name}", "wb") as raw:
                raw.write(b"\x7fELF bait")
    for name in ("ld.so.preload", "ld.so.cache", "nsswitch.conf", "gai.conf", "localtime", "locale.alias", "host.conf"):
        with open(f"{bundle.rootfs}/etc/{name}", "w") as file:
            file.write("/lib/libnss_files.so.2\n" if name == "ld.so.preload" else "passwd: files systemd\n")
    return bundle


def traced(runtime: Runtime, *arguments: str) -> tuple[list[str], str]:
    """(the calls of the process that became the container's program, up to its last execve; all it printed)."""
    trace = f"{runtime.scratch}/trace"
    argv = ["strace", "-f", "-qq", "-s", "300", "-o", trace, *runtime.argv(*arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done
    with open(trace, errors="replace") as file:
        lines = file.read().splitlines()
    # The program is the only thing executed by its container's path.
    last = next(number for number, line in enumerate(lines) if re.search(r'execve\("/bin/(true|false|env)"', line))
    pid = lines[last].split()[0]
    return [line for line in lines[: last + 1] if line.startswith(f"{pid} ")], done.stdout + done.stderr


def after_the_root_changed(calls: list[str], marker: str) -> list[str]:
    place = max(number for number, line in enumerate(calls) if marker in line)
    return calls[place + 1 :]


def opened(calls: list[str]) -> list[str]:
    """The paths that calls which open or look at files name."""
    found = []
    for line in calls:
        if OPENING.match(line):
            quoted = re.search(r'"((?:[^"\\]|\\.)*)"', line)
            found.append(quoted[1] if quoted else "")
    return found


def foreign(paths: list[str]) -> list[str]:
    return [path for path in paths if not SPEC_PATHS.fullmatch(path)]


def test_run_opens_nothing_but_what_the_spec_names(sampan: Runtime) -> None:
    bundle = salted(sampan.bundle())
    bundle.spec["process"]["user"] = {"uid": 1000, "gid": 1000}
    bundle.spec["process"]["cwd"] = "/work"
    calls, text = traced(sampan, "run", "--bundle", bundle.command("true").path, "one")
    assert "OWNED" not in text
    inside = after_the_root_changed(calls, PIVOT)
    assert len(inside) > 20
    assert foreign(opened(inside)) == []
    assert not os.path.exists(f"{bundle.rootfs}/owned")


def test_run_with_everything_that_runs_late_opens_nothing_else(sampan: Runtime) -> None:
    """Hooks, a filter, sysctls, a name that is not UTF-8, a program that must be searched for."""
    bundle = salted(sampan.bundle())
    bundle.spec["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "77"}
    bundle.spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}],
    }  # fmt: skip
    bundle.spec["process"]["env"] = [
        "PATH=/nowhere:/bin",
        "HOME=",
        "NAME=\u00fc\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
    ]
    bundle.hook("createContainer", "true")
    calls, text = traced(sampan, "run", "--bundle", bundle.command("env").path, "one")
    assert "OWNED" not in text
    paths = [path for path in opened(after_the_root_changed(calls, PIVOT)) if not path.startswith("/nowhere")]
    assert foreign([path for path in paths if not path.startswith("sys/net/")]) == []


def test_a_failure_inside_loads_nothing_either(sampan: Runtime) -> None:
    """An error's way out, with its traceback and its text, is where Python likes to import."""
    bundle = salted(sampan.bundle())
    for change in ({"args": ["/no/such\u00e9"]}, {"args": ["/etc"]}, {"cwd": "/etc/passwd"}):
        bundle.spec["process"].update({"args": ["true"], "cwd": "/", **change})
        trace = f"{sampan.scratch}/trace"
        argv = sampan.argv("run", "--bundle", bundle.write().path, "one")
        done = subprocess.run(["strace", "-f", "-qq", "-s", "300", "-o", trace, *argv], capture_output=True, text=True)
        assert done.returncode == 1
        assert "OWNED" not in done.stdout + done.stderr
        with open(trace, errors="replace") as file:
            lines = file.read().splitlines()
        pivoting = next(line for line in lines if PIVOT in line)
        mine = [line for line in lines if line.split()[0] == pivoting.split()[0]]
        paths = opened(after_the_root_changed(mine, PIVOT))
        wanted = {"/no/such\\303\\251", "/etc", "/etc/passwd", "/work"}
        assert [path for path in foreign(paths) if path not in wanted] == []


def test_exec_opens_nothing_but_what_the_spec_names(sampan: Runtime) -> None:
    sampan.start(salted(sampan.bundle()).command("sleep", "1000"))
    calls, text = traced(sampan, "exec", "--user", "1000", "--env", "A=B", "one", "env")
    assert "OWNED" not in text
    inside = after_the_root_changed(calls, "setns(")
    assert len(inside) > 10
    assert foreign(opened(inside)) == []


def test_the_same_trace_sees_an_interpreter_that_loads_late(sampan: Runtime) -> None:
    """The control: a Python process that enters the salted rootfs as one naively would runs the bait."""
    bundle = salted(sampan.bundle())
    program = "import os, sys; os.chroot(sys.argv[1]); os.chdir('/'); import sitecustomize, encodings.idna"
    done = subprocess.run([sys.executable, "-S", "-c", program, bundle.rootfs], capture_output=True, text=True)
    assert "OWNED" in done.stdout


def test_no_library_of_the_container_is_mapped_while_init_waits(sampan: Runtime) -> None:
    """And init has one thread: a second could be anywhere when the root changes."""
    pid = sampan.create(salted(sampan.bundle()).command("true"))
    assert os.listdir(f"/proc/{pid}/task") == [str(pid)]
    with open(f"/proc/{pid}/maps") as maps:
        files = {line.split(None, 5)[5].strip() for line in maps if len(line.split(None, 5)) == 6}
    mounts = {os.stat(f"/proc/{pid}/root").st_dev}
    assert mounts
    assert not [name for name in files if sampan.scratch in name]


MODULES = """
import os, sys
sys.path.insert(0, {source!r})
from sampan.runtime import init
from sampan.runtime.steps import identity, rootfs
before = None
real_close, real_execve = init.close_the_door, identity.process.execve

def close():
    global before
    real_close()
    before = set(sys.modules)

def execve(path, args, env):
    os.write(2, f"NEW{{sorted(set(sys.modules) - before)}} PATH{{sys.path}} META{{sys.meta_path}} "
                f"HOOKS{{sys.path_hooks}}\\n".encode())
    real_execve(path, args, env)

init.close_the_door, identity.process.execve = close, execve
from sampan.runtime import cli
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize("terminal", [False, True])
def test_no_module_is_added_between_the_first_step_and_execve(sampan: Runtime, terminal: bool) -> None:
    """Asked of the interpreter itself: from the closing of the door to execve sys.modules stays as it is."""
    source = os.path.abspath(f"{os.path.dirname(__file__)}/../../src")
    bundle = salted(sampan.bundle())
    bundle.spec["linux"]["sysctl"] = {"net.ipv4.ip_default_ttl": "77"}
    bundle.hook("startContainer", "true")
    bundle.spec["hooks"]["startContainer"][0]["path"] = "/bin/sh"
    bundle.spec["process"]["terminal"] = terminal
    argv = [sys.executable, "-I", "-S", "-c", MODULES.format(source=source), "--root", sampan.root, "run",
            "--bundle", bundle.command("true").path, "one"]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    seen = done.stderr + done.stdout
    assert done.returncode == 0, seen
    assert "NEW[] PATH[] META[] HOOKS[]" in seen, seen
    assert "OWNED" not in seen
