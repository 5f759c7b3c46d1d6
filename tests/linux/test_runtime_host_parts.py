"""What a container gets of the host by the parent's hand: mounts with mapped ids, network devices."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.linux.runtimes import Runtime

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]

USERNS = {
    "uidMappings": [{"containerID": 0, "hostID": 200_000, "size": 65_536}],
    "gidMappings": [{"containerID": 0, "hostID": 300_000, "size": 65_536}],
}


@pytest.fixture
def ours(tmp_path: Path) -> Iterator[Runtime]:
    """Debian's runc 1.1.5 knows neither."""
    made = Runtime("sampan-runc", str(tmp_path))
    yield made
    made.close()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory whose file belongs to 1000:1001, with a mount in it whose file belongs to 5:6."""
    for parent in (tmp_path, *tmp_path.parents):
        if str(parent).startswith("/tmp/") and parent.stat().st_uid == os.getuid():
            parent.chmod(0o755)
    place = tmp_path / "shared"
    place.mkdir()
    (place / "file").write_text("")
    os.chown(place / "file", 1000, 1001)
    return place


def bound(source: Path, *options: str, **mappings: Any) -> dict[str, Any]:
    return {"destination": "/mnt", "type": "bind", "source": str(source), "options": list(options), **mappings}


def mapping(inside: int, outside: int, size: int = 1) -> list[dict[str, int]]:
    return [{"containerID": inside, "hostID": outside, "size": size}]


@pytest.mark.parametrize("options", [("bind",), ("bind", "idmap"), ("rbind", "ridmap")], ids=" ".join)
def test_a_mount_with_mappings_shows_other_owners(ours: Runtime, shared: Path, options: tuple[str, ...]) -> None:
    def mapped(spec: dict[str, Any]) -> None:
        spec["mounts"].append(
            bound(shared, *options, uidMappings=mapping(1000, 7), gidMappings=mapping(1001, 8))
        )  # fmt: skip

    assert ours.shell("stat -c %u:%g /mnt/file", mapped) == "7:8\n"
    found = (shared / "file").stat()
    assert (found.st_uid, found.st_gid) == (1000, 1001)


def test_two_mapped_mounts_on_one_place_have_each_its_own_source_and_owners(
    ours: Runtime, shared: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("under")

    def mapped(spec: dict[str, Any]) -> None:
        spec["mounts"] += [
            bound(tmp_path, "bind", uidMappings=mapping(0, 5), gidMappings=mapping(0, 6)),
            bound(shared, "bind", uidMappings=mapping(1000, 7), gidMappings=mapping(1001, 8)),
        ]
        spec["process"]["capabilities"] = {kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted")}

    script = "stat -c %u:%g /mnt/file; umount /mnt; stat -c %u:%g /mnt/file; cat /mnt/file"
    assert ours.shell(script, mapped) == "7:8\n5:6\nunder"


def test_what_is_written_through_a_mapped_mount_belongs_to_the_mapped_owner(ours: Runtime, shared: Path) -> None:
    os.chown(shared, 1000, 1001)

    def mapped(spec: dict[str, Any]) -> None:
        spec["mounts"].append(bound(shared, "bind", uidMappings=mapping(1000, 7), gidMappings=mapping(1001, 8)))
        spec["process"]["user"] = {"uid": 7, "gid": 8}

    ours.shell("echo x > /mnt/new", mapped)
    found = (shared / "new").stat()
    assert (found.st_uid, found.st_gid) == (1000, 1001)


def test_idmap_alone_takes_the_mappings_of_the_containers_user_namespace(ours: Runtime, shared: Path) -> None:
    def mapped(spec: dict[str, Any]) -> None:
        spec["linux"]["namespaces"].append({"type": "user"})
        spec["linux"].update(USERNS)
        spec["root"]["readonly"] = False
        spec["mounts"].append(bound(shared, "bind", "idmap"))
        spec["mounts"].append({**bound(shared, "bind"), "destination": "/home"})

    for place in (f"{ours.bundle}/rootfs/home", f"{ours.bundle}/rootfs"):
        os.chown(place, 200_000, 300_000)
    out = ours.shell("stat -c %u:%g /mnt/file /home/file", mapped)
    assert out == "1000:1001\n65534:65534\n"


def test_a_mapping_needs_a_bind_and_something_to_map_by(ours: Runtime, shared: Path) -> None:
    done = ours.run(["/bin/true"], lambda spec: spec["mounts"].append(bound(shared, "bind", "idmap")))
    assert "idmap mounts need uidMappings and gidMappings, or a user namespace" in ours.message(done)
    done = ours.run(
        ["/bin/true"],
        lambda spec: spec["mounts"].append({**bound(shared, "idmap"), "type": "tmpfs", "source": "tmpfs"}),
    )
    assert "id-mapped mounts are only supported for bind mounts" in ours.message(done)
    assert ours.traces() == []


def test_a_file_system_without_mapped_ids_says_so(ours: Runtime) -> None:
    def mapped(spec: dict[str, Any]) -> None:
        spec["mounts"].append(
            bound(Path("/proc/sys"), "bind", uidMappings=mapping(0, 7), gidMappings=mapping(0, 8))
        )  # fmt: skip

    done = ours.run(["/bin/true"], mapped)
    assert "failed to set MOUNT_ATTR_IDMAP on /proc/sys" in ours.message(done)
    assert ours.traces() == []


@pytest.fixture
def device() -> Iterator[str]:
    """One end of a veth pair on the host, up, with addresses, MTU and a hardware address of its own."""
    name = f"sn{os.getpid() % 100_000}"
    steps = (
        f"link add {name} mtu 1400 address 02:00:00:00:12:34 type veth peer name {name}p",
        f"address add 198.51.100.7/25 dev {name}",
        f"address add 2001:db8:7::7/64 dev {name} nodad",
        f"link set {name} up",
    )
    for step in steps:
        subprocess.run(["ip", *step.split()], check=True)
    yield name
    subprocess.run(["ip", "link", "delete", f"{name}p"], capture_output=True)


@pytest.mark.parametrize("renamed", [True, False])
def test_a_network_device_moves_in_with_all_that_is_its_own(ours: Runtime, device: str, renamed: bool) -> None:
    name = "inner0" if renamed else device

    def devices(spec: dict[str, Any]) -> None:
        spec["linux"]["netDevices"] = {device: {"name": "inner0"} if renamed else {}}

    pid = ours.background(["/bin/sleep", "100"], devices)["pid"]
    out = subprocess.run(
        ["nsenter", "-t", str(pid), "-n", "ip", "-o", "address", "show", name], capture_output=True, text=True
    ).stdout
    assert "inet 198.51.100.7/25" in out and "inet6 2001:db8:7::7/64" in out
    link = subprocess.run(
        ["nsenter", "-t", str(pid), "-n", "ip", "-o", "link", "show", name], capture_output=True, text=True
    ).stdout
    assert "mtu 1400" in link and "02:00:00:00:12:34" in link and "UP" in link.partition("<")[2].partition(">")[0]
    assert not os.path.exists(f"/sys/class/net/{device}")


def test_a_device_that_cannot_move_is_named_and_nothing_is_left(ours: Runtime) -> None:
    done = ours.run(["/bin/true"], lambda spec: spec["linux"].update(netDevices={"nosuch0": {}}))
    assert 'unable to move network device "nosuch0": no such device' in ours.message(done)
    assert ours.traces() == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"netDevices": {"a/b": {}}}, 'invalid network device name "a/b"'),
        ({"netDevices": {"lo": {"name": "x" * 16}}}, "invalid network device name"),
        ({"netDevices": {"lo": {}}, "namespaces": [{"type": "mount"}, {"type": "pid"}]}, "without a NET namespace"),
        ({"intelRdt": {"closID": "x"}}, "Intel RDT is not supported or enabled"),
    ],
)
def test_what_cannot_be_had_is_refused(ours: Runtime, change: dict[str, Any], text: str) -> None:
    def changed(spec: dict[str, Any]) -> None:
        spec.pop("hostname")
        spec["linux"].update(change)

    assert text in ours.message(ours.run(["/bin/true"], changed))
    assert ours.traces() == []
