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
from tests.conftest import leave_out
from tests.peers.containers import Containerd, Core, SampanContainerd, newer_tools
from tests.peers.ctr_scripts import ONLY_NEWER, SCRIPTS, WORDS
from tests.peers.machine import Machine
from tests.peers.shelf import Shelf
from tests.peers.waiting import eventually

pytestmark = pytest.mark.needs("ctr", "containerd", "runc")


@pytest.fixture(scope="module", params=["1.6", "2.1"])
def version(request: pytest.FixtureRequest) -> str:
    """Of the ctr that is the client, and of the containerd that is the reference."""
    return str(request.param)


@pytest.fixture(scope="module")
def cores(version: str, machine: Machine, scratch: str) -> Iterator[tuple[Core, Core]]:
    """The reference and ours, running."""
    tools = newer_tools(scratch) if version == "2.1" else ""
    if version == "2.1" and not tools:
        leave_out("needs containerd 2.1 (scripts/peers)")
    places = f"{scratch}/r{version}", f"{scratch}/s{version}"
    both = (Containerd(machine, places[0], tools), SampanContainerd(machine, places[1], tools))
    for core in both:
        core.start()
    yield both
    for core in both:
        core.stop()


@pytest.fixture(scope="module")
def ours(cores: tuple[Core, Core]) -> Core:
    return cores[1]


def transcript(core: Core, version: str, name: str, shelf: Shelf, attempt: str = "") -> list[str]:
    namespace = f"{name.replace('_', '-')}{attempt}-{core.kind}"
    script = SCRIPTS[name].format(
        **WORDS[version],
        ns=namespace,
        kind=core.kind,
        host=shelf.reference("busybox").partition("/")[0],
        busybox=f"{shelf.reference('busybox')}:latest",
        layered=f"{shelf.reference('layered')}:latest",
        index=f"{shelf.reference('index')}:latest",
        foreign=f"{shelf.reference('foreign')}:latest",
        hello="sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
    )
    seen: list[str] = []
    for line in filter(None, (line.strip() for line in script.splitlines())):
        done = core.shell(namespace, line)
        text = line.replace(namespace, "NAMESPACE").replace(f"-{core.kind}:", "-KIND:")
        seen.append(f"$ {text} → {done.status}")
        # ctr's own races: lookups it cancels itself, and a terminal whose process has ended before it is resized; and
        # the events that ctr 1.6 does not know: its own containerd sends none.
        races = ("context canceled", "resize pty", "containerd.events.ContentCreate")
        out, err = (
            [found for found in core.plain(namespace, text) if not any(word in found for word in races)]
            for text in (done.out.replace(f"-{core.kind}:", "-KIND:"), done.err)
        )
        # The order of a listing that neither side sorts is no promise.
        seen += sorted(out) + err
    return seen


PAIRS = [(version, name) for version in ("1.6", "2.1") for name in sorted(SCRIPTS)
         if version != "1.6" or name not in ONLY_NEWER]  # fmt: skip


@pytest.mark.parametrize(("version", "name"), PAIRS, indirect=["version"])
def test_ctr_sees_the_same_in_both(name: str, version: str, cores: tuple[Core, Core], shelf: Shelf) -> None:
    """A difference must come each of three times: collections, events and ctr's own walks race with themselves."""
    for attempt in ("", "-again", "-thrice"):
        reference, seen = (transcript(core, version, name, shelf, attempt) for core in cores)
        difference = list(difflib.unified_diff(reference, seen, "containerd", "sampan", lineterm="", n=2))
        if not difference:
            break
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
