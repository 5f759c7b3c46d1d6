"""docker save and load: archives of this engine, of others and of every age."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Mapping

import pytest
from tests.peers import images
from tests.peers.client import Docker
from tests.peers.shelf import Shelf


def archive(path: str, files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> str:
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return path


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gzip"])
def test_what_was_saved_is_loaded_with_all_its_names(
    docker: Docker, shelf: Shelf, scratch: str, compress: bool
) -> None:
    identity = shelf.product("busybox").image.id
    docker.ok("tag", "busybox", "first.example/a:1")
    docker.ok("tag", "busybox", "first.example/a:2")
    docker.ok("tag", "configured", "second.example/b:1")
    path = f"{scratch}/saved-{os.urandom(4).hex()}.tar"
    docker.ok("save", "-o", path, "first.example/a:1", "first.example/a:2", "second.example/b:1")
    docker.ok("rmi", "first.example/a:1", "first.example/a:2", "second.example/b:1")
    if compress:
        with open(path, "rb") as file:
            packed = gzip.compress(file.read(), 1)
        with open(path, "wb") as file:
            file.write(packed)
    said = docker.ok("load", "-i", path)
    for name in ("first.example/a:1", "first.example/a:2", "second.example/b:1"):
        assert f"Loaded image: {name}" in said
    assert docker.inspect("image", "first.example/a:2")["Id"] == identity
    with tarfile.open(path) as tar:
        listed = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert sorted(sorted(entry["RepoTags"]) for entry in listed) == [
        ["first.example/a:1", "first.example/a:2"],
        ["second.example/b:1"],
    ], "one entry for each image"
    docker.ok("rmi", "first.example/a:1", "first.example/a:2", "second.example/b:1")
    os.unlink(path)


def test_an_archive_of_dockers_first_format_is_loaded(docker: Docker, scratch: str) -> None:
    """`repositories` alone, as before Docker 1.10: a chain of layers by parent, the top one's configuration."""
    bottom, top = "a" * 64, "b" * 64
    common = {"architecture": images.ARCHITECTURE, "os": "linux", "created": images.CREATED}
    documents = {
        bottom: {"id": bottom, **common, "container_config": {"Cmd": ["/bin/sh", "-c", "#(nop) ADD"]}},
        top: {"id": top, "parent": bottom, **common, "config": {"Cmd": ["cat", "/said"], "Env": ["A=b"]}},
    }
    files = {"repositories": json.dumps({"old.example/legacy": {"v0": top}}).encode()}
    layers = {bottom: images.busybox_entries(), top: [images.Entry("said", content=b"hello from 2014\n")]}
    for layer, entries in layers.items():
        files[f"{layer}/VERSION"] = b"1.0"
        files[f"{layer}/json"] = json.dumps(documents[layer]).encode()
        files[f"{layer}/layer.tar"] = images.tar(entries)
    path = archive(f"{scratch}/legacy.tar", files)
    docker.ok("load", "-i", path)
    assert docker.ok("run", "--rm", "old.example/legacy:v0") == "hello from 2014"
    seen = docker.inspect("image", "old.example/legacy:v0")
    assert seen["Config"]["Env"] == ["A=b"]
    assert seen["RootFS"]["Layers"] == [images.digest_of(files[f"{layer}/layer.tar"]) for layer in (bottom, top)]
    docker.ok("rmi", "old.example/legacy:v0")
    os.unlink(path)


def test_an_archive_of_docker_20_is_loaded(docker: Docker, scratch: str) -> None:
    """`manifest.json` over directories of layers; a layer that comes twice is a symbolic link the second time."""
    layers = [images.tar(images.busybox_entries()), images.tar([images.Entry("said", content=b"twice\n")])]
    order = [layers[0], layers[1], layers[1]]
    config = json.dumps(
        {"architecture": images.ARCHITECTURE, "os": "linux", "config": {"Cmd": ["cat", "/said"]},
         "rootfs": {"type": "layers", "diff_ids": [images.digest_of(one) for one in order]}}
    ).encode()  # fmt: skip
    name = images.digest_of(config)[7:] + ".json"
    listed = [{"Config": name, "RepoTags": ["mid.example/app:1"],
               "Layers": ["1/layer.tar", "2/layer.tar", "3/layer.tar"]}]  # fmt: skip
    files = {"1/layer.tar": layers[0], "2/layer.tar": layers[1], name: config,
             "manifest.json": json.dumps(listed).encode()}  # fmt: skip
    path = archive(f"{scratch}/middle.tar", files, {"3/layer.tar": "../2/layer.tar"})
    assert "Loaded image: mid.example/app:1" in docker.ok("load", "-i", path)
    assert docker.ok("run", "--rm", "mid.example/app:1") == "twice"
    assert docker.inspect("image", "mid.example/app:1")["Id"] == images.digest_of(config)
    docker.ok("rmi", "mid.example/app:1")
    os.unlink(path)


@pytest.mark.parametrize(
    "files",
    [{}, {"manifest.json": b"[]"}, {"repositories": json.dumps({"a": {"b": "c" * 64}}).encode()}],
    ids=["nothing", "no images", "a layer that did not come"],
)  # fmt: skip
def test_what_is_no_archive_leaves_nothing(docker: Docker, scratch: str, files: dict[str, bytes]) -> None:
    before = docker.ok("images", "-aq", "--no-trunc")
    path = archive(f"{scratch}/broken.tar", files)
    docker("load", "-i", path)
    assert docker.ok("images", "-aq", "--no-trunc") == before
    os.unlink(path)
