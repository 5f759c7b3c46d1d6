"""--systemd-cgroup with Debian's systemd as process 1 of the small machine, on cgroup v2 and on v1."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from tests.conftest import leave_out
from tests.vm import small_machine

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("qemu-system-x86_64", "cpio", "busybox", "mkfs.ext4", "runc", "systemctl", "dbus-daemon"),
]

PATIENCE_S = 900
# The first start of the runtime compiles it, which takes longer than a test is patient.
COMMAND = "sampan-runc run none 2>/dev/null; "
COMMAND += "python3 -m pytest -q --color=no -p no:cacheprovider --durations=5 tests/vm/inside"


@pytest.mark.parametrize(("cgroups", "least"), [("unified", 40), ("legacy", 33)])
def test_containers_are_units_of_a_real_systemd(cgroups: str, least: int, tmp_path: Path) -> None:
    """Each scenario in tests/vm/inside runs on runc too, wherever 1.1 can do it."""
    if os.uname().machine != "x86_64":
        leave_out("the small machine is x86-64's")
    status, text = small_machine.run(str(tmp_path), COMMAND, PATIENCE_S, systemd=cgroups)
    print(text)
    counts = re.search(r"(\d+) passed", text)
    assert status == 0
    assert counts is not None
    assert int(counts[1]) >= least
