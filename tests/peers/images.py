"""Images made without internet, written straight as OCI layouts (image-spec 1.1) by the standard library and zstandard.

A layer is a list of `Entry`; nothing here reads or runs a container tool, so a fault in one cannot hide in the images.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import zstandard

BUSYBOX = "/bin/busybox"
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
OTHER_ARCHITECTURE = "arm64" if ARCHITECTURE == "amd64" else "amd64"
CREATED = "2024-02-29T12:00:00Z"
MTIME = 1_700_000_000

PASSWD = (
    "root:x:0:0:root:/root:/bin/sh\n"
    "daemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    "tester:x:1000:1000:tester:/home/tester:/bin/sh\n"
)
GROUP = "root:x:0:\ndaemon:x:1:\nstaff:x:50:tester\ntester:x:1000:\nnogroup:x:65534:\n"


class Entry(NamedTuple):
    """One name of a layer. `kind` is a tarfile type byte; `content` the bytes of a regular file."""

    path: str
    kind: bytes = tarfile.REGTYPE
    content: bytes = b""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    target: str = ""


class Blob(NamedTuple):
    """Bytes with the descriptor fields that name them."""

    media_type: str
    content: bytes
    diff_id: str = ""

    @property
    def digest(self) -> str:
        return digest_of(self.content)

    def descriptor(self, **more: Any) -> dict[str, Any]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content), **more}


class Image(NamedTuple):
    """A manifest with everything it needs; `platform` is set when it is one of an index."""

    manifest: Blob
    blobs: tuple[Blob, ...]
    config: dict[str, Any]
    layers: tuple[Blob, ...]

    @property
    def id(self) -> str:
        """Docker's image id: the digest of the configuration."""
        return str(json.loads(self.manifest.content)["config"]["digest"])


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def directory(path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> Entry:
    return Entry(path, tarfile.DIRTYPE, mode=mode, uid=uid, gid=gid)


def symlink(path: str, target: str) -> Entry:
    return Entry(path, tarfile.SYMTYPE, mode=0o777, target=target)


def hardlink(path: str, target: str) -> Entry:
    return Entry(path, tarfile.LNKTYPE, target=target)


def tar(entries: Iterable[Entry]) -> bytes:
    """The layer tar of `entries`, byte for byte the same on every run."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.type, member.mode, member.mtime = entry.kind, entry.mode, MTIME
            member.uid, member.gid, member.linkname = entry.uid, entry.gid, entry.target
            member.size = len(entry.content)
            archive.addfile(member, io.BytesIO(entry.content))
    return out.getvalue()


def layer(content: bytes, compression: str = "gzip") -> Blob:
    """A layer blob of tar bytes; `compression` is gzip, zstd or none."""
    kind = "application/vnd.oci.image.layer.v1.tar"
    diff_id = digest_of(content)
    if compression == "gzip":
        return Blob(kind + "+gzip", gzip.compress(content, compresslevel=1, mtime=0), diff_id)
    if compression == "zstd":
        return Blob(kind + "+zstd", zstandard.ZstdCompressor(level=1).compress(content), diff_id)
    return Blob(kind, content, diff_id)


def image(layers: Sequence[Blob], config: dict[str, Any] | None = None, architecture: str = ARCHITECTURE) -> Image:
    """An image of `layers` (lowest first); `config` has the fields of the image-spec's `config` object."""
    document = {
        "created": CREATED,
        "architecture": architecture,
        "os": "linux",
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": [blob.diff_id for blob in layers]},
        "history": [{"created": CREATED, "created_by": f"tests layer {i}"} for i in range(len(layers))],
    }
    described = Blob("application/vnd.oci.image.config.v1+json", _json(document))
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described.descriptor(),
        "layers": [blob.descriptor() for blob in layers],
    }
    top = Blob("application/vnd.oci.image.manifest.v1+json", _json(manifest))
    return Image(top, (described, *layers), document, tuple(layers))


def write_layout(path: str, images: Sequence[Image], *, as_index: bool = False) -> str:
    """Writes an OCI layout with tag `latest` on `images[0]`, or on an index over all of them; yields its digest."""
    blobs: dict[str, Blob] = {}
    for one in images:
        for blob in (one.manifest, *one.blobs):
            blobs[blob.digest] = blob
    top = images[0].manifest
    if as_index:
        members = [
            one.manifest.descriptor(platform={"architecture": one.config["architecture"], "os": "linux"})
            for one in images
        ]
        kind = "application/vnd.oci.image.index.v1+json"
        top = Blob(kind, _json({"schemaVersion": 2, "mediaType": kind, "manifests": members}))
        blobs[top.digest] = top
    os.makedirs(f"{path}/blobs/sha256")
    for digest, blob in blobs.items():
        with open(f"{path}/blobs/sha256/{digest[7:]}", "wb") as file:
            file.write(blob.content)
    with open(f"{path}/oci-layout", "w") as file:
        file.write('{"imageLayoutVersion":"1.0.0"}')
    entry = top.descriptor(annotations={"org.opencontainers.image.ref.name": "latest"})
    with open(f"{path}/index.json", "wb") as index:
        index.write(_json({"schemaVersion": 2, "manifests": [entry]}))
    return top.digest


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode()


def busybox_entries() -> list[Entry]:
    """A root file system of busybox-static with /etc/passwd (root, daemon, nobody, tester uid 1000) and /etc/group."""
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with open(BUSYBOX, "rb") as file:
        program = file.read()
    entries = [directory(name) for name in ("bin", "dev", "etc", "home", "proc", "sys", "usr", "usr/sbin", "var")]
    entries += [directory("root", 0o700), directory("tmp", 0o1777), directory("home/tester", 0o755, 1000, 1000)]
    entries.append(Entry("bin/busybox", content=program, mode=0o755))
    entries += [symlink(f"bin/{name}", "busybox") for name in applets if name != "busybox"]
    entries.append(Entry("etc/passwd", content=PASSWD.encode()))
    entries.append(Entry("etc/group", content=GROUP.encode()))
    entries.append(Entry("etc/not-executable", content=b"#!/bin/sh\necho never\n"))
    return entries


def layered_entries() -> list[list[Entry]]:
    """Forty small layers whose whiteouts and opaque directories end in one known tree (see `LAYERED_TREE`)."""
    layers = [
        [directory("data"), Entry("data/deleted", content=b"gone"), Entry("data/replaced", content=b"old"),
         directory("data/opaque"), Entry("data/opaque/hidden", content=b"gone"),
         directory("data/tree"), directory("data/tree/deep"), Entry("data/tree/deep/leaf", content=b"gone"),
         directory("data/becomes-file"), Entry("data/becomes-file/x", content=b"gone"),
         Entry("data/becomes-directory", content=b"gone"), Entry("data/linked", content=b"linked"),
         hardlink("data/hardlink", "data/linked")],
        [Entry("data/.wh.deleted"), Entry("data/replaced", content=b"new", mode=0o600, uid=1000, gid=1000)],
        [directory("data/opaque"), Entry("data/opaque/.wh..wh..opq"), Entry("data/opaque/shown", content=b"shown")],
        [Entry("data/.wh.tree")],
        [Entry("data/becomes-file", content=b"file")],
        [directory("data/becomes-directory"), Entry("data/becomes-directory/y", content=b"y")],
    ]  # fmt: skip
    layers += [[directory("data"), Entry(f"data/layer-{i:02}", content=str(i).encode())] for i in range(34)]
    return layers


LAYERED_TREE = sorted(
    ["becomes-directory", "becomes-directory/y", "becomes-file", "hardlink", "linked", "opaque", "opaque/shown",
     "replaced", *(f"layer-{i:02}" for i in range(34))]
)  # fmt: skip

CONFIGURED = {
    "Entrypoint": ["/bin/sh", "-c", 'echo "entrypoint $*"', "sh"],
    "Cmd": ["one", "two words"],
    "Env": ["PATH=/usr/local/bin:/bin", "COLOUR=green", "EMPTY="],
    "WorkingDir": "/srv/work",
    "User": "tester:staff",
    "Volumes": {"/var/kept": {}},
    "ExposedPorts": {"8080/tcp": {}, "53/udp": {}},
    "StopSignal": "SIGUSR1",
    "Labels": {"maintainer": "tester", "space": "a b"},
}
"""The image-spec configuration of the `configured` image."""


CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "sampan-tests")
"""Where what takes long to make is kept from one run to the next."""


def debian_tar(cache: str = CACHE) -> str:
    """Path of a tar of a real Debian minbase, made once by debootstrap with the host's own apt mirror and kept in
    `cache`. Raises OSError or CalledProcessError when it cannot be made."""
    mirror, suite = _apt_source()
    kept = f"{cache}/debian-{suite}.tar"
    if os.path.exists(kept):
        return kept
    os.makedirs(cache, exist_ok=True)
    work = f"{cache}/debootstrap-{os.getpid()}"
    try:
        subprocess.run(["debootstrap", "--variant=minbase", suite, work, mirror], check=True, capture_output=True)
        for name in os.listdir(f"{work}/var/cache/apt/archives"):
            if name.endswith(".deb"):
                os.unlink(f"{work}/var/cache/apt/archives/{name}")
        shutil.rmtree(f"{work}/var/lib/apt/lists")
        pack = ["tar", "--numeric-owner", "--sort=name", "--exclude=./dev/*", "-cf", f"{work}.tar", "-C", work, "."]
        subprocess.run(pack, check=True)
        os.rename(f"{work}.tar", kept)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return kept


def _apt_source() -> tuple[str, str]:
    """Mirror and suite of the host's first binary source, from /etc/apt/sources.list or a deb822 file beside it."""
    files = ["/etc/apt/sources.list"]
    if os.path.isdir("/etc/apt/sources.list.d"):
        files += sorted(f"/etc/apt/sources.list.d/{name}" for name in os.listdir("/etc/apt/sources.list.d"))
    fields: dict[str, str] = {}
    for path in files:
        if not os.path.exists(path) or not stat.S_ISREG(os.stat(path).st_mode):
            continue
        with open(path) as lines:
            for line in lines:
                words = line.split()
                if words[:1] == ["deb"]:
                    words = [word for word in words if not word.startswith("[") and not word.endswith("]")]
                    return words[1], words[2]
                if words and words[0] in ("URIs:", "Suites:"):
                    fields.setdefault(words[0], words[1])
        if len(fields) == 2:
            return fields["URIs:"], fields["Suites:"]
    raise OSError("no Debian mirror in /etc/apt/sources.list*")
