"""The command `python -m fuzz`: see the package."""

from __future__ import annotations

import argparse
import sys

from fuzz import running
from fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="feed mutations of real input to the parsers")
    parser.add_argument("targets", nargs="*", metavar="NAME", help="targets (default: all): " + ", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=2.0, help="how long to feed each target (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="another sequence of inputs")
    parser.add_argument("--only", type=int, help="the one input of this number")
    given = parser.parse_args()
    unknown = [name for name in given.targets if name not in TARGETS]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}")
    findings = 0
    for name in given.targets or TARGETS:
        try:
            if given.only is None:
                print(f"{name}: {running.run(name, seed=given.seed, seconds=given.seconds)} inputs", flush=True)
            else:
                running.run(name, seed=given.seed, first=given.only, count=1)
        except running.Finding as finding:
            findings += 1
            print(finding, file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
