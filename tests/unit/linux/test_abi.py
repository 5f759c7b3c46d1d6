"""Tables that must agree with each other and with Python's own."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from sampan.linux import abi


def test_both_architectures_number_the_same_calls_and_none_twice() -> None:
    x86, arm = abi._SYSCALLS["x86_64"], abi._SYSCALLS["aarch64"]
    assert x86.keys() == arm.keys()
    for table in (x86, arm):
        assert len(set(table.values())) == len(table)
        assert not table.keys() & abi._SHARED_SYSCALLS.keys()


def test_the_calls_are_numbered_even_where_the_machine_is_given_a_32_bit_name() -> None:
    program = "from sampan.linux import abi, call; print(abi.MACHINE, call.call('gettid') > 0)"
    source = str(Path(__file__).parents[3] / "src")
    for prefix in ([], ["setarch", "linux32"]):
        done = subprocess.run([*prefix, sys.executable, "-c", program], cwd=source, capture_output=True, text=True)
        assert done.stdout.split() == [abi.MACHINE, "True"], done.stderr


def test_the_numbers_that_python_knows_are_the_same() -> None:
    for name in ("SIGHUP", "SIGKILL", "SIGTERM", "SIGCHLD", "SIGCONT", "SIGSTOP"):
        assert getattr(abi, name) == getattr(signal, name)
    for name, number in abi.RLIMITS.items():
        assert getattr(resource, name, number) == number
    for name, number in abi.SCHED_POLICIES.items():
        assert getattr(os, name, number) == number
    for name in ("MFD_CLOEXEC", "MFD_ALLOW_SEALING", "P_PIDFD"):
        assert getattr(abi, name) == getattr(os, name)


def test_every_namespace_of_the_oci_spec_has_its_own_flag() -> None:
    assert set(abi.NAMESPACES) == {"user", "mount", "pid", "network", "ipc", "uts", "cgroup", "time"}
    flags = [flag for flag, _ in abi.NAMESPACES.values()]
    assert len(set(flags)) == len(flags)
    for _, link in abi.NAMESPACES.values():
        assert os.path.exists(f"/proc/self/ns/{link}")
