"""The whole way of `sampan run` on Debian 12's own kernel with cgroup v2 alone: engine, keeper, network, limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.conftest import leave_out
from tests.vm import small_machine

pytestmark = [pytest.mark.root, pytest.mark.needs("qemu-system-x86_64", "cpio", "busybox", "mkfs.ext4")]

PATIENCE_S = 400

# Each line prints "name: what was seen", so that the test below reads as a table.
SCRIPT = """
sampan() { python3 -m sampan.cli "$@"; }
say() { echo "$1: $(echo $2)"; }
say hello "$(sampan run --rm sampan/host echo hello)"
say failed "$(sampan run --rm sampan/host sh -c 'exit 7'; echo $?)"
say missing "$(sampan run --rm sampan/host nothere 2>/dev/null; echo $?)"
say limits "$(sampan run --rm -m 64m --pids-limit 30 --cpus 0.5 sampan/host \
    sh -c 'cd /sys/fs/cgroup; cat memory.max pids.max cpu.max')"
say cgroup "$(sampan run --rm sampan/host cat /proc/self/cgroup)"
say seccomp "$(sampan run --rm sampan/host grep Seccomp: /proc/self/status)"
say device "$(sampan run --rm --cap-add MKNOD sampan/host \
    sh -c 'busybox mknod /x b 254 0; busybox dd if=/x of=/dev/null count=1 2>&1 | grep -o permitted')"
sampan run -d --name web -p 8080:80 sampan/host \
    sh -c 'while true; do echo served | busybox nc -l -p 80; done' >/dev/null
say published "$(for i in 1 2 3 4 5 6 7 8 9; do busybox nc 127.0.0.1 8080 </dev/null 2>/dev/null && break
    busybox sleep 1; done)"
sampan pause web >/dev/null
say paused "$(sampan ps --format '{{.Status}}' | grep -o Paused)"
sampan unpause web >/dev/null
say exec "$(sampan exec web id -u)"
sampan rm -f web >/dev/null
say oom "$(sampan run --rm -m 16m sampan/host busybox dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>/dev/null
    echo $?)"
say left "$(ls /sys/fs/cgroup/sampan | grep -c -x '[0-9a-f]*')"
"""

SEEN = {
    "hello": "hello",
    "failed": "7",
    "missing": "127",
    "limits": "67108864 30 50000 100000",
    "cgroup": "0::/",
    "seccomp": "Seccomp: 2",
    "device": "permitted",
    "published": "served",
    "paused": "Paused",
    "exec": "0",
    "oom": "137",
    "left": "0",
}


def test_sampan_run_works_on_debians_kernel_with_pure_cgroup_v2(tmp_path: Path) -> None:
    if os.uname().machine != "x86_64":
        leave_out("the small machine is x86-64's")
    _, text = small_machine.run(str(tmp_path), SCRIPT, PATIENCE_S)
    print(text)
    rows = (line.partition(": ") for line in text.splitlines())
    assert {name: value for name, _, value in rows if name in SEEN} == SEEN
