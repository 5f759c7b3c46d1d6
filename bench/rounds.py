"""Interleaved runs by the stop-watch (`clock`), and their table."""

from __future__ import annotations

import json
import os
import statistics
import subprocess

CLOCK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clock.py")

Runs = dict[str, list[dict[str, float]]]


def clock(argv: list[str], rounds: int, commands: dict[str, list[str]], counters: dict[str, str]) -> Runs:
    order = json.dumps({"rounds": rounds, "commands": commands, "counters": counters})
    done = subprocess.run(argv, input=order, stdout=subprocess.PIPE, text=True, check=True)
    runs: Runs = json.loads(done.stdout)
    return runs


def report(title: str, runs: Runs) -> None:
    """Prints medians and minima, and each one's ratio to the first row."""
    print(f"\n{title}")
    heads = ("median", "min", "ratio", "of min", "CPU ms", "ratio", "failed")
    print("  {:12} {:>9} {:>9} {:>7} {:>7} {:>8} {:>7} {}".format("ms", *heads))
    first: tuple[float, float, float] | None = None
    for name, each in runs.items():
        wall = [run["wall"] * 1000 for run in each]
        cpu = statistics.median((run["counter"] or run["cpu"]) * 1000 for run in each)
        middle, least = statistics.median(wall), min(wall)
        first = first or (middle, least, cpu)
        failed = sum(run["status"] != 0 for run in each)
        print(
            f"  {name:12} {middle:9.1f} {least:9.1f} {middle / first[0]:7.2f} {least / first[1]:7.2f}"
            f" {cpu:8.1f} {cpu / first[2]:7.2f} {failed or '-'}"
        )
