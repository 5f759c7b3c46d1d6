"""The janitor: what it is given is closed, elsewhere and soon, and it ends with its keeper."""

import os
import subprocess
import sys
from pathlib import Path

from tests.contract.keeper_bench import alive
from tests.peers.waiting import eventually

SRC = str(Path(__file__).parents[2] / "src")


def in_a_process(program: str) -> subprocess.Popen:
    """A janitor forks, so it gets a process with one thread."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {SRC!r})\n{program}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


PROGRAM = """
import os
from sampan.keeper.janitor import Janitor
inherited, _ = os.pipe()
janitor = Janitor()
reader, writer = os.pipe()
print(janitor.pid, flush=True)
input()
janitor.close_soon(writer)
print(os.read(reader, 1) == b"", flush=True)
input()
"""


def test_the_last_reference_is_dropped_by_the_janitor():
    process = in_a_process(PROGRAM)
    pid = int(process.stdout.readline())
    eventually(lambda: len(os.listdir(f"/proc/{pid}/fd")) == 2, what="only stderr and its socket are left to it")
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "True\n"
    process.kill()
    process.wait()
    eventually(lambda: not alive(pid))
