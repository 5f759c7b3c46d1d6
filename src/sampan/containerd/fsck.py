"""`sampan-containerd fsck`: every file below a root by its owner, every file without one, every name without its file.

    sampan-containerd fsck [--root DIR] [--verify] [--repair] [--quiet]

A line for each file or directory that is one thing: `PATH<tab>OWNER`, then one for each fault, `PATH<tab>FAULT: ...`.
Exit status: 0 nothing is wrong, 1 faults were found (with --repair: and not all of them mended), 2 it could not look.

Everything is read from the database and the directories themselves, not through the stores. While a core runs on the
root the same is told of it as it runs: what is wrong at one look and not at the next was work in progress. --repair
needs the root for itself. It removes files without an owner and names without a file; a layer that is gone goes with
those that were stacked on it, unless a container stands there: so that the next pull brings them again.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from sampan import errors
from sampan.containerd.core import ENGINE_NAMESPACE, lock
from sampan.containerd.diff.erofs_layer import FILE
from sampan.containerd.snapshots.kinds import PREFERRED
from sampan.linux.trees import remove_tree
from sampan.oci import digest as digests

# What the engine and the core keep at the top, besides the directories below.
_TOP = {
    "core.db": "the core's database",
    "core.db-wal": "the core's database",
    "core.db-shm": "the core's database",
    "core.lock": "the core",
    "uuid": "the core",
    "engine.db": "the engine's database",
    "engine.db-wal": "the engine's database",
    "engine.db-shm": "the engine's database",
    "engine-id": "the engine",
}
_IN_SNAPSHOT = ("fs", "work", FILE)
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """One thing below the root. `fault` is what is wrong with it, "" for nothing; `mend` says how to mend it."""

    path: str
    owner: str = ""
    fault: str = ""
    mend: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.path}\tFAULT: {self.fault}" if self.fault else f"{self.path}\t{self.owner}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    number: int
    namespace: str
    snapshotter: str
    key: str
    parent: str
    kind: str
    is_host: int


class Survey:
    """One look at `root`. `verify`: blobs are read and their digests taken, the database is checked whole."""

    def __init__(self, root: str, *, verify: bool = False) -> None:
        """Unavailable when there is no database to look into."""
        self._root, self._verify = root, verify
        # Files first: what is made between the two looks is then a name without a file at worst, which a second look
        # settles, and never taken for a file without a name.
        self._entries = {name: _listed(f"{root}/{name}") for name in self._directories()}
        try:
            with closing(sqlite3.connect(f"file:{root}/core.db?mode=ro", uri=True, timeout=10)) as database:
                self._read(database)
        except sqlite3.Error as error:
            raise errors.Unavailable(f'"{root}/core.db": {error}') from error

    def lines(self) -> Iterator[Line]:
        if self._damage != "ok":
            yield Line("core.db", fault=f"damaged: {self._damage}")
        for name in self._entries[""]:
            if name in _TOP:
                yield Line(name, _TOP[name])
            elif f"{name}/" not in ("content/", "snapshots/", "containers/", "volumes/"):
                yield _orphan(name)
        yield from self._blobs()
        yield from self._ingests()
        yield from self._trash("content/trash")
        for snapshotter in self._entries.get("snapshots", ()):
            yield from self._snapshots(snapshotter)
        yield from self._absent()
        yield from self._engines()
        for namespace, name, target in self._images:
            if (namespace, target) not in self._content:
                yield Line("core.db", fault=f'image "{name}" in {namespace}: {target} is not there')

    def broken(self) -> list[Snapshot]:
        """Snapshots without their directory."""
        return [
            one
            for one in self._rows
            if not one.is_host and not os.path.isdir(f"{self._root}/snapshots/{one.snapshotter}/{one.number}/fs")
        ]

    def doomed(self) -> list[Snapshot]:
        """What has to go with those, children first; a chain that a container stands on stays as it is."""
        below: dict[tuple[str, str, str], list[Snapshot]] = {}
        for one in self._rows:
            below.setdefault((one.namespace, one.snapshotter, one.parent), []).append(one)
        gone: dict[int, Snapshot] = {}
        for broken in self.broken():
            tree = [broken]
            for one in tree:
                tree += below.get((one.namespace, one.snapshotter, one.key), [])
            if all(one.kind == "committed" or one == broken for one in tree):
                gone.update({one.number: one for one in reversed(tree) if one.number not in gone})
        return list(gone.values())

    def _directories(self) -> list[str]:
        found = ["", "content/ingest", "snapshots", "containers", "volumes"]
        found += [f"content/blobs/{algorithm}" for algorithm in digests.HEX_LENGTH]
        return found + [f"snapshots/{name}" for name in _listed(f"{self._root}/snapshots")]

    def _read(self, database: sqlite3.Connection) -> None:
        database.execute("begin")
        check = "integrity_check" if self._verify else "quick_check"
        self._damage = str(database.execute(f"pragma {check}(1)").fetchone()[0])
        query = "select namespace, digest, size from content order by namespace"
        self._content = {(row[0], row[1]): int(row[2]) for row in database.execute(query)}
        query = "select id, namespace, ref from ingests"
        self._ingest = {str(row[0]): f'ingest "{row[2]}" in {row[1]}' for row in database.execute(query)}
        query = "select id, namespace, snapshotter, key, parent, kind, storage='host' from snapshots order by id"
        self._rows = [Snapshot(*one) for one in database.execute(query)]
        query = "select namespace, name, json_extract(target, '$.digest') from images order by namespace, name"
        self._images = [(row[0], row[1], row[2]) for row in database.execute(query)]

    def _blobs(self) -> Iterator[Line]:
        owners: dict[str, list[str]] = {}
        for namespace, digest in self._content:
            owners.setdefault(digest, []).append(namespace)
        for algorithm in digests.HEX_LENGTH:
            directory = f"content/blobs/{algorithm}"
            for name in self._entries[directory]:
                if f"{algorithm}:{name}" not in owners:
                    yield _orphan(f"{directory}/{name}")
        for digest, namespaces in owners.items():
            algorithm, _, name = digest.partition(":")
            path = f"content/blobs/{algorithm}/{name}"
            fault = self._blob_fault(path, digest, self._content[namespaces[0], digest])
            yield Line(path, f"blob in {', '.join(namespaces)}", fault, ("blob", digest) if fault else ())

    def _blob_fault(self, path: str, digest: str, size: int) -> str:
        try:
            with open(f"{self._root}/{path}", "rb", buffering=0) as file:
                there = os.fstat(file.fileno()).st_size
                if there != size:
                    return f"{there} bytes, {size} expected"
                if self._verify:
                    running = digests.hasher(digest.partition(":")[0])
                    while piece := file.read(_PIECE):
                        running.update(piece)
                    if running.hexdigest() != digest.partition(":")[2]:
                        return f"its bytes are {running.hexdigest()}"
        except FileNotFoundError:
            return "the blob is not there"
        return ""

    def _ingests(self) -> Iterator[Line]:
        for name in self._entries["content/ingest"]:
            path = f"content/ingest/{name}"
            yield Line(path, self._ingest[name]) if name in self._ingest else _orphan(path)

    def _snapshots(self, snapshotter: str) -> Iterator[Line]:
        top = f"snapshots/{snapshotter}"
        if snapshotter not in PREFERRED:
            yield _orphan(top)
            return
        known = {str(one.number): one for one in self._rows if one.snapshotter == snapshotter}
        for name in self._entries[top]:
            path = f"{top}/{name}"
            if name == "trash":
                yield from self._trash(path)
            elif name not in known:
                yield _orphan(path)
            else:
                yield from self._contents(path, known[name])

    def _trash(self, path: str) -> Iterator[Line]:
        for entry in _listed(f"{self._root}/{path}"):
            yield Line(f"{path}/{entry}", "the janitor: being removed")

    def _contents(self, path: str, one: Snapshot) -> Iterator[Line]:
        owner = f'{one.kind} snapshot "{one.key}" in {one.namespace}'
        for entry in _listed(f"{self._root}/{path}"):
            below = f"{path}/{entry}"
            # While a layer is being unpacked its directory has what it needs for the moment.
            if entry in _IN_SNAPSHOT or one.kind == "active":
                yield Line(below, owner)
            else:
                yield _orphan(below)

    def _absent(self) -> Iterator[Line]:
        names = {(one.namespace, one.snapshotter, one.key) for one in self._rows}
        doomed = {one.number for one in self.doomed()}
        for one in self.broken():
            path = f"snapshots/{one.snapshotter}/{one.number}/fs"
            mend = ("snapshot",) if one.number in doomed else ()
            yield Line(path, fault=f'{one.kind} snapshot "{one.key}" in {one.namespace} has no files', mend=mend)
        for one in self._rows:
            if one.parent and (one.namespace, one.snapshotter, one.parent) not in names:
                what = f'{one.kind} snapshot "{one.key}" in {one.namespace}'
                yield Line("core.db", fault=f'{what}: its parent "{one.parent}" is not there')

    def _engines(self) -> Iterator[Line]:
        containers = {one.key for one in self._rows if one.namespace == ENGINE_NAMESPACE and one.kind == "active"}
        for name in self._entries["containers"]:
            path = f"containers/{name}"
            yield Line(path, f"container {name}") if name in containers else _orphan(path)
        for name in self._entries["volumes"]:
            yield Line(f"volumes/{name}", f"volume {name}")


def fsck(root: str, *, verify: bool = False, repair: bool = False) -> tuple[list[Line], int]:
    """(what there is to say, faults that remain). Unavailable; OSError."""
    root = os.path.abspath(root)
    if not os.path.exists(f"{root}/core.db"):
        raise errors.Unavailable(f'"{root}": no core has been here')
    try:
        lock_fd = lock(root)
    except errors.Unavailable:
        if repair:
            raise
        return _look_twice(root, verify)
    try:
        survey = Survey(root, verify=verify)
        lines = list(survey.lines())
        faults = [line for line in lines if line.fault]
        if repair and faults:
            _repair(root, survey, faults)
            faults = [line for line in Survey(root, verify=verify).lines() if line.fault]
        return lines, len(faults)
    finally:
        os.close(lock_fd)


def _look_twice(root: str, verify: bool) -> tuple[list[Line], int]:
    """Of a core that runs: only a fault that is there both times is one."""
    first = {(line.path, line.fault) for line in Survey(root).lines() if line.fault}
    lines = [line for line in Survey(root, verify=verify).lines() if not line.fault or (line.path, line.fault) in first]
    return lines, sum(bool(line.fault) for line in lines)


def _repair(root: str, survey: Survey, faults: list[Line]) -> None:
    with closing(sqlite3.connect(f"{root}/core.db", isolation_level=None)) as database:
        database.execute("pragma synchronous=full")
        database.execute("begin immediate")
        for line in faults:
            if line.mend[:1] == ("blob",):
                database.execute("delete from content where digest=?", (line.mend[1],))
        for one in survey.doomed():
            database.execute("delete from snapshots where id=?", (one.number,))
        database.execute("commit")
    # Names first: a crash in between leaves files without an owner, which the next start removes.
    for line in faults:
        if line.mend and line.mend[0] in ("orphan", "blob"):
            directory, _, name = f"{root}/{line.path}".rpartition("/")
            remove_tree(directory, name)
    for one in survey.doomed():
        remove_tree(f"{root}/snapshots/{one.snapshotter}", str(one.number))


def _orphan(path: str) -> Line:
    return Line(path, fault="nobody owns it", mend=("orphan",))


def _listed(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
