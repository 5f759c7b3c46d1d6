"""The kernel tests pass on a host of another kind too: Debian 12's own kernel with cgroup v2 alone."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from tests.conftest import leave_out
from tests.vm import small_machine

pytestmark = [pytest.mark.root, pytest.mark.needs("qemu-system-x86_64", "cpio", "busybox", "mkfs.ext4")]

PATIENCE_S = 1200

# Of tests/linux the kernel's bindings, and of the runtime what meets cgroups, mounts and namespaces. A start of the
# runtime takes most of a second on the emulated processor, so that not everything is run twice.
SUBJECTS = ("bpf", "capabilities", "cgroupfs", "fds", "inotify", "keyring", "mount", "paths", "process", "procfs",
            "runtime_cgroup2", "runtime_events", "runtime_fields", "runtime_launch", "runtime_lifecycle", "runtime_run",
            "seccomp", "sockets", "tty")  # fmt: skip

NOT_HERE = (
    # runc alone: it has shown these on the host; what compares the two in one test is run here too.
    "[runc]", "[runc-",
    # The command line's words, which know nothing of the host.
    "help_of_each_verb", "command_line_that_is_wrong", "spec_writes", "features", "debug", "broken_one_is_refused",
    "nobody_knows_are_warned", "id_that_cannot_be",
    # A capability that the host lacks: the machine has all.
    "host and lacks",
)  # fmt: skip


def test_the_bindings_and_the_runtime_pass_on_pure_cgroup_v2(tmp_path: Path) -> None:
    if os.uname().machine != "x86_64":
        leave_out("the small machine is x86-64's")
    files = " ".join(f"tests/linux/test_{name}.py" for name in SUBJECTS)
    files += " tests/security/test_cgroups_of_user_namespaces.py"  # whose attack is one on cgroup v2
    left_out = "-k 'not ({})'".format(" or ".join(f"({name})" for name in NOT_HERE))
    # The first start of the runtime compiles it, which takes longer than a test is patient.
    command = "sampan-runc run none 2>/dev/null; "
    command += f"python3 -m pytest -q --color=no -p no:cacheprovider --durations=10 {files} {left_out}"
    status, text = small_machine.run(str(tmp_path), command, PATIENCE_S)
    print(text)
    counts = re.search(r"(\d+) passed", text)
    assert status == 0
    assert counts is not None
    assert int(counts[1]) > 200
