"""The overlayfs snapshotter: a snapshot is a directory `<n>/fs` (with `<n>/work` while it is active), stacked by mount.

On disk under `snapshots/overlayfs/`: `<n>/{fs,work}` and `trash/`. A layer may be unpacked into an active snapshot
without a parent and given its parent at commit (`commit(..., parent=)`, containerd's rebase), so that the layers of
an image are unpacked at the same time: an overlay layer's directory does not depend on what is below it.

Mount options. `lowerdir=TOP:...:BOTTOM` as long as all options fit the one page of data that mount(2) takes;
a longer chain is given as repeated `lowerdir+=DIR`, nearest first, one fsconfig(2) call each (kernel 6.5 on;
at most 500 layers, OVL_MAX_STACK). `index=off` and `userxattr` as containerd has them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from sampan import errors
from sampan.containerd.metadata import Metadata
from sampan.containerd.services import Mount, SnapshotInfo, Usage
from sampan.containerd.snapshots.chain import Chain
from sampan.containerd.snapshots.disk import directory_usage
from sampan.containerd.snapshots.janitor import Janitor
from sampan.linux.fds import syncfs
from sampan.linux.mount import new_mount

# A snapshot with this label "true" is mounted `volatile`: nothing in it is synced, ever. For `docker run --rm`.
VOLATILE_LABEL = "sampan.io/snapshot.volatile"

# The page that mount(2) copies, less room for what the one who mounts may add.
_DATA_LIMIT = 4096 - 256


class OverlaySnapshotter:
    """`services.Snapshotter`. `userxattr`: opaque marks are user.overlay.*, since there is no CAP_SYS_ADMIN."""

    name = "overlayfs"
    # Layers are unpacked without their parents, with overlay's own whiteouts, and stacked at commit.
    stacks = True

    def __init__(self, metadata: Metadata, directory: str, namespace: str, *, userxattr: bool = False) -> None:
        if any(c in directory for c in ",:\\"):
            raise errors.InvalidArgument(
                f'"{directory}": overlayfs takes no directory with ",", ":" or "\\" in its name'
            )
        self._directory = directory
        self._chain = Chain(metadata, namespace, self.name)
        self.userxattr = userxattr
        # The option exists only where the module was built with it (containerd looks at the same file).
        self._common = ["index=off"] if os.path.exists("/sys/module/overlay/parameters/index") else []
        if userxattr:
            self._common.append("userxattr")
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._janitor = Janitor(directory)

    def recover(self) -> None:
        """After a crash: throw away directories that no row names."""
        known = {str(number) for number in self._chain.numbers()}
        for entry in os.listdir(self._directory):
            if entry.isdigit() and entry not in known:
                self._janitor.discard(f"{self._directory}/{entry}")

    def close(self) -> None:
        self._janitor.close()

    def stat(self, key: str) -> SnapshotInfo:
        return self._chain.find(key).info

    def relabel(self, key: str, labels: Mapping[str, str]) -> SnapshotInfo:
        """Replace the snapshot's labels. NotFound."""
        return self._chain.relabel(key, labels)

    def walk(self) -> Iterator[SnapshotInfo]:
        for row in self._chain.walk():
            yield row.info

    def usage(self, key: str) -> Usage:
        row = self._chain.find(key)
        if row.usage is not None:
            return row.usage
        if row.host:
            return Usage(0, 0)
        found = directory_usage(self._fs(row.number, row.host))
        if row.info.kind == "committed":
            self._chain.remember(row.number, found)
        return found

    def mounts(self, key: str) -> Sequence[Mount]:
        row = self._chain.find(key)
        if row.info.kind == "committed":
            raise errors.Conflict(f"snapshot {key} is not active: failed precondition")
        volatile = self._is_volatile(row.info.labels)
        if volatile:
            # Left by an earlier mount that was not taken apart cleanly; without a reboot in between nothing
            # is lost, and after one a `--rm` container is gone anyway. overlayfs.rst, "Volatile mount".
            mark = f"{self._directory}/{row.number}/work/work/incompat/volatile"
            for remove, path in ((os.unlink, f"{mark}/dirty"), (os.rmdir, mark)):
                try:
                    remove(path)
                except OSError:
                    pass  # never mounted, or taken apart cleanly
        return self._mounts(row.number, row.info, volatile)

    def prepare(self, key: str, parent: str, labels: Mapping[str, str] | None = None) -> Sequence[Mount]:
        return self._create(key, parent, SnapshotInfo("active", key, parent, 0, dict(labels or {})))

    def view(self, key: str, parent: str, labels: Mapping[str, str] | None = None) -> Sequence[Mount]:
        return self._create(key, parent, SnapshotInfo("view", key, parent, 0, dict(labels or {})))

    def commit(
        self,
        name: str,
        key: str,
        labels: Mapping[str, str] | None = None,
        *,
        parent: str | None = None,
        usage: Usage | None = None,
        synced: bool = False,
    ) -> None:
        """As the contract; further: over another `parent`, with a known `usage`, or `synced` by the caller before."""
        row = self._chain.find(key)
        if not synced:
            self.sync(key)
        self._chain.commit(name, key, parent, labels, usage)
        for work in ("work/work", "work"):
            try:
                os.rmdir(f"{self._directory}/{row.number}/{work}")
            except OSError:
                pass  # never mounted, or not empty: it goes with the snapshot

    def sync(self, *keys: str) -> None:
        """Bring everything on the file system that all snapshots are on to the disk. syncfs(2)."""
        row = self._chain.find(keys[0])
        fd = os.open(self._fs(row.number, row.host), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(fd)
        finally:
            os.close(fd)

    def remove(self, key: str) -> None:
        row = self._chain.remove(key)
        # A host snapshot has no directory here: its number names nothing, so nothing of the host can be discarded.
        self._chain.metadata.after_commit(lambda: self._janitor.discard(f"{self._directory}/{row.number}"))

    def upper(self, key: str) -> str:
        row = self._chain.find(key)
        return self._fs(row.number, row.host)

    def lowers(self, key: str) -> list[str]:
        """The directories below `key`, nearest first: what its changes are relative to. NotFound."""
        return [self._fs(*tree) for tree in self._chain.trees(self._chain.find(key).info.parent)]

    def layers(self, name: str) -> list[str]:
        """The directories of committed `name` itself and all below it, nearest first."""
        return [self._fs(*tree) for tree in self._chain.trees(name)]

    def adopt_host(self, name: str) -> None:
        """Make committed `name` a snapshot whose tree is the machine's own root directory, mounts left out.

        Only ever a lower layer or a read-only view; removing it removes a row. AlreadyExists."""
        self._chain.add(name, "", "committed", None, host=True)

    def _fs(self, number: int, host: bool) -> str:
        return "/" if host else f"{self._directory}/{number}/fs"

    def _may_bind(self, number: int, host: bool) -> bool:
        """Whether a bind mount can show this snapshot."""
        return True

    def _is_volatile(self, labels: Mapping[str, str]) -> bool:
        return labels.get(VOLATILE_LABEL) == "true"

    def _create(self, key: str, parent: str, info: SnapshotInfo) -> Sequence[Mount]:
        made = ""
        try:
            with self._chain.metadata.transaction():
                number = self._chain.add(key, parent, info.kind, info.labels)
                trees = self._chain.trees(parent)
                made = f"{self._directory}/{number}"
                os.mkdir(made, 0o700)
                os.mkdir(f"{made}/fs", 0o755)
                if info.kind == "active":
                    os.mkdir(f"{made}/work", 0o711)
                if trees:
                    self._like_parent(f"{made}/fs", self._fs(*trees[0]))
        except BaseException:
            if made:
                self._janitor.discard(made)
            raise
        return self._mounts(number, info, self._is_volatile(info.labels))

    def _like_parent(self, directory: str, parent: str) -> None:
        """The merged root directory shows the top layer's mode and owner, so each layer inherits the one below."""
        status = os.stat(parent)
        if status.st_uid or status.st_gid:
            os.chown(directory, status.st_uid, status.st_gid)
        os.chmod(directory, status.st_mode & 0o7777)

    def _mounts(self, number: int, info: SnapshotInfo, volatile: bool) -> list[Mount]:
        trees = self._chain.trees(info.parent)
        own = self._fs(number, False)
        if info.kind == "active" and not trees:
            return [Mount("bind", own, ("rw", "rbind"))]
        if not trees:
            return [Mount("bind", own, ("ro", "rbind"))]
        if info.kind == "view" and len(trees) == 1 and self._may_bind(*trees[0]):
            # "bind" and not "rbind": of the host's root no submount is part of the image.
            return [Mount("bind", self._fs(*trees[0]), ("ro", "bind" if trees[0][1] else "rbind"))]
        options = list(self._common)
        if info.kind == "active":
            options += [f"workdir={self._directory}/{number}/work", f"upperdir={own}"]
            if volatile:
                options.append("volatile")
        lowers = [self._fs(*tree) for tree in trees]
        if info.kind == "view" and len(lowers) == 1:
            lowers.insert(0, own)  # empty: overlay wants an upper directory or two lower ones
        joined = "lowerdir=" + ":".join(lowers)
        if len(",".join(options)) + 1 + len(joined) < _DATA_LIMIT:
            options.append(joined)
        else:
            options += [f"lowerdir+={lower}" for lower in lowers]
        return [Mount("overlay", "overlay", tuple(options))]


def probe(directory: str) -> str:
    """Why overlay does not work on the file system of `directory`, or "" when it does: found out by mounting one.

    The mount is never attached anywhere, so nothing on the machine can see it."""
    scratch = f"{directory}/probe"
    names = [f"{scratch}/{name}" for name in ("lower", "lower2", "upper", "work")]
    for name in names:
        os.makedirs(name, exist_ok=True)
    try:
        lower = f"{names[0]}:{names[1]}"
        os.close(new_mount("overlay", [("lowerdir", lower), ("upperdir", names[2]), ("workdir", names[3])]))
        return ""
    except OSError as error:
        return str(error)
    finally:
        for name in (f"{names[3]}/work", *names, scratch):
            try:
                os.rmdir(name)
            except OSError:
                pass  # overlay's own leftovers in work go with the next probe


def may_set_trusted() -> bool:
    """Whether this process may write trusted.* xattrs: root of the first user namespace. user_namespaces(7)."""
    with open("/proc/self/uid_map") as file:
        return os.geteuid() == 0 and file.read().split() == ["0", "0", "4294967295"]
