"""Image archives: what skopeo and docker write is loaded, and what is saved here skopeo reads."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import subprocess
import tarfile
from collections.abc import AsyncIterator

import pytest
from tests.contract.registry_bench import FakeRegistry, Puller
from tests.peers import images as made
from tests.peers.waiting import eventually

from sampan import errors
from sampan.containerd.archive import export_archive
from sampan.containerd.services import Image
from sampan.oci.image import MEDIA_OCI_INDEX, Descriptor, Platform

pytestmark = pytest.mark.root


def image(name: str = "f", architecture: str = made.ARCHITECTURE) -> made.Image:
    return made.image(
        [made.layer(made.tar([made.Entry(f"{name}{i}", content=os.urandom(30_000))]), "gzip") for i in range(2)],
        {"Cmd": ["sh"]},
        architecture,
    )


async def pieces(data: bytes, step: int = 10_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), step):
        yield data[at : at + step]


def archive(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return out.getvalue()


def layout(tmp_path, *images: made.Image, as_index: bool = False) -> tuple[bytes, str]:
    path = tmp_path / f"layout{len(list(tmp_path.iterdir()))}"
    digest = made.write_layout(str(path), images, as_index=as_index)
    return archive({str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}), digest


@pytest.fixture
def run(tmp_path):
    def go(body):
        async def inside():
            puller = Puller(tmp_path)
            async with puller.open():
                await body(puller)

        asyncio.run(asyncio.wait_for(inside(), 60))

    return go


async def load(puller: Puller, data: bytes) -> list[Image]:
    return list(await puller.core.transfer.load(pieces(data), progress=puller.progress.append))


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_an_oci_layout_is_loaded_and_unpacked(run, tmp_path, compress):
    one = image()

    async def body(puller):
        data, digest = layout(tmp_path, one)
        [loaded] = await load(puller, compress(data))
        assert loaded.target.digest == digest
        assert (puller.top() / "f1").stat().st_size == 30_000
        assert list(puller.core.content.ingests()) == []
        assert puller.core.images.collect() == 0

    run(body)


def test_the_older_docker_archive_is_loaded(run):
    """As dockerd 20.10 saves: uncompressed layers by id, a repeated one as a symlink, no OCI documents."""
    layer = made.tar([made.Entry("f", content=b"x" * 5000)])
    other = made.tar([made.Entry("g", content=b"y" * 10)])
    rootfs = {"type": "layers", "diff_ids": [made.digest_of(b) for b in (layer, other, layer)]}
    config = json.dumps({"os": "linux", "architecture": made.ARCHITECTURE, "rootfs": rootfs})
    name = made.digest_of(config.encode())[7:] + ".json"
    listed = [
        {"Config": name, "RepoTags": ["app:1", "r.test/app:2"], "Layers": ["1/layer.tar", "2/layer.tar", "3/layer.tar"]}
    ]
    files = {"1/layer.tar": layer, "1/VERSION": b"1.0", "1/json": b"{}", "2/layer.tar": other, name: config.encode(),
             "manifest.json": json.dumps(listed).encode(), "repositories": b"{}"}  # fmt: skip

    async def body(puller):
        loaded = await load(puller, archive(files, {"3/layer.tar": "../1/layer.tar"}))
        assert [one.name for one in loaded] == ["docker.io/library/app:1", "r.test/app:2"]
        assert (puller.top() / "f").stat().st_size == 5000
        puller.core.images.collect()
        assert {b.digest for b in puller.core.content.walk()} >= {made.digest_of(layer), made.digest_of(other)}
        assert not puller.core.content.has(made.digest_of(b"1.0")), "what belongs to no image does not stay"

    run(body)


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_what_skopeo_writes_is_loaded_and_what_is_saved_skopeo_reads(run, tmp_path, kind):
    made.write_layout(str(tmp_path / "layout"), [image()])
    file = tmp_path / "a.tar"
    target = f"{kind}:{file}:r.test/app:1"
    subprocess.run(["skopeo", "copy", f"oci:{tmp_path}/layout:latest", target], check=True, capture_output=True)

    async def body(puller):
        [loaded] = await load(puller, file.read_bytes())
        assert loaded.name == "r.test/app:1"
        assert (puller.top() / "f1").exists()
        saved = b"".join(puller.core.transfer.save([loaded.name]))
        (tmp_path / "saved.tar").write_bytes(saved)
        for form in ("oci-archive", "docker-archive"):
            inspect = ["skopeo", "inspect", "--config", f"{form}:{tmp_path}/saved.tar"]
            found = await asyncio.to_thread(subprocess.run, inspect, capture_output=True, text=True)
            assert found.returncode == 0, found.stderr
            assert len(json.loads(found.stdout)["rootfs"]["diff_ids"]) == 2

    run(body)


def test_saved_images_come_back_the_same(run, tmp_path):
    own, other = image(), image("g", made.OTHER_ARCHITECTURE)

    async def body(puller):
        registry = FakeRegistry()
        async with registry.serving():
            registry.add("multi", own, other)
            registry.add("single", own)
            first = await puller.pull(f"{registry.host}/multi")
            second = await puller.pull(f"{registry.host}/single")
        saved = b"".join(puller.core.transfer.save([first.name, second.name]))
        assert saved == b"".join(puller.core.transfer.save([first.name, second.name]))
        for name in (first.name, second.name):
            puller.core.images.delete(name)
        puller.core.images.collect()
        loaded = await load(puller, saved)
        assert [(one.name, one.target.digest) for one in loaded] == [
            (first.name, first.target.digest),
            (second.name, second.target.digest),
        ]
        assert puller.core.content.read(own.layers[0].digest) == own.layers[0].content
        assert (puller.top() / "f1").exists()

    run(body)


def test_what_is_known_is_read_over_and_nothing_is_kept_twice(run, tmp_path):
    """A layer of 8 MB that is here already: the archive streams by, the store does not grow, nor does memory."""
    layer = made.layer(made.tar([made.Entry("big", content=os.urandom(8 << 20))]), "none")
    one = made.image([layer])

    async def body(puller):
        import tracemalloc

        data, _ = layout(tmp_path, one)
        await load(puller, data)
        blob = puller.core.content.path(layer.digest)
        before = os.stat(blob)
        written: list[str] = []
        tracemalloc.start()
        try:
            [loaded] = await load(puller, data)
            written += [ref for ref, _, _ in puller.core.content.ingests()]
            assert tracemalloc.get_traced_memory()[1] < 5 << 20
        finally:
            tracemalloc.stop()
        assert (os.stat(blob).st_ino, written) == (before.st_ino, [])
        pieces_saved = [len(piece) async for piece in export_archive(puller.core.content, [("", loaded.target)])]
        assert max(pieces_saved) <= 1 << 20, "a piece at a time"

    run(body)


def test_only_the_wanted_platforms_are_exported(run, tmp_path):
    own, other = image(), image("g", made.OTHER_ARCHITECTURE)

    async def body(puller):
        data, digest = layout(tmp_path, own, other, as_index=True)
        [loaded] = await load(puller, data)
        wanted = [Platform("linux", made.OTHER_ARCHITECTURE)]
        pieces = export_archive(puller.core.content, [(loaded.name, loaded.target)], platforms=wanted, docker=False)
        saved = b"".join([piece async for piece in pieces])
        with tarfile.open(fileobj=io.BytesIO(saved)) as tar:
            names = tar.getnames()
            index = json.load(tar.extractfile("index.json"))
        blobs = {name[len("blobs/sha256/") :] for name in names if name.startswith("blobs/sha256/")}
        kept = {digest[7:], *(blob.digest[7:] for blob in (other.manifest, *other.blobs))}
        assert blobs == kept
        assert index["manifests"][0]["digest"] == digest
        assert "manifest.json" not in names

    run(body)


def test_an_image_that_is_not_whole_is_not_saved(run, tmp_path):
    own, other = image(), image("g", made.OTHER_ARCHITECTURE)

    async def body(puller):
        data, _ = layout(tmp_path, own, other, as_index=True)
        [loaded] = await load(puller, data)
        puller.core.content.delete(other.layers[0].digest)
        assert b"".join(puller.core.transfer.save([loaded.name])), "the platform that is whole"
        puller.core.content.delete(own.layers[1].digest)
        with pytest.raises(errors.NotFound, match="nothing of it is here as a whole"):
            list(puller.core.transfer.save([loaded.name]))
        one = Descriptor(own.manifest.media_type, own.manifest.digest, len(own.manifest.content))
        with pytest.raises(errors.NotFound, match=f"content {own.layers[1].digest}: not found"):
            list(puller.core.transfer.save([one]))

    run(body)


@pytest.mark.needs("containerd")
def test_what_is_saved_containerd_imports(run, tmp_path):
    one, other = image(), image("g")

    async def body(puller):
        registry = FakeRegistry()
        async with registry.serving():
            registry.add("one", one)
            registry.add("other", other)
            names = [(await puller.pull(f"{registry.host}/{name}")).name for name in ("one", "other")]
        (tmp_path / "saved.tar").write_bytes(b"".join(puller.core.transfer.save(names)))
        listed = await asyncio.to_thread(imported_by_containerd, tmp_path)
        for name, digest in zip(names, (one.manifest.digest, other.manifest.digest), strict=True):
            assert f"{name} {digest}" in listed

    run(body)


def imported_by_containerd(scratch) -> list[str]:
    """NAME DIGEST of each image that a containerd of its own has after `ctr images import saved.tar`."""
    (scratch / "config.toml").write_text('version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n')
    hidden = 'mkdir -p /run/containerd; mount -t tmpfs x /run/containerd && exec "$0" "$@"'
    daemon = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", hidden, "containerd", "--config", f"{scratch}/config.toml",
         "--address", f"{scratch}/sock", "--root", f"{scratch}/c-root", "--state", f"{scratch}/c-state"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    ctr = ["ctr", "--address", f"{scratch}/sock"]
    try:
        eventually(lambda: subprocess.run([*ctr, "version"], capture_output=True).returncode == 0)
        imported = [*ctr, "images", "import", "--no-unpack", f"{scratch}/saved.tar"]
        done = subprocess.run(imported, capture_output=True, text=True)
        if "no-unpack" in done.stderr:  # 1.6 always unpacks
            done = subprocess.run([*imported[:5], imported[-1]], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = subprocess.run([*ctr, "images", "ls"], capture_output=True, text=True, check=True).stdout
        return [" ".join((line.split()[0], line.split()[2])) for line in found.splitlines()[1:]]
    finally:
        daemon.terminate()
        daemon.wait()


def test_an_image_for_another_platform_is_stored_and_not_unpacked(run, tmp_path):
    other = image("g", made.OTHER_ARCHITECTURE)

    async def body(puller):
        data, _ = layout(tmp_path, other, as_index=True)
        await load(puller, data)
        assert puller.core.content.has(other.layers[0].digest)
        assert len(list(puller.core.snapshots.walk())) == 1

    run(body)


def test_the_hosts_own_root_is_not_saved(run):
    async def body(puller):
        with pytest.raises(errors.InvalidArgument, match="cannot be saved"):
            list(puller.core.transfer.save(["docker.io/sampan/host:latest"]))
        with pytest.raises(errors.NotFound):
            list(puller.core.transfer.save(["docker.io/library/none:latest"]))

    run(body)


def bad_archives() -> dict[str, tuple[bytes, type[Exception]]]:
    one = image()
    blobs = {f"blobs/sha256/{b.digest[7:]}": b.content for b in (one.manifest, *one.blobs)}
    index = {"schemaVersion": 2, "manifests": [one.manifest.descriptor()]}
    good = {**blobs, "index.json": json.dumps(index).encode()}
    wrong = f"blobs/sha256/{one.layers[0].digest[7:]}"
    missing = {"mediaType": MEDIA_OCI_INDEX, "digest": "sha256:" + "0" * 64, "size": 1}
    return {
        "no tar": (b"nothing of the kind" * 100, errors.InvalidArgument),
        "empty": (archive({}), errors.InvalidArgument),
        "cut": (archive(good)[:30_000], errors.InvalidArgument),
        "another digest": (archive({**good, wrong: b"other bytes"}), errors.DataLoss),
        "manifest missing": (
            archive({"index.json": json.dumps({"manifests": [missing]}).encode()}), errors.InvalidArgument),
        "index is a list": (archive({"index.json": b"[]"}), errors.InvalidArgument),
        "index is no json": (archive({"index.json": b"{"}), errors.InvalidArgument),
        "odd docker manifest": (archive({"manifest.json": b'[{"Config": 1, "Layers": [2]}]'}), errors.InvalidArgument),
        "layers are a number": (archive({"manifest.json": b'[{"Layers": 5}]'}), errors.InvalidArgument),
        "tags are a number": (archive({**blobs, "manifest.json": json.dumps([{"Config": wrong, "Layers": [],
            "RepoTags": 5}]).encode()}), errors.InvalidArgument),
        "manifests are a number": (archive({"index.json": b'{"manifests": 5}'}), errors.InvalidArgument),
        "nothing but names": (archive({}, {f"{i}{'n' * 3000}": "t" * 3000 for i in range(3000)}),
            errors.InvalidArgument),
        "docker manifest of nothing": (archive({"manifest.json": b"[]"}), errors.InvalidArgument),
        "a path for a layer's id": (
            archive({"repositories": b'{"a": {"b": "../../etc"}}'}), errors.InvalidArgument),
        "a ring of layers": (archive({"repositories": json.dumps({"a": {"b": "c" * 64}}).encode(),
            f"{'c' * 64}/json": json.dumps({"parent": "c" * 64}).encode()}), errors.InvalidArgument),
        "repositories is a list": (archive({"repositories": b"[1]"}), errors.InvalidArgument),
        "tags are a list": (archive({"repositories": b'{"a": ["b"]}'}), errors.InvalidArgument),
        "no repository": (archive({"repositories": b"{}"}), errors.InvalidArgument),
        "a layer's json is none": (archive({"repositories": json.dumps({"a": {"b": "c" * 64}}).encode(),
            f"{'c' * 64}/json": b"["}), errors.InvalidArgument),
        "bad name": (archive({**blobs, "manifest.json": json.dumps([{"Config": wrong, "Layers": [],
            "RepoTags": ["Bad Name"]}]).encode()}), errors.InvalidArgument),
    }  # fmt: skip


@pytest.mark.parametrize("kind", bad_archives())
def test_what_is_no_image_archive_is_refused_and_leaves_nothing(run, kind):
    async def body(puller):
        data, expected = bad_archives()[kind]
        puller.core.images.collect()
        before = {b.digest for b in puller.core.content.walk()}
        with pytest.raises(expected):
            await load(puller, data)
        puller.core.images.collect()
        assert {b.digest for b in puller.core.content.walk()} == before
        assert list(puller.core.content.ingests()) == []
        assert len(puller.core.images.list()) == 1

    run(body)
