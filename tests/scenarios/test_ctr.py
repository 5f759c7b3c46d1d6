"""An unmodified ctr must see in sampan-containerd what it sees in containerd: the same script is run on both.

Each script is a list of shell lines; after each, exit status, stdout and stderr are compared, times and numbers of
this run left out. What is known to differ is in docs/compat/containerd.md and not in these scripts.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator

import pytest
from tests.peers.containers import Containerd, Core, SampanContainerd
from tests.peers.machine import Machine
from tests.peers.shelf import Shelf
from tests.peers.waiting import eventually

pytestmark = pytest.mark.needs("ctr", "containerd", "runc")

SCRIPTS: dict[str, str] = {
    "namespaces": """
        ctr ns create {ns}x a=b
        ctr ns create {ns}x
        ctr ns label {ns}x c=d a=
        ctr ns ls | grep {ns}x
        ctr ns create Bad..name
        ctr -n {ns}x images ls
        ctr -n {ns}x leases create --id l
        ctr ns rm {ns}x
        ctr ns rm {ns}x
        ctr -n 'x y' images ls
        ctr -n '' images ls
        """,
    "images": """
        ctr images pull --plain-http {busybox} | grep -v -e elapsed -e done
        ctr images ls
        ctr images check
        ctr images tag {busybox} bb:1
        ctr images tag {busybox} bb:1
        ctr images tag --force {busybox} bb:1
        ctr images tag nothere bb:2
        ctr images ls -q
        ctr images ls -q name==bb:1
        ctr images ls -q 'name~=busy.*'
        ctr images ls 'bad//'
        ctr images ls 'name=x'
        ctr images label bb:1 x=y
        ctr images ls -q 'labels."x"==y'
        ctr images label --replace-all bb:1 q=r
        ctr images ls name==bb:1
        ctr images rm nothere
        ctr images rm bb:1
        ctr images mount {busybox} mnt0
        mkdir -p mnt; ctr images mount {busybox} mnt; ls mnt; ctr images unmount --rm mnt
        ctr images unpack {busybox}
        ctr images push --plain-http {host}/pushed-{kind}:1 {busybox} >/dev/null
        ctr images pull --plain-http {host}/pushed-{kind}:1 >/dev/null; ctr images ls -q | wc -l
        ctr images pull --plain-http {host}/nothere:1
        """,
    "import_export": """
        ctr images pull --plain-http {layered} >/dev/null 2>&1
        ctr images export one.tar {layered}; tar tf one.tar | sort
        ctr images export two.tar nothere
        ctr -n {ns}x images import one.tar
        ctr -n {ns}x images ls
        ctr -n {ns}x images check | grep -v REF
        ctr -n {ns}x content ls -q
        ctr -n {ns}x snapshots ls
        ctr -n {ns}x images rm --sync {layered}
        ctr -n {ns}x content ls -q
        ctr -n {ns}x snapshots ls
        ctr ns rm {ns}x
        ctr images import --base-name other --digests one.tar
        """,
    "content": """
        ctr content fetch --plain-http {busybox} >/dev/null 2>&1
        ctr content ls -q
        ctr content get sha256:4d67b4575640f94e2a51e172b9f37f098baae046d01371263a605464e5d4f904
        ctr content get nodigest
        echo hello | ctr content ingest --expected-digest {hello} r1; ctr content label {hello} containerd.io/gc.root=x
        echo hello | ctr content ingest --expected-digest {hello} r1
        echo hello | ctr content ingest r9
        echo hallo | ctr content ingest --expected-size 3 r3
        ctr content active | sed 1d
        ctr content get {hello}
        ctr content label {hello} k=v | tr , '\\n'
        ctr content ls -q 'labels.k==v'
        ctr -n {ns}x content get {hello}
        ctr -n {ns}x content ls -q
        ctr content rm {hello}
        ctr content rm {hello}
        """,
    "snapshots": """
        ctr images pull --plain-http {busybox} >/dev/null 2>&1
        ctr snapshots prepare p1 $(ctr snapshots ls | awk '/Committed/ {{print $1}}')
        ctr snapshots prepare p1
        ctr snapshots prepare p3 nothere
        ctr snapshots mounts /mnt p1
        ctr snapshots mounts /mnt nothere
        ctr snapshots view v1 $(ctr snapshots ls | awk '/Committed/ {{print $1}}')
        ctr snapshots ls
        ctr snapshots tree
        ctr snapshots info p1 | grep -v ated
        ctr snapshots info nothere
        ctr snapshots label p1 k=v >/dev/null; ctr snapshots info p1 | grep '"k"'
        mkdir -p m; $(ctr snapshots mounts m p1); echo new > m/newfile; rm -f m/etc/group; ln m/newfile m/link; umount m
        ctr snapshots diff --media-type application/vnd.oci.image.layer.v1.tar p1 | tar t
        ctr snapshots diff p1 | tar tz
        ctr snapshots diff --media-type application/x-nothing p1
        ctr snapshots commit c1 p1
        ctr snapshots commit c2 nothere
        ctr snapshots prepare p4 c1; ctr snapshots commit c1 p4
        ctr snapshots ls | grep -v v1
        ctr snapshots rm $(ctr snapshots ls | awk '/Committed/ && /sha256/ {{print $1; exit}}')
        ctr snapshots rm nothere
        ctr snapshots rm p4; ctr snapshots rm c1
        ctr snapshots --snapshotter nosuch ls
        ctr snapshots --snapshotter native prepare n1; ctr snapshots --snapshotter native ls
        ctr snapshots --snapshotter native rm n1
        """,
    "leases": """
        ctr leases create --id l1 --expires 1h a=b
        ctr leases create --id l1
        ctr leases ls -q
        ctr leases ls -q 'id==l1'
        ctr leases ls -q 'id==l2'
        ctr leases rm l1
        ctr leases rm l1
        ctr leases create --id l2; ctr leases rm --sync l2
        """,
    "containers": """
        ctr images pull --plain-http {busybox} >/dev/null 2>&1
        ctr containers create {busybox} c1
        ctr containers create {busybox} c1
        ctr containers create {host}/nothere:1 c2
        ctr containers create --label a=b {busybox} c3
        ctr containers ls
        ctr containers ls -q 'labels.a==b'
        ctr containers ls -q 'id==c1'
        ctr containers info c1 | grep -v ated
        ctr containers info nothere
        ctr containers label c1 x=y | tr , '\\n'
        ctr containers label c1
        ctr containers label nothere x=y | tr , '\\n'
        ctr containers rm nothere
        ctr containers rm c1 c3
        ctr containers ls
        ctr snapshots ls
        ctr containers create --snapshotter native {busybox} c4; ctr containers ls; ctr containers rm c4
        """,
    "run": """
        ctr images pull --plain-http {busybox} >/dev/null 2>&1
        ctr run --rm {busybox} t1 echo hello
        ctr run --rm {busybox} t1 sh -c 'echo out; echo err >&2; exit 7'
        ctr run --rm {busybox} t1 nosuchcommand
        (echo input data; sleep 1) | ctr run --rm {busybox} t1 cat
        ctr run --rm --env A=B --cwd /tmp {busybox} t1 sh -c 'echo $A; pwd'
        ctr run --rm --read-only {busybox} t1 touch /x
        ctr run --rm --mount type=bind,src=$PWD,dst=/here,options=rbind:ro {busybox} t1 touch /here/x
        ctr run --rm --null-io {busybox} t1 echo hello
        ctr run --rm --net-host {busybox} t1 true
        ctr run --rm --user 1000:1000 {busybox} t1 id
        ctr run --rm --memory-limit 33554432 {busybox} t1 true
        ctr run --rm --runc-binary runc {busybox} t1 echo by runc
        ctr run --rm --runtime io.containerd.nosuch.v2 {busybox} t1 true
        ctr run --rm {busybox} t1 dd if=/dev/zero bs=1M count=5 2>/dev/null | md5sum
        rm -f out.log; ctr run -d --log-uri file://$PWD/out.log {busybox} t2 echo logged
        until ctr tasks ls | grep -q STOPPED; do sleep 0.1; done; cat out.log; ctr tasks rm t2; ctr containers rm t2
        script -qec "ctr run --rm -t {busybox} t3 sh -c 'tty; echo done'" /dev/null </dev/null | tr -d '\\000'
        ctr containers ls; ctr tasks ls; ctr snapshots ls; ls /run/containerd/fifo
        """,
    "tasks": """
        ctr images pull --plain-http {busybox} >/dev/null 2>&1
        ctr run -d {busybox} d1 sh -c 'trap "exit 3" TERM; while true; do sleep 0.1; done'
        ctr run -d {busybox} d1 true
        ctr tasks ls
        ctr tasks exec --exec-id e1 d1 echo inside
        ctr tasks exec --exec-id e1 d1 sh -c 'exit 5'
        ctr tasks exec --exec-id e1 d1 nosuchcommand
        ctr tasks exec --user 1000 --cwd /tmp --exec-id e1 d1 sh -c 'id -u; pwd'
        (echo abc; sleep 1) | ctr tasks exec --exec-id e1 d1 cat
        ctr tasks ps d1 | wc -l
        ctr tasks pause d1; ctr tasks ls; ctr tasks exec --exec-id e2 d1 true; ctr tasks resume d1; ctr tasks ls
        ctr tasks metrics d1 | awk '{{print $1}}'
        ctr containers rm d1
        ctr tasks rm d1
        ctr tasks kill -s TERM d1; until ctr tasks ls | grep STOPPED; do sleep 0.1; done
        ctr tasks kill d1
        ctr tasks rm d1
        ctr tasks rm d1
        ctr tasks kill nothere
        ctr tasks exec --exec-id x nothere true
        ctr tasks ls
        ctr containers rm d1; ctr containers ls
        ctr containers create {busybox} c9 echo started; ctr tasks start c9; ctr tasks start c9; ctr containers rm c9
        ctr run -d {busybox} d2 sleep 100; ctr tasks rm -f d2; ctr containers rm d2
        """,
    "events": """
        timeout 20 ctr events >events.txt 2>&1 & sleep 1
        ctr images pull --plain-http {busybox} >/dev/null 2>&1
        ctr run -d {busybox} v1 sleep 100
        ctr tasks exec --exec-id x1 v1 true
        ctr tasks pause v1; ctr tasks resume v1
        ctr tasks kill -s KILL v1; until ctr tasks ls | grep -q STOPPED; do sleep 0.1; done
        ctr tasks rm v1; ctr containers rm v1
        ctr images label {busybox} a=b
        ctr images rm --sync {busybox}
        ctr ns create {ns}x a=b; ctr ns rm {ns}x
        until grep -q namespaces/delete events.txt; do sleep 0.1; done
        cut -d' ' -f5- events.txt | sed -E 's/extract-[^ ]*//; s/"bundle":"[^"]*"//'
        """,
}


@pytest.fixture(scope="module")
def cores(machine: Machine, scratch: str) -> Iterator[tuple[Core, Core]]:
    """The reference and ours, running."""
    both = (Containerd(machine, f"{scratch}/ctr-r"), SampanContainerd(machine, f"{scratch}/ctr-s"))
    for core in both:
        core.start()
    yield both
    for core in both:
        core.stop()


@pytest.fixture(scope="module")
def ours(cores: tuple[Core, Core]) -> Core:
    return cores[1]


def transcript(core: Core, name: str, shelf: Shelf) -> list[str]:
    namespace = f"{name.replace('_', '-')}-{core.kind}"
    script = SCRIPTS[name].format(
        ns=namespace,
        kind=core.kind,
        host=shelf.reference("busybox").partition("/")[0],
        busybox=f"{shelf.reference('busybox')}:latest",
        layered=f"{shelf.reference('layered')}:latest",
        hello="sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
    )
    seen: list[str] = []
    for line in filter(None, (line.strip() for line in script.splitlines())):
        done = core.shell(namespace, line)
        text = line.replace(namespace, "NAMESPACE").replace(f"-{core.kind}:", "-KIND:")
        seen.append(f"$ {text} → {done.status}")
        # ctr's own races: lookups it cancels itself, and a terminal whose process has ended before it is resized.
        races = ("context canceled", "resize pty")
        out, err = (
            [found for found in core.plain(namespace, text) if not any(word in found for word in races)]
            for text in (done.out.replace(f"-{core.kind}:", "-KIND:"), done.err)
        )
        # The order of a listing that neither side sorts is no promise.
        seen += sorted(out) + err
    return seen


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_ctr_sees_the_same_in_both(name: str, cores: tuple[Core, Core], shelf: Shelf) -> None:
    reference, seen = (transcript(core, name, shelf) for core in cores)
    difference = list(difflib.unified_diff(reference, seen, "containerd", "sampan", lineterm="", n=2))
    assert not difference, "\n".join(difference)
    assert any(line.endswith("→ 0") for line in seen), "nothing in this script works at all"


def test_a_running_task_survives_a_crash_of_the_core_and_takes_an_exec_after_it(ours: Core, shelf: Shelf) -> None:
    image = f"{shelf.reference('busybox')}:latest"
    assert ours.shell("crash", f"ctr images pull --plain-http {image}").status == 0
    assert ours.shell("crash", f"ctr run -d {image} c1 sleep 1000").status == 0
    ours.kill()
    ours.start()
    assert re.search(r"c1 +\d+ +RUNNING", ours.shell("crash", "ctr tasks ls").out)
    assert ours.shell("crash", "ctr tasks exec --exec-id e c1 echo again").out == "again\n"
    assert ours.shell("crash", "ctr tasks kill -s KILL c1").status == 0
    eventually(lambda: "STOPPED" in ours.shell("crash", "ctr tasks ls").out, what="the task is stopped")
    done = ours.shell("crash", "ctr tasks rm c1")
    assert "exit code 137" in done.err
    assert ours.shell("crash", "ctr containers rm c1").status == 0


def test_output_of_a_detached_task_waits_for_the_client_that_attaches(ours: Core, shelf: Shelf) -> None:
    image = f"{shelf.reference('busybox')}:latest"
    assert ours.shell("attach", f"ctr images pull --plain-http {image}").status == 0
    script = "until [ -e /one ]; do sleep 0.1; done; echo kept; until [ -e /two ]; do sleep 0.1; done; echo end"
    assert ours.shell("attach", f"ctr run -d {image} a1 sh -c '{script}'").status == 0
    assert ours.shell("attach", "ctr tasks exec --exec-id g a1 touch /one").status == 0
    attached = ours.shell(
        "attach",
        "(sleep 1; ctr tasks exec --exec-id g a1 touch /two) & timeout -s KILL 20 ctr tasks attach a1 </dev/null",
    )
    assert attached.out == "kept\nend\n"
    ours.shell("attach", "ctr tasks rm a1; ctr containers rm a1")


def test_namespaces_do_not_see_each_others_objects(ours: Core, shelf: Shelf) -> None:
    image = f"{shelf.reference('busybox')}:latest"
    assert ours.shell("here", f"ctr images pull --plain-http {image}").status == 0
    for listing in ("images ls -q", "content ls -q", "snapshots ls", "containers ls -q", "leases ls -q"):
        assert len(ours.shell("there", f"ctr {listing}").out.splitlines()) <= 1
    ours.shell("here", f"ctr images rm --sync {image}")


def test_disk_is_given_back_when_the_last_image_goes(ours: Core, shelf: Shelf) -> None:
    def files() -> int:
        return sum(len(names) for top in ("blobs", "ingest") for _, _, names in os.walk(f"{ours.root}/content/{top}"))

    image = f"{shelf.reference('big')}:latest"
    before = files()
    assert ours.shell("disk", f"ctr images pull --plain-http {image}").status == 0
    assert files() > before
    assert ours.shell("disk", f"ctr images rm --sync {image}").status == 0
    assert ours.shell("disk", "ctr content ls -q; ctr snapshots ls | sed 1d").out == ""
    assert files() <= before
