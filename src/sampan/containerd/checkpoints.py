"""A task that CRIU has saved, as containerd's clients keep it: a blob with the images, and one with the spec.

Types and options as containerd 1.6 has them (services/tasks/local.go, containerd.runc.v1.CheckpointOptions).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tarfile
from collections.abc import Callable

from google.protobuf import any_pb2
from google.protobuf.message import DecodeError

from sampan import errors
from sampan.api.containerd.types.runc.options import oci_pb2
from sampan.containerd.containers import Payload
from sampan.containerd.services import Content
from sampan.oci.image import Descriptor

IMAGES_TYPE = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
SPEC_TYPE = "application/vnd.containerd.container.checkpoint.config.v1+proto"

_SWITCHES = (
    ("open_tcp", "--tcp-established"),
    ("external_unix_sockets", "--ext-unix-sk"),
    ("terminal", "--shell-job"),
    ("file_locks", "--file-locks"),
)


def options_of(payload: Payload | None) -> oci_pb2.CheckpointOptions:
    """What a client asks for; without the message, or with another one, nothing. InvalidArgument."""
    if payload is None or not payload.type_url.endswith("CheckpointOptions"):
        return oci_pb2.CheckpointOptions()
    try:
        found: oci_pb2.CheckpointOptions = oci_pb2.CheckpointOptions.FromString(payload.value)
        return found
    except DecodeError as error:
        raise errors.InvalidArgument(f"invalid checkpoint options: {error}: invalid argument") from error


def flags(options: oci_pb2.CheckpointOptions, work: str) -> list[str]:
    """The flags of `runc checkpoint`; CRIU's log goes to `work` unless the client has a place for it."""
    found = ["--work-path", options.work_path or work]
    if not options.exit:
        found.append("--leave-running")
    found += [flag for field, flag in _SWITCHES if getattr(options, field)]
    for kind in options.empty_namespaces:
        found += ["--empty-ns", kind]
    if options.cgroups_mode:
        found += ["--manage-cgroups-mode", options.cgroups_mode]
    if options.parent_path:
        found += ["--parent-path", options.parent_path]
    return found


def store(content: Content, images: str, spec: Payload, hold: Callable[[str, str], None]) -> list[Descriptor]:
    """Write both blobs, in a thread: first the images in the directory, then the spec.

    `hold(ref, digest)` is told of an ingest (digest "") and of a blob, so that a lease keeps them."""
    made = [_write(content, IMAGES_TYPE, hold, lambda file: _pack(file, images))]
    message = any_pb2.Any(type_url=spec.type_url, value=spec.value).SerializeToString()
    return [*made, _write(content, SPEC_TYPE, hold, lambda file: file.write(message))]


def load(content: Content, digest: str, directory: str) -> None:
    """Make `directory` with the images of a blob, in a thread. NotFound; InvalidArgument for what holds no images."""
    os.mkdir(directory, 0o700)
    try:
        with content.open(digest) as blob, tarfile.open(fileobj=blob, mode="r|") as archive:
            for member in archive:
                _unpack(archive, member, directory)
    except tarfile.TarError as error:
        raise errors.InvalidArgument(f"invalid checkpoint {digest}: {error}: invalid argument") from error


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, directory: str) -> None:
    """CRIU's images are files side by side: nothing else is made, and nothing elsewhere."""
    name = member.name.removeprefix("./")
    if member.isdir() and name in (".", ""):
        return
    file = archive.extractfile(member) if member.isreg() else None
    if file is None or "/" in name or name in ("", ".", ".."):
        raise errors.InvalidArgument(f'invalid checkpoint: "{member.name}" is no image: invalid argument')
    with open(f"{directory}/{name}", "xb", opener=lambda path, how: os.open(path, how, 0o600)) as target:
        shutil.copyfileobj(file, target, 1 << 20)


class _File:
    """An ingest as `tarfile` writes to it."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def write(self, data: bytes) -> int:
        self._write(data)
        self._hash.update(data)
        self.size += len(data)
        return len(data)


def _pack(file: _File, directory: str) -> None:
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        archive.add(directory, arcname=".", recursive=True)


def _write(
    content: Content, media_type: str, hold: Callable[[str, str], None], fill: Callable[[_File], object]
) -> Descriptor:
    ref = f"checkpoint-{secrets.token_hex(8)}"
    hold(ref, "")
    ingest = content.writer(ref)
    file = _File(ingest.write)
    try:
        fill(file)
    except BaseException:
        ingest.abort()
        raise
    try:
        ingest.commit(file.size, file.digest)
    except errors.AlreadyExists:
        pass  # as of the spec of a container that is saved again
    hold("", file.digest)
    return Descriptor(media_type, file.digest, file.size)
