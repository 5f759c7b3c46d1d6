"""The kernel tests pass on a host of another kind too: Debian 12's own kernel with cgroup v2 alone."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from tests.conftest import leave_out
from tests.vm import small_machine

pytestmark = [pytest.mark.root, pytest.mark.needs("qemu-system-x86_64", "cpio", "busybox", "mkfs.ext4")]

PATIENCE_S = 900

# Of tests/linux the kernel's bindings, and of the runtime what meets cgroups and launches in one process: a start of
# the interpreter takes two seconds on the emulated processor, so that all of test_runtime_* would take half an hour.
SUBJECTS = ("bpf", "capabilities", "cgroupfs", "fds", "inotify", "keyring", "mount", "paths", "process", "procfs",
            "runtime_cgroup2", "runtime_launch", "seccomp", "sockets", "tty")  # fmt: skip

# What compares with runc, which is not in the machine, or reads cgroup v1's files; and one whose terminal is typed into
# faster than the emulated processor asks for it.
NOT_HERE = (
    "as_with_runc", "hold_with_runc", "example_that_runs and [runc]", "limits_reach_the_cgroups", "host and lacks",
    "limit and too and small", "private_cgroup_namespace", "to_somebody_else and [runc]", "update_changes_limits",
    "refused_update", "arrives_at_the_console_socket",
)  # fmt: skip


def test_the_bindings_and_the_runtime_pass_on_pure_cgroup_v2(tmp_path: Path) -> None:
    if os.uname().machine != "x86_64":
        leave_out("the small machine is x86-64's")
    files = " ".join(f"tests/linux/test_{name}.py" for name in SUBJECTS)
    files += " tests/security/test_cgroups_of_user_namespaces.py"  # whose attack is one on cgroup v2
    left_out = "-k 'not ({})'".format(" or ".join(f"({name})" for name in NOT_HERE))
    command = f"python3 -m pytest -q --color=no -p no:cacheprovider {files} {left_out}"
    status, text = small_machine.run(str(tmp_path), command, PATIENCE_S)
    print(text)
    counts = re.search(r"(\d+) passed", text)
    assert status == 0
    assert counts is not None
    assert int(counts[1]) > 50
