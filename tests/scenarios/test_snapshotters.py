"""An unmodified ctr with each snapshotter: forty layers look the same whatever holds them, and as in containerd.

The reference is containerd's overlayfs. ctr performs the mounts itself, by mount(2), as every client of the API does.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator

import pytest
from tests.peers.containers import Containerd, Core, SampanContainerd
from tests.peers.machine import Machine
from tests.peers.shelf import Shelf

from sampan.containerd.snapshots import erofs

pytestmark = pytest.mark.needs("ctr", "containerd", "runc")

# Sizes and link counts of directories are a file system's own.
LOOK = r"find . \( -type d -printf '%P d %m %U %G\n' \) -o -printf '%P %y %m %U %G %n %s %T@ %l\n' | sort"
TOP = "$(ctr snapshots --snapshotter {sn} ls | awk 'NR>1 {{name[$1]; parent[$2]}} END {{for (n in name) " \
    "if (!(n in parent) && n ~ /^sha256/) print n}}')"  # fmt: skip
SCRIPT = f"""
    ctr images pull --snapshotter {{sn}} --plain-http {{layered}} >/dev/null 2>&1
    ctr snapshots --snapshotter {{sn}} ls | wc -l
    mkdir -p mnt; ctr images mount --snapshotter {{sn}} {{layered}} $PWD/mnt >/dev/null && cd mnt && {LOOK}
    cd mnt && find . -type f -exec md5sum {{{{}}}} + | sort
    ctr images unmount --rm --snapshotter {{sn}} $PWD/mnt >/dev/null
    ctr run --rm --snapshotter {{sn}} {{layered}} t1 sh -c 'cd /; find . -xdev -type f -exec md5sum {{{{}}}} + | sort'
    ctr run --rm --snapshotter {{sn}} {{layered}} t1 sh -c 'echo x >/bin/new; rm -r /etc; mkdir /etc; ls -a /etc /bin'
    ctr run --rm --runc-binary runc --snapshotter {{sn}} {{layered}} t1 echo by runc
    ctr images rm --sync {{layered}}; ctr images pull --snapshotter {{sn}} --plain-http {{configured}} >/dev/null 2>&1
    ctr snapshots --snapshotter {{sn}} prepare p1 {TOP} >/dev/null
    mkdir -p m; $(ctr snapshots --snapshotter {{sn}} mounts m p1)
    cd m && echo new >file && ln file other && rm -rf etc && mkdir etc && touch -d @1000000000.5 etc/x && chmod 700 bin
    umount m
    ctr snapshots --snapshotter {{sn}} diff p1 | tar tz
    ctr snapshots --snapshotter {{sn}} commit c1 p1
    ctr snapshots --snapshotter {{sn}} prepare p2 c1 >/dev/null; $(ctr snapshots --snapshotter {{sn}} mounts m p2)
    cd m && find . -xdev -type f -exec md5sum {{{{}}}} + | sort; ls -a etc; stat -c %a bin
    umount m; ctr snapshots --snapshotter {{sn}} diff p2 | tar tz
    ctr snapshots --snapshotter {{sn}} rm p2; ctr snapshots --snapshotter {{sn}} rm c1
    ctr snapshots --snapshotter {{sn}} usage | awk '$2 == 0 {{{{print "empty", $1}}}}'
    ctr images rm --sync {{configured}}; ctr snapshots --snapshotter {{sn}} ls
    """


@pytest.fixture(scope="module")
def cores(machine: Machine, scratch: str) -> Iterator[tuple[Core, Core]]:
    both = (Containerd(machine, f"{scratch}/snap-r"), SampanContainerd(machine, f"{scratch}/snap-s"))
    for core in both:
        core.start()
    yield both
    for core in both:
        core.stop()


@pytest.fixture(scope="module")
def reference(cores: tuple[Core, Core], shelf: Shelf) -> list[str]:
    return transcript(cores[0], "overlayfs", shelf)


def transcript(core: Core, snapshotter: str, shelf: Shelf) -> list[str]:
    images = {name: f"{shelf.reference(name)}:latest" for name in ("layered", "configured")}
    script = SCRIPT.format(sn=snapshotter, **images)
    seen: list[str] = []
    for line in filter(None, (line.strip() for line in script.splitlines())):
        done = core.shell(f"sn-{snapshotter}", line)
        seen.append(f"$ {line.replace(snapshotter, 'SNAPSHOTTER')} → {done.status}")
        seen += done.out.splitlines() + core.plain(f"sn-{snapshotter}", done.err)
    return seen


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native", "erofs"])
def test_what_ctr_does_with_snapshots_comes_out_the_same(
    snapshotter: str, cores: tuple[Core, Core], reference: list[str], shelf: Shelf
) -> None:
    if snapshotter == "erofs" and (reason := erofs.probe(cores[1].scratch)):
        done = cores[1].shell("missing", "ctr snapshots --snapshotter erofs ls")
        assert "snapshotter not loaded: erofs" in done.err, reason
        return
    seen = transcript(cores[1], snapshotter, shelf)
    difference = list(difflib.unified_diff(reference, seen, "containerd", "sampan", lineterm="", n=2))
    assert not difference, "\n".join(difference)
    assert [line for line in seen if "→" in line and not line.endswith("→ 0")] == []


def test_a_layer_that_a_client_applies_to_erofs_is_an_index_and_not_unpacked(
    cores: tuple[Core, Core], shelf: Shelf
) -> None:
    ours = cores[1]
    if erofs.probe(ours.scratch):
        pytest.skip("this kernel mounts no erofs from a file")
    image = f"{shelf.reference('busybox')}:latest"
    assert ours.shell("index", f"ctr images pull --snapshotter erofs --plain-http {image}").status == 0
    files = ours.shell("index", f"cd {ours.root}/snapshots/erofs && find . -type f").out.split()
    assert [path.rpartition("/")[2] for path in files] == ["layer.erofs"]
    ours.shell("index", f"ctr images rm --sync {image}")
