"""`sampan-containerd fsck` on real roots: what it calls by name, what it misses, what it mends."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.contract.registry_bench import FakeRegistry, Puller
from tests.peers import images as made

from sampan.containerd.__main__ import main

pytestmark = pytest.mark.root
IMAGE = made.image([made.layer(made.tar([made.Entry(f"f{i}", content=b"x" * i)])) for i in range(3)])


@pytest.fixture(params=["erofs", "overlayfs", "native"])
def root(tmp_path, request) -> Path:
    """A core's root with an image, a container's snapshot on it and an ingest; nobody has it open."""

    async def body() -> None:
        registry = FakeRegistry()
        async with registry.serving():
            registry.add("x", IMAGE)
            async with Puller(tmp_path).open(request.param) as puller:
                await puller.pull(f"{registry.host}/x")
                puller.core.snapshots.prepare("c" * 64, puller.tip())
                os.makedirs(tmp_path / "root/containers" / ("c" * 64))
                ingest = puller.core.content.writer("half")
                ingest.write(b"123")
                ingest.close()

    asyncio.run(asyncio.wait_for(body(), 30))
    return tmp_path / "root"


def fsck(root: Path, capsys, *options: str) -> tuple[int, dict[str, str]]:
    status = main(["fsck", "--root", str(root), *options])
    lines = dict(line.split("\t", 1) for line in capsys.readouterr().out.splitlines())
    return status, lines


def faults(root: Path, capsys, *options: str) -> dict[str, str]:
    status, lines = fsck(root, capsys, "--quiet", *options)
    assert (status, lines) == (0, {}) or status == 1
    return lines


def test_every_file_has_an_owner_and_is_called_by_it(root, capsys):
    status, lines = fsck(root, capsys)
    assert status == 0
    owned = tuple(f"{root}/{path}" for path in lines)
    for directory, _, names in os.walk(root):
        for name in names:
            assert f"{directory}/{name}".startswith(owned), name
    [ingest] = os.listdir(root / "content/ingest")
    assert lines[f"content/ingest/{ingest}"] == 'ingest "half" in moby'
    assert lines[f"content/blobs/sha256/{IMAGE.manifest.digest[7:]}"] == "blob in moby"
    assert lines["containers/" + "c" * 64] == "container " + "c" * 64
    assert f'active snapshot "{"c" * 64}" in moby' in lines.values()
    assert list(lines.values()).count("the core's database") == 1


def test_files_that_nobody_owns_are_named_and_removed(root, capsys):
    strays = {
        "content/blobs/sha256/" + "0" * 64,
        "content/ingest/999",
        f"snapshots/{kind(root)}/777",
        "containers/" + "d" * 64,
        "stray",
        f"snapshots/{kind(root)}/{committed(root)[0]}/left-over",
    }
    for path in strays:
        if path.rpartition("/")[2] in ("777", "d" * 64):
            (root / path / "deep/er").mkdir(parents=True)
        else:
            (root / path).write_bytes(b"x")
    assert faults(root, capsys) == dict.fromkeys(strays, "FAULT: nobody owns it")
    assert fsck(root, capsys, "--repair")[0] == 0
    assert faults(root, capsys) == {}
    assert not any((root / path).exists() for path in strays)


def test_a_blob_that_is_cut_off_or_gone_is_named_and_forgotten(root, capsys):
    cut, gone = (root / "content/blobs/sha256" / layer.digest[7:] for layer in IMAGE.blobs[1:3])
    with open(cut, "r+b") as file:
        file.truncate(10)
    gone.unlink()
    found = faults(root, capsys)
    assert found[str(cut.relative_to(root))].startswith("FAULT: 10 bytes, ")
    assert found[str(gone.relative_to(root))] == "FAULT: the blob is not there"
    assert fsck(root, capsys, "--repair")[0] == 0
    assert not cut.exists()


def test_wrong_bytes_are_found_when_they_are_read(root, capsys):
    blob = root / "content/blobs/sha256" / IMAGE.blobs[1].digest[7:]
    with open(blob, "r+b") as file:
        file.write(b"changed")
    assert faults(root, capsys) == {}
    assert list(faults(root, capsys, "--verify")) == [str(blob.relative_to(root))]


def test_a_layer_without_files_is_named_and_goes_only_where_no_container_stands_on_it(root, capsys):
    numbers = committed(root)
    lost = f"snapshots/{kind(root)}/{numbers[1]}"
    shutil.rmtree(root / lost)
    assert list(faults(root, capsys)) == [f"{lost}/fs"]
    status, _ = fsck(root, capsys, "--repair")
    assert status == 1  # the container's chain stays as it is
    execute(root, "delete from snapshots where kind = 'active'")
    assert fsck(root, capsys, "--repair")[0] == 0
    assert committed(root) == numbers[:1]
    assert faults(root, capsys) == {}


def test_an_image_whose_target_is_not_there_is_named(root, capsys):
    (root / "content/blobs/sha256" / IMAGE.manifest.digest[7:]).unlink()
    execute(root, "delete from content where digest = ?", IMAGE.manifest.digest)
    [(path, fault)] = faults(root, capsys).items()
    assert path == "core.db" and f"{IMAGE.manifest.digest} is not there" in fault


def test_a_damaged_database_is_told(root, capsys):
    with open(root / "core.db", "r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 4))
    status, lines = fsck(root, capsys, "--verify")
    assert status == 2 or "damaged" in lines["core.db"]


def test_a_root_in_use_is_looked_at_and_not_mended(root, capsys, tmp_path):
    async def body() -> None:
        async with Puller(tmp_path).open():
            assert fsck(root, capsys)[0] == 0
            (root / "stray").write_text("")
            assert list(faults(root, capsys)) == ["stray"]
            assert main(["fsck", "--root", str(root), "--repair"]) == 2
            assert "is in use by another process" in capsys.readouterr().err

    asyncio.run(asyncio.wait_for(body(), 30))


def test_a_directory_without_a_core_is_no_root(tmp_path, capsys):
    assert main(["fsck", "--root", str(tmp_path)]) == 2
    assert "no core has been here" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def kind(root: Path) -> str:
    with closing(sqlite3.connect(root / "core.db", isolation_level=None)) as database:
        return str(database.execute("select snapshotter from snapshots where kind = 'active'").fetchone()[0])


def committed(root: Path) -> list[int]:
    """The numbers of the layers, lowest first."""
    query = """
        with recursive chain (id, key) as (
            select id, key from snapshots where kind = 'committed' and storage = 'directory' and parent = ''
            union all select s.id, s.key from chain c join snapshots s on s.parent = c.key and s.kind = 'committed')
        select id from chain"""
    with closing(sqlite3.connect(root / "core.db", isolation_level=None)) as database:
        return [row[0] for row in database.execute(query)]


def execute(root: Path, *statement: str) -> None:
    with closing(sqlite3.connect(root / "core.db", isolation_level=None)) as database:
        database.execute(statement[0], statement[1:])
