"""The files that Docker puts into every container, as its networks ask for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.api.docker.containers import HostConfig
from sampan.engine.containers import files
from sampan.engine.networks.records import Plan

BRIDGED = Plan(container_id="c", kind="bridge", sandbox_id="s", hosts=[("10.0.0.2", ("box",))])
JOINED = Plan(
    container_id="c",
    kind="bridge",
    sandbox_id="s",
    hosts=[("10.0.0.2", ("box",)), ("10.1.0.2", ("box",))],
    user_defined=True,
)
CONFIG = HostConfig(dns=["9.9.9.9"])


@pytest.fixture
def written(tmp_path: Path) -> Path:
    found = files.write(str(tmp_path), "box", BRIDGED, CONFIG)
    assert found["/etc/hosts"] == f"{tmp_path}/hosts"
    return tmp_path


def test_a_start_writes_all_three(written: Path) -> None:
    assert (written / "hostname").read_text() == "box\n"
    assert (written / "hosts").read_text().endswith("10.0.0.2\tbox\n")
    assert "nameserver 9.9.9.9\n" in (written / "resolv.conf").read_text()


def test_they_follow_a_change_of_the_networks_in_place(written: Path) -> None:
    inode = (written / "resolv.conf").stat().st_ino
    files.follow(str(written), BRIDGED, JOINED, CONFIG)
    assert (written / "hosts").read_text().endswith("10.0.0.2\tbox\n10.1.0.2\tbox\n")
    assert "nameserver 127.0.0.11\n" in (written / "resolv.conf").read_text()
    assert (written / "resolv.conf").stat().st_ino == inode
    files.follow(str(written), JOINED, BRIDGED, CONFIG)
    assert "nameserver 9.9.9.9\n" in (written / "resolv.conf").read_text()


def test_what_the_container_wrote_itself_stays(written: Path) -> None:
    (written / "resolv.conf").write_text("nameserver 1.1.1.1\n")
    files.follow(str(written), BRIDGED, JOINED, CONFIG)
    assert (written / "resolv.conf").read_text() == "nameserver 1.1.1.1\n"
    assert (written / "hosts").read_text().endswith("10.1.0.2\tbox\n")
