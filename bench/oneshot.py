"""The low-level runtimes as commands: `run` of a static true, `exec` of one in a container that runs, peak memory."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
from typing import Any

from tests.peers import images
from tests.peers.machine import CGROUPS, Machine

from bench.rounds import CLOCK, clock, report

PR_SET_CHILD_SUBREAPER = 36
WEIGHED = 5
"""Runs of each command whose memory is measured."""


def compare(scratch: str, spec: dict[str, Any], rounds: int) -> None:
    """Prints the figures of sampan-runc, runc and crun for bundles of busybox with `spec`.

    They run on a machine without the hybrid cgroup mount, which crun refuses.
    """
    own = os.path.join(os.path.dirname(sys.executable), "sampan-runc")
    binaries = {name: path for name, path in (("runc", "runc"), ("crun", "crun"), ("sampan-runc", own))
                if shutil.which(path)}  # fmt: skip
    short, long = bundle(f"{scratch}/short", spec, "/bin/true"), bundle(f"{scratch}/long", spec, "/bin/sleep", "1000")
    machine = Machine(scratch, "oneshot")
    try:
        machine.run(["umount", f"{CGROUPS}/unified"])
        roots = {name: [binary, "--root", f"{scratch}/{name}"] for name, binary in binaries.items()}
        runs = {name: [*root, "run", "--bundle", short, f"{name}-{{n}}"] for name, root in roots.items()}
        execs = {name: [*root, "exec", f"{name}-long", "/bin/true"] for name, root in roots.items()}
        argv = machine.entering([sys.executable, "-I", "-S", CLOCK])
        clock(argv, 1, runs, {})
        report("RUNTIME run of a static true, Docker's default spec", clock(argv, rounds, runs, {}))
        weigh("run", machine, runs)
        try:
            for name, root in roots.items():
                detached = [*root, "run", "--detach", "--bundle", long, f"{name}-long"]
                subprocess.run(machine.entering(detached), check=True, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL)  # fmt: skip
            clock(argv, 1, execs, {})
            report("RUNTIME exec of a static true in a running container", clock(argv, rounds, execs, {}))
            weigh("exec", machine, execs)
        finally:
            for name, root in roots.items():
                subprocess.run(machine.entering([*root, "delete", "--force", f"{name}-long"]), check=False)
    finally:
        machine.close()


def bundle(path: str, spec: dict[str, Any], *args: str) -> str:
    """A bundle directory with busybox as its rootfs."""
    os.makedirs(f"{path}/rootfs")
    tar = images.tar(images.busybox_entries())
    subprocess.run(["tar", "-xf", "-", "-C", f"{path}/rootfs"], input=tar, check=True)
    with open(f"{path}/config.json", "w") as file:
        json.dump({**spec, "process": {**spec["process"], "args": list(args)}}, file)
    return path


def weigh(verb: str, machine: Machine, commands: dict[str, list[str]]) -> None:
    """Prints the peak resident memory of each command's largest process."""
    print(f"\npeak memory of {verb}, the largest process (kB, resident)")
    first = 0.0
    for name, argv in commands.items():
        each = [peak(machine.entering(under_a_shell(argv, number))) for number in range(WEIGHED)]
        weight = statistics.median(each)
        first = first or weight
        print(f"  {name:12} {weight:8.0f} {weight / first:7.2f}")


def under_a_shell(argv: list[str], number: int) -> list[str]:
    """Starts the command as the orphan of a shell, whose pid is printed."""
    script = '"$@" </dev/null >/dev/null 2>&1 & echo $!'
    return ["sh", "-c", script, "sh", *(word.replace("{n}", f"weight-{number}") for word in argv)]


def peak(argv: list[str]) -> int:
    """kB of the process that `argv` starts and prints the pid of; it becomes our child.

    A process's peak begins with its parent's size when it executes its program, so the parent must be a small one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        pid = int(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout)
        _, status, usage = os.wait4(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, argv
        return usage.ru_maxrss
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
