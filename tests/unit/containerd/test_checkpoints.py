"""What containerd's clients ask of a checkpoint, and what it becomes in the content store."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import any_pb2

from sampan import errors
from sampan.api.containerd.types.runc.options import oci_pb2
from sampan.containerd import checkpoints
from sampan.containerd.containers import Payload

Options = oci_pb2.CheckpointOptions
TYPE = "containerd.runc.v1.CheckpointOptions"


class Shelf:
    """As much of a content store as is written to."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def writer(self, ref: str) -> Any:
        return Ingest(self)


class Ingest:
    def __init__(self, shelf: Shelf) -> None:
        self.shelf, self.data = shelf, b""

    def write(self, data: bytes) -> None:
        self.data += data

    def commit(self, size: int, expected: str, labels: object = None) -> str:
        digest = f"sha256:{hashlib.sha256(self.data).hexdigest()}"
        assert (size, expected) == (len(self.data), digest)
        if digest in self.shelf.blobs:
            raise errors.AlreadyExists(digest)
        self.shelf.blobs[digest] = self.data
        return digest


def test_a_task_goes_on_unless_it_is_to_end() -> None:
    assert checkpoints.flags(Options(), "/work") == ["--work-path", "/work", "--leave-running"]
    assert checkpoints.flags(Options(exit=True), "/work") == ["--work-path", "/work"]


def test_each_option_is_the_runtimes_flag() -> None:
    options = Options(
        exit=True, open_tcp=True, external_unix_sockets=True, terminal=True, file_locks=True, work_path="/logs",
        empty_namespaces=["network"], cgroups_mode="soft", parent_path="../before",
    )  # fmt: skip
    assert checkpoints.flags(options, "/work") == [
        "--work-path", "/logs", "--tcp-established", "--ext-unix-sk", "--shell-job", "--file-locks",
        "--empty-ns", "network", "--manage-cgroups-mode", "soft", "--parent-path", "../before",
    ]  # fmt: skip


def test_options_are_known_by_their_type() -> None:
    asked = Options(exit=True)
    assert checkpoints.options_of(Payload(TYPE, asked.SerializeToString())) == asked
    assert checkpoints.options_of(None) == Options()
    assert checkpoints.options_of(Payload("example.Other", b"\xff")) == Options()
    with pytest.raises(errors.InvalidArgument):
        checkpoints.options_of(Payload(TYPE, b"\xff\xff"))


def test_images_and_spec_become_blobs_that_are_held(tmp_path: Path) -> None:
    (tmp_path / "pages-1.img").write_bytes(b"memory" * 1000)
    shelf = Shelf()
    held: list[tuple[str, str]] = []

    def hold(ref: str, digest: str) -> None:
        held.append((ref, digest))

    spec = Payload("a.Spec", b"{}")
    made = checkpoints.store(shelf, str(tmp_path), spec, hold)  # type: ignore[arg-type]
    assert [one.media_type for one in made] == [checkpoints.IMAGES_TYPE, checkpoints.SPEC_TYPE]
    assert [digest for ref, digest in held if not ref] == [one.digest for one in made]
    assert all(bool(ref) != bool(digest) for ref, digest in held) and len(held) == 4
    with tarfile.open(fileobj=io.BytesIO(shelf.blobs[made[0].digest])) as archive:
        file = archive.extractfile("./pages-1.img")
        assert file is not None and file.read() == b"memory" * 1000
    message = any_pb2.Any.FromString(shelf.blobs[made[1].digest])
    assert (message.type_url, message.value) == ("a.Spec", b"{}")
    assert made[0].size == len(shelf.blobs[made[0].digest])
    again = checkpoints.store(shelf, str(tmp_path), spec, lambda ref, digest: None)  # type: ignore[arg-type]
    assert again[1] == made[1]


class Blob:
    """A store of one blob."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def open(self, digest: str) -> io.BytesIO:
        return io.BytesIO(self.data)


def packed(*members: tuple[str, bytes, bytes]) -> bytes:
    """A tar of (name, type, content or link)."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(content)
            else:
                member.linkname = content.decode()
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "core-1.img").write_bytes(b"core")
    shelf = Shelf()
    made = checkpoints.store(shelf, f"{tmp_path}/from", Payload("a.Spec", b"{}"), lambda ref, digest: None)  # type: ignore[arg-type]
    checkpoints.load(Blob(shelf.blobs[made[0].digest]), "sha256:x", f"{tmp_path}/to")  # type: ignore[arg-type]
    assert [(one.name, one.read_bytes()) for one in (tmp_path / "to").iterdir()] == [("core-1.img", b"core")]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(packed(("../out", tarfile.REGTYPE, b"x")), id="outside"),
        pytest.param(packed(("/tmp/out", tarfile.REGTYPE, b"x")), id="absolute"),
        pytest.param(packed(("a/b", tarfile.REGTYPE, b"x")), id="below"),
        pytest.param(packed(("out", tarfile.SYMTYPE, b"/etc")), id="a symlink"),
        pytest.param(packed(("out", tarfile.LNKTYPE, b"/etc/passwd")), id="a hard link"),
        pytest.param(packed(("out", tarfile.CHRTYPE, b"")), id="a device"),
        pytest.param(packed((".", tarfile.REGTYPE, b"x")), id="the directory itself"),
        pytest.param(b"no tar at all" * 100, id="no tar"),
    ],
)
def test_a_blob_that_holds_more_than_images_makes_nothing_elsewhere(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid checkpoint"):
        checkpoints.load(Blob(data), "sha256:x", f"{tmp_path}/to")  # type: ignore[arg-type]
    assert list(tmp_path.rglob("*")) == [tmp_path / "to"]
