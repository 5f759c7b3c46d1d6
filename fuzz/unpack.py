"""Unpacking a hostile layer: into a directory and behind an erofs index it becomes the same tree or is refused by both,
and nothing outside the directory changes, whatever names, links and whiteouts say.

The inputs are layers of members made by chance from a few names that meet each other (links to each other, to `..`, to
the canary's absolute path), now and then with bytes changed. As root; what others may not make is refused alike."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
from random import Random
from typing import NamedTuple

from fuzz.layer_tar import SEEDS as SEEDS
from fuzz.layer_tar import mutate as mutate_bytes
from sampan import errors
from sampan.containerd.diff.erofs_layer import FILE, ErofsLayer, index_layer
from sampan.containerd.diff.unpack import unpack
from sampan.linux.trees import remove_tree
from sampan.wire import layer_tar, tar_member
from sampan.wire.erofs import HOLE, Node

ERRORS = (errors.InvalidArgument,)

CANARY = "/tmp/sampan-fuzz-canary"
_PARTS = (b"a", b"b", b"c", b"d", b"..", b".", b"", b"a", b"b", b".wh.a", b".wh.b", b".wh..wh..opq", b".wh.", b".wh..",
          b".wh...", b".wh..wh.aufs", b"n" * 255, b"n" * 256, b"\xff")  # fmt: skip
_TARGETS = (b"a", b"b", b"../a", b"/a/b", b"..", b"../../outside", b"../../outside/kept", b"/", b".", b"",
            CANARY.encode(), b"/proc/self/cwd", b"/proc/self/root" + CANARY.encode(), b"c/../b", b"x" * 4095,
            b"x" * 4096)  # fmt: skip
_KINDS = (layer_tar.FILE, layer_tar.FILE, layer_tar.DIRECTORY, layer_tar.DIRECTORY, layer_tar.SYMLINK,
          layer_tar.SYMLINK,
          layer_tar.LINK, layer_tar.LINK, layer_tar.CHAR, layer_tar.FIFO)  # fmt: skip
_XATTRS: tuple[dict[str, bytes], ...] = (
           {}, {}, {}, {"user.x": b"1"}, {"trusted.overlay.opaque": b"y"}, {"trusted.overlay.redirect": b"/etc"},
           {"trusted.y": b""})  # fmt: skip


def mutate(data: bytes, random: Random) -> bytes:
    if random.randrange(8) == 0:
        return mutate_bytes(data, random)
    made = b"".join(_member(random) for _ in range(random.randint(1, 12))) + tar_member.END
    return mutate_bytes(made, random) if random.randrange(5) == 0 else made


def _member(random: Random) -> bytes:
    name = b"/".join(random.choice(_PARTS) for _ in range(random.choice((1, 1, 2, 2, 3, 4))))
    name = random.choice((b"", b"", b"/", b"../", CANARY.encode() + b"/")) + name
    kind = random.choice(_KINDS)
    data = random.randbytes(random.choice((0, 1, 600))) if kind == layer_tar.FILE else b""
    linkname = random.choice(_TARGETS) if random.randrange(2) else b"/".join(random.choices(_PARTS, k=2))
    header = tar_member.member(
        name or b".",
        kind,
        mode=random.choice((0o644, 0o755, 0o4755, 0o1777, 0)),
        uid=random.choice((0, 1000, 65534)),
        gid=random.choice((0, 50)),
        size=len(data),
        mtime=random.choice((0, 1, 1_700_000_000)),
        linkname=linkname if kind in (layer_tar.SYMLINK, layer_tar.LINK) else b"",
        major=random.choice((0, 1)),
        minor=random.choice((0, 3)),
        xattrs=random.choice(_XATTRS) if kind in (layer_tar.FILE, layer_tar.DIRECTORY) else {},
    )
    return header + data + tar_member.padding(len(data))


def feed(data: bytes, random: Random) -> None:
    base = tempfile.mkdtemp(prefix="sampan-fuzz-")
    root, index, outside = f"{base}/n/fs", f"{base}/m", f"{base}/outside"
    try:
        for path in (root, index, outside, f"{base}/o/fs"):
            os.makedirs(path)
        with open(f"{outside}/kept", "w") as file:
            file.write("alive")
        before = _outside(base)
        written = refused = indexed = None
        try:
            written = unpack(io.BytesIO(data), root, f"{base}/n", stacks=True)
        except errors.InvalidArgument as error:
            refused = error
        try:
            indexed = index_layer(io.BytesIO(data), index)
        except errors.InvalidArgument as error:
            if written is not None:
                raise AssertionError(f"unpacked, and not indexed: {error}") from error
        assert _outside(base) == before, "something outside changed"
        assert not os.path.lexists(CANARY)
        assert sorted(os.listdir(f"{base}/n")) == ["fs"], "something was left beside the directory"
        if random.randrange(4) == 0:
            _over_itself(data, base)
            assert _outside(base) == before, "something outside changed"
            assert not os.path.lexists(CANARY)
        if refused is not None:
            if indexed is not None and os.geteuid() == 0:
                raise AssertionError(f"indexed, and not unpacked: {refused}")
            raise refused
        assert written is not None and indexed is not None and isinstance(indexed.applied, ErofsLayer)
        assert written.diff_id == indexed.diff_id
        assert sorted(written.applied.links) == sorted(indexed.applied.links)
        with open(f"{index}/{FILE}", "rb") as image:
            shown = dict(_of_index(indexed.applied.tree.root, b"", image))
        assert dict(_of_directory(root)) == shown
    finally:
        remove_tree(base, "n")
        remove_tree(base, "o")
        shutil.rmtree(base)


def _over_itself(data: bytes, base: str) -> None:
    """Without overlay: names are really removed, and what is there was made by the layer's own first time."""
    with contextlib.suppress(errors.InvalidArgument):
        for _ in range(2):
            unpack(io.BytesIO(data), f"{base}/o/fs", f"{base}/o", stacks=False)
    assert sorted(os.listdir(f"{base}/o")) == ["fs"], "something was left beside the directory"


def _outside(base: str) -> list[tuple[object, ...]]:
    """What must stay as it is."""
    found: list[tuple[object, ...]] = []
    for path in (f"{base}/outside", f"{base}/outside/kept"):
        status = os.lstat(path)
        attributes = [(name, os.getxattr(path, name)) for name in os.listxattr(path)]
        found.append((path, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, attributes))
    with open(f"{base}/outside/kept") as file:
        found.append((file.read(), sorted(os.listdir(f"{base}/outside")), sorted(os.listdir(base))))
    return found


class _Shown(NamedTuple):
    """What one name is: of a file with the first of the names that are the same one."""

    mode: int
    uid: int
    gid: int
    rdev: tuple[int, int]
    target: bytes
    xattrs: dict[str, bytes]
    content: bytes | None


def _of_directory(root: str) -> list[tuple[bytes, _Shown]]:
    found: list[tuple[bytes, _Shown]] = []
    pending = [(os.fsencode(root), b"")]
    while pending:
        real, path = pending.pop()
        status = os.lstat(real)
        is_link = stat.S_ISLNK(status.st_mode)
        xattrs = {name: os.getxattr(real, name, follow_symlinks=False)
                  for name in os.listxattr(real, follow_symlinks=False)}  # fmt: skip
        content = None
        if stat.S_ISREG(status.st_mode):
            with open(real, "rb") as file:
                content = file.read(1 << 20)
        rdev = (os.major(status.st_rdev), os.minor(status.st_rdev))
        found.append((path, _Shown(status.st_mode, status.st_uid, status.st_gid, rdev,
                                   os.readlink(real) if is_link else b"", xattrs, content)))  # fmt: skip
        if stat.S_ISDIR(status.st_mode):
            pending += [(real + b"/" + name, path + b"/" + name) for name in os.listdir(real)]
    return found


def _of_index(node: Node, path: bytes, image: io.BufferedReader) -> list[tuple[bytes, _Shown]]:
    content = None
    if stat.S_ISREG(node.mode):
        content = _content(node, image)
    rdev = node.rdev if node.rdev else (0, 0)
    # The root that no member names is whatever the unpacker was given.
    mode = node.mode
    found = [(path, _Shown(mode, node.uid, node.gid, rdev, node.target, node.xattrs or {}, content))]
    for name, child in (node.children or {}).items():
        found += _of_index(child, path + b"/" + name, image)
    return found


def _content(node: Node, image: io.BufferedReader) -> bytes:
    if node.chunks is None:
        image.seek(node.start)
        return image.read(min(node.size, 1 << 20))
    bits, addresses = node.chunks
    made = b""
    for address in addresses[: (1 << 20) >> bits]:
        image.seek(0 if address == HOLE else address)
        made += bytes(1 << bits) if address == HOLE else image.read(1 << bits)
    return made[: min(node.size, 1 << 20)]


# A run that was cut short leaves nothing that the next one would take for a finding.
with contextlib.suppress(OSError):
    shutil.rmtree(CANARY)
