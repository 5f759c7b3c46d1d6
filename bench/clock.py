"""The stop-watch: runs commands in turn, A B C A B C …, and tells what each run cost.

Reads from stdin one JSON document {"rounds": n, "commands": {name: [argv, …]}, "counters": {name: path}}: an argv may
hold "{n}", which becomes the number of the run; a counter is a file with one number in nanoseconds (cpuacct.usage)
that is read before and after. Writes one JSON document {name: [run, …]} with run = {"wall": s, "cpu": s of the command
and the children it waited for, "counter": s, "status": exit status}.

A process of its own, small and without imports, so that starting a command costs the same each time and everywhere.
"""

from __future__ import annotations

import json
import os
import sys
import time


def counter(path: str | None) -> float:
    """Seconds a counter file has counted; 0 without one."""
    if path is None:
        return 0.0
    with open(path) as file:
        return int(file.read()) / 1e9


def measure(argv: list[str], path: str | None) -> dict[str, float]:
    before = counter(path)
    began = time.perf_counter()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    ]
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - began
    return {
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "counter": counter(path) - before,
        "status": os.waitstatus_to_exitcode(status),
    }


def main() -> None:
    order = json.load(sys.stdin)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in order["commands"]}
    for number in range(order["rounds"]):
        for name, argv in order["commands"].items():
            words = [word.replace("{n}", str(number)) for word in argv]
            runs[name].append(measure(words, order["counters"].get(name)))
    json.dump(runs, sys.stdout)


if __name__ == "__main__":
    main()
