"""Layers unpacked in processes of their own: the same outcome as in this one, and every way to fail."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.contract import layers
from tests.peers.waiting import eventually

from sampan import errors
from sampan.containerd.diff.unpack import unpack
from sampan.containerd.diff.unpackers import WORTH, Unpackers
from sampan.linux import abi, mount

pytestmark = pytest.mark.root

TAR = layers.layer(
    layers.directory("d"),
    layers.file("d/one", b"1" * 5000),
    layers.file("implied/two", b"2"),
    layers.hardlink("link", "below/target"),
    layers.file(b"odd-\xff".decode(errors="surrogateescape"), b"3"),
    layers.file(".wh.gone"),
)


@pytest.fixture
def unpackers():
    unpackers = Unpackers()
    unpackers.begin()
    yield unpackers
    unpackers.rest()


def into(path: Path, name: str) -> tuple[str, str]:
    (path / name / "fs").mkdir(parents=True)
    return str(path / name / "fs"), str(path / name)


def children(pid: int) -> list[int]:
    """Of those that have not ended."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        found = file.read().split()
    return [int(one) for one in found if Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[0] != "Z"]


def test_the_outcome_is_that_of_unpacking_here(unpackers, tmp_path):
    there = unpackers.unpack(io.BytesIO(TAR), WORTH, *into(tmp_path, "there"), stacks=True, userxattr=False)
    here = unpack(io.BytesIO(TAR), *into(tmp_path, "here"), stacks=True)
    assert there == here
    assert there.applied.links == [(b"link", b"below/target")] and there.applied.implied == [b"implied"]
    # Whiteouts and directories that no member names have the time at which they were made.
    timeless = ["(", "-type", "d", "-o", "-type", "c", ")", "-printf", "%P %y %m\\n"]
    look = ["find", ".", *timeless, "-o", "-printf", "%P %y %m %U %G %n %s %T@ %l\\n"]
    seen = [subprocess.run(look, cwd=tmp_path / one / "fs", capture_output=True).stdout for one in ("here", "there")]
    assert sorted(seen[0].splitlines()) == sorted(seen[1].splitlines()) != []


def test_several_threads_unpack_at_the_same_time(unpackers, tmp_path):
    """All are in the middle at once: each source gives its second half only when every child has begun."""
    together = threading.Barrier(4, timeout=20)
    found = {}

    class Halves(io.BytesIO):
        def read(self, size=-1, /):
            if self.tell() == 1024:
                together.wait()
            return super().read(1024)

    def work(name: str) -> None:
        found[name] = unpackers.unpack(Halves(TAR), WORTH, *into(tmp_path, name), stacks=True, userxattr=False)

    threads = [threading.Thread(target=work, args=(f"t{i}",)) for i in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len({one.diff_id for one in found.values()}) == 1 and len(found) == 4


def test_bytes_that_are_no_layer_are_refused_in_the_same_words(unpackers, tmp_path):
    garbage = b"no tar" * 1000
    told = []
    for name, how in (("there", lambda *at: unpackers.unpack(io.BytesIO(garbage), WORTH, *at, stacks=True,
                                                             userxattr=False)),
                      ("here", lambda *at: unpack(io.BytesIO(garbage), *at, stacks=True))):  # fmt: skip
        with pytest.raises(errors.InvalidArgument) as refused:
            how(*into(tmp_path, name))
        told.append(str(refused.value))
    assert told[0] == told[1]


def test_a_full_disk_is_the_error_that_it_is(unpackers, tmp_path):
    mount.mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=1m")
    try:
        tar = layers.layer(layers.file("large", os.urandom(3 << 20)))
        with pytest.raises(OSError, match="No space left on device"):
            unpackers.unpack(io.BytesIO(tar), WORTH, *into(tmp_path, "x"), stacks=True, userxattr=False)
    finally:
        mount.umount2(str(tmp_path), abi.MNT_DETACH)


def test_a_source_that_fails_leaves_no_child(unpackers, tmp_path):
    class Failing(io.BytesIO):
        def read(self, size=-1, /):
            raise ConnectionError("the network")

    with pytest.raises(ConnectionError):
        unpackers.unpack(Failing(), WORTH, *into(tmp_path, "x"), stacks=True, userxattr=False)
    process = unpackers._process
    assert process is not None
    eventually(lambda: children(process.pid) == [], what="its child ends")


def test_a_child_that_dies_is_told_and_the_next_layer_is_unpacked(unpackers, tmp_path):
    process = unpackers._process
    assert process is not None

    class Killing(io.BytesIO):
        def read(self, size=-1, /):
            if not self.tell():
                os.kill(eventually(lambda: children(process.pid))[0], signal.SIGKILL)
            return super().read(size)

    with pytest.raises(errors.Unavailable, match="died"):
        unpackers.unpack(Killing(TAR), WORTH, *into(tmp_path, "x"), stacks=True, userxattr=False)
    unpackers.unpack(io.BytesIO(TAR), WORTH, *into(tmp_path, "y"), stacks=True, userxattr=False)
    assert (tmp_path / "y/fs/d/one").read_bytes() == b"1" * 5000


def test_without_a_process_the_layer_is_unpacked_here(tmp_path):
    unpackers = Unpackers()
    done = unpackers.unpack(io.BytesIO(TAR), WORTH, *into(tmp_path, "x"), stacks=True, userxattr=False)
    assert done.applied.inodes == 5 and (tmp_path / "x/fs/implied/two").read_bytes() == b"2"


def test_the_process_ends_when_no_layer_is_on_its_way(unpackers, tmp_path):
    unpackers.unpack(io.BytesIO(TAR), WORTH, *into(tmp_path, "x"), stacks=True, userxattr=False)
    process = unpackers._process
    assert process is not None
    unpackers.rest()
    assert process.returncode == 0


def test_one_that_was_not_needed_is_not_waited_for_while_it_starts(unpackers):
    process = unpackers._process
    assert process is not None
    unpackers.rest()
    assert process.returncode == -signal.SIGKILL


def test_process_and_children_end_with_a_core_that_is_killed(tmp_path):
    """Nobody writes into a directory that the next start throws away."""
    program = """
import sys, time
from sampan.containerd.diff.unpackers import WORTH, Unpackers
class Slow:
    def read(self, size):
        print(unpackers._process.pid, flush=True)
        sys.stdin.read()
unpackers = Unpackers()
unpackers.begin()
unpackers.unpack(Slow(), WORTH, sys.argv[1], sys.argv[2], stacks=True, userxattr=False)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    core = subprocess.Popen([sys.executable, "-c", program, *into(tmp_path, "x")], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, env=environment)  # fmt: skip
    with core:
        assert core.stdout is not None
        server = int(core.stdout.readline())
        [child] = eventually(lambda: children(server))
        core.kill()
    eventually(lambda: not os.path.exists(f"/proc/{server}") and not os.path.exists(f"/proc/{child}"))
