"""Which snapshotters this machine has, found out by mounting once, and which one a root is used with.

`overlayfs`, `native` and `erofs` are served side by side, in every containerd namespace: a client names one in each
request. The engine uses one: what `wanted` says, else what its layers on this root are in already, else the first of
erofs, overlayfs and native that works here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from sampan import errors
from sampan.containerd.metadata import Metadata
from sampan.containerd.snapshots import erofs, overlayfs
from sampan.containerd.snapshots.erofs import ErofsSnapshotter
from sampan.containerd.snapshots.janitor import Janitor
from sampan.containerd.snapshots.native import NativeSnapshotter
from sampan.containerd.snapshots.overlayfs import OverlaySnapshotter

# Best first.
PREFERRED = (ErofsSnapshotter.name, OverlaySnapshotter.name, NativeSnapshotter.name)
# Where core.db keeps the engine's choice.
_CHOICE = "snapshotter"
# `layers.extraction_key`: ours, and not those of clients that unpack by themselves.
_EXTRACTION = re.compile(r"extract-[0-9a-f]{8} sha256:[0-9a-f]{64}")


class SnapshotterKinds:
    """The snapshotters on `directory`, to be opened for any number of containerd namespaces. For the loop's thread."""

    def __init__(self, metadata: Metadata, directory: str) -> None:
        self._metadata, self._directory = metadata, directory
        os.makedirs(directory, mode=0o700, exist_ok=True)
        overlay = overlayfs.probe(directory)
        # Why a snapshotter does not work here, by name.
        self.missing: Mapping[str, str] = {
            name: reason
            for name, reason in (
                (OverlaySnapshotter.name, overlay),
                (ErofsSnapshotter.name, overlay or erofs.probe(directory)),
            )
            if reason
        }
        # By directory, one for each: two that empty one trash would get into each other's way.
        self._janitors: dict[str, Janitor] = {}
        self._opened: dict[tuple[str, str], OverlaySnapshotter | NativeSnapshotter] = {}

    @property
    def names(self) -> list[str]:
        """Those that work here, best first."""
        return [name for name in PREFERRED if name not in self.missing]

    def choose(self, wanted: str, namespace: str) -> str:
        """The engine's. InvalidArgument for an unknown one; Unavailable for one that does not work here."""
        if wanted not in ("", *PREFERRED):
            raise errors.InvalidArgument(f'unknown snapshotter "{wanted}"')
        if wanted in self.missing:
            raise errors.Unavailable(f"snapshotter {wanted}: {self.missing[wanted]}")
        used = self._used(namespace)
        chosen = wanted or used or self.names[0]
        if chosen in self.missing:
            raise errors.Unavailable(
                f'snapshotter {chosen}, which the layers in "{self._directory}" are in: {self.missing[chosen]}'
            )
        if chosen != self._metadata.setting(_CHOICE):
            self._metadata.set(_CHOICE, chosen)
        return chosen

    def open(self, name: str, namespace: str) -> OverlaySnapshotter | NativeSnapshotter:
        """One of `names` in a containerd namespace, always the same object; closed with all others."""
        key = (name, namespace)
        if key not in self._opened:
            path = f"{self._directory}/{name}"
            janitor = self.janitor(path)
            if name == ErofsSnapshotter.name:
                self._opened[key] = ErofsSnapshotter(self._metadata, path, namespace, janitor)
            elif name == OverlaySnapshotter.name:
                userxattr = not overlayfs.may_set_trusted()
                self._opened[key] = OverlaySnapshotter(self._metadata, path, namespace, janitor, userxattr=userxattr)
            else:
                self._opened[key] = NativeSnapshotter(self._metadata, path, namespace, janitor)
        return self._opened[key]

    def janitor(self, directory: str) -> Janitor:
        """The one of `directory`, which is made when it is missing; closed with all others."""
        if directory not in self._janitors:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            self._janitors[directory] = Janitor(directory)
        return self._janitors[directory]

    def recover(self) -> None:
        """After a crash: extractions that nobody finished, and directories that no row names."""
        query = "select namespace, snapshotter, key from snapshots where kind='active' and key like 'extract-%'"
        for namespace, name, key in self._metadata.rows(query):
            if name in self.names and _EXTRACTION.fullmatch(key):
                self.open(name, namespace).remove(key)
        for name in self.names:
            if os.path.isdir(f"{self._directory}/{name}"):
                self.open(name, "").recover()

    def close(self) -> None:
        for snapshotter in self._opened.values():
            snapshotter.close()
        for janitor in self._janitors.values():
            janitor.close()

    def _used(self, namespace: str) -> str:
        """What the layers that are here need: the recorded choice, or on a root from before it was recorded, theirs."""
        query = "select distinct snapshotter from snapshots where namespace=? and storage='directory'"
        there = {row[0] for row in self._metadata.rows(query, namespace)}
        recorded = self._metadata.setting(_CHOICE)
        return recorded if recorded in there else next((name for name in PREFERRED if name in there), "")
