"""The overlayfs snapshotter: a snapshot is a directory `<n>/fs` (with `<n>/work` while it is active), stacked by mount.

On disk under `snapshots/overlayfs/`: `<n>/{fs,work}` and `trash/`. A layer may be unpacked into an active snapshot
without a parent and given its parent at commit (`commit(..., parent=)`, containerd's rebase), so that the layers of
an image are unpacked at the same time: an overlay layer's directory does not depend on what is below it.

Mount options. `lowerdir=TOP:...:BOTTOM`, which any client can hand to mount(2) as long as all options fit the one page
that it copies. A chain too long for that is named through a descriptor that this process holds of the directory
(`/proc/PID/fd/N/<n>/fs`: some 160 layers, more than any registry image has), and one still longer as repeated
`lowerdir+=DIR`, nearest first, one fsconfig(2) call each (kernel 6.5 on; at most 500 layers, OVL_MAX_STACK).
`index=off` and `userxattr` as containerd has them.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Mapping, Sequence

from sampan import errors
from sampan.containerd.metadata import Metadata
from sampan.containerd.services import Mount, SnapshotInfo, Usage
from sampan.containerd.snapshots.chain import Row
from sampan.containerd.snapshots.janitor import Janitor
from sampan.containerd.snapshots.numbered import NumberedSnapshotter
from sampan.linux import abi
from sampan.linux.mount import mount, new_mount, umount2

# A snapshot with this label "true" is mounted `volatile`: nothing in it is synced, ever. For `docker run --rm`.
VOLATILE_LABEL = "sampan.io/snapshot.volatile"

# The page that mount(2) copies, less room for what the one who mounts may add.
_DATA_LIMIT = 4096 - 256


class OverlaySnapshotter(NumberedSnapshotter):
    """`services.Snapshotter`."""

    name = "overlayfs"
    stacks = True

    def __init__(
        self,
        metadata: Metadata,
        directory: str,
        namespace: str,
        janitor: Janitor | None = None,
        *,
        userxattr: bool = False,
    ) -> None:
        if any(c in directory for c in ",:\\"):
            raise errors.InvalidArgument(
                f'"{directory}": overlayfs takes no directory with ",", ":" or "\\" in its name'
            )
        super().__init__(metadata, directory, namespace, janitor)
        self.userxattr = userxattr
        # The option exists only where the module was built with it (containerd looks at the same file).
        self._common = ["index=off"] if os.path.exists("/sys/module/overlay/parameters/index") else []
        if userxattr:
            self._common.append("userxattr")
        self._directory_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        super().close()
        os.close(self._directory_fd)

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
        row = self._chain.committable(name, key)
        if not synced:
            self.sync(key)
        self._chain.commit(name, key, parent, labels, usage)
        for work in ("work/work", "work"):
            try:
                os.rmdir(f"{self._directory}/{row.number}/{work}")
            except OSError:
                pass  # never mounted, or not empty: it goes with the snapshot

    def mounts(self, key: str) -> Sequence[Mount]:
        row = self._chain.find(key)
        if _is_volatile(row.info):
            # Left by an earlier mount that was not taken apart cleanly; without a reboot in between nothing
            # is lost, and after one a `--rm` container is gone anyway. overlayfs.rst, "Volatile mount".
            mark = f"{self._directory}/{row.number}/work/work/incompat/volatile"
            for remove, path in ((os.unlink, f"{mark}/dirty"), (os.rmdir, mark)):
                try:
                    remove(path)
                except OSError:
                    pass  # never mounted, or taken apart cleanly
        return super().mounts(key)

    def layers(self, name: str) -> list[str]:
        return [path for tree in self._chain.trees(name) for path in self._stack(*tree)]

    def adopt_host(self, name: str) -> None:
        """Make committed `name` a snapshot whose tree is the machine's own root directory, mounts left out.

        Only ever a lower layer or a read-only view; removing it removes a row. AlreadyExists."""
        self._chain.add(name, "", "committed", None, host=True)

    def _stack(self, number: int, host: bool) -> list[str]:
        """The directories that make up one committed snapshot without its parents, nearest first."""
        return ["/" if host else self._own(number)]

    def _may_bind(self, number: int, host: bool) -> bool:
        """Whether a bind mount can show this snapshot."""
        return True

    def _discard(self, row: Row) -> None:
        if not row.host:
            super()._discard(row)

    def _create(self, info: SnapshotInfo) -> Sequence[Mount]:
        made = ""
        try:
            with self._chain.metadata.transaction():
                number = self._chain.add(info.name, info.parent, info.kind, info.labels)
                made = f"{self._directory}/{number}"
                os.mkdir(made, 0o700)
                os.mkdir(f"{made}/fs", 0o755)
                if info.kind == "active":
                    os.mkdir(f"{made}/work", 0o711)
                trees = self._chain.trees(info.parent)
                if trees:
                    _like_parent(f"{made}/fs", self._stack(*trees[0])[0])
        except BaseException:
            if made:
                self._janitor.discard(made)
            raise
        return self._mounts(number, info)

    def _lowers(self, number: int, info: SnapshotInfo) -> list[str]:
        """What is mounted below the directory of snapshot `number`, nearest first."""
        return self.layers(info.parent)

    def _mounts(self, number: int, info: SnapshotInfo) -> list[Mount]:
        own = self._own(number)
        lowers = self._lowers(number, info)
        if not lowers:
            return [Mount("bind", own, ("rw" if info.kind == "active" else "ro", "rbind"))]
        trees = self._chain.trees(info.parent)
        if info.kind == "view" and len(lowers) == 1 and self._may_bind(*trees[0]):
            # "bind" and not "rbind": of the host's root no submount is part of the image.
            return [Mount("bind", lowers[0], ("ro", "bind" if trees[0][1] else "rbind"))]
        options = list(self._common)
        if info.kind == "active":
            options += [f"workdir={self._directory}/{number}/work", f"upperdir={own}"]
            if _is_volatile(info):
                options.append("volatile")
        elif len(lowers) == 1:
            lowers.insert(0, own)  # empty: overlay wants an upper directory or two lower ones
        return [Mount("overlay", "overlay", (*options, *self._lowerdir(options, lowers)))]

    def _lowerdir(self, options: Sequence[str], lowers: Sequence[str]) -> list[str]:
        """The options for `lowers` beside `options`: see the head of this file."""
        used = len(",".join(options)) + 1
        short = [f"/proc/{os.getpid()}/fd/{self._directory_fd}{one.removeprefix(self._directory)}"
                 if one.startswith(f"{self._directory}/") else one for one in lowers]  # fmt: skip
        for named in (lowers, short):
            joined = "lowerdir=" + ":".join(named)
            if used + len(joined) < _DATA_LIMIT:
                return [joined]
        return [f"lowerdir+={lower}" for lower in lowers]


def _is_volatile(info: SnapshotInfo) -> bool:
    return info.labels.get(VOLATILE_LABEL) == "true"


def _like_parent(directory: str, parent: str) -> None:
    """The merged root directory shows the top layer's mode and owner, so each layer inherits the one below."""
    status = os.stat(parent)
    if status.st_uid or status.st_gid:
        os.chown(directory, status.st_uid, status.st_gid)
    os.chmod(directory, status.st_mode & 0o7777)


def overlay_view(layers: Sequence[str], userxattr: bool = False) -> int:
    """A descriptor of the read-only overlay of two or more directories, nearest first, attached nowhere. OSError."""
    flags: list[tuple[str, str | None]] = [("userxattr", None)] if userxattr else []
    lowers: list[tuple[str, str | None]] = [("lowerdir+", layer) for layer in layers]
    try:
        return new_mount("overlay", [*flags, *lowers], abi.MOUNT_ATTR_RDONLY)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    return briefly_attached(layers, userxattr)


def briefly_attached(layers: Sequence[str], userxattr: bool) -> int:
    """The same for a kernel before 6.5, which knows no "lowerdir+" and whose fsconfig(2) takes 255 bytes: by mount(2).

    Each directory is named by a descriptor, so that some two hundred fit the page. The mount is attached for a moment
    where only root can look. OSError."""
    fds: list[int] = []
    place = tempfile.mkdtemp(prefix="sampan-overlay-")
    try:
        fds += [os.open(layer, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for layer in layers]
        data = "lowerdir=" + ":".join(f"/proc/self/fd/{fd}" for fd in fds) + (",userxattr" if userxattr else "")
        mount("overlay", place, "overlay", abi.MS_RDONLY, data)
        try:
            return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            umount2(place, abi.MNT_DETACH)
    finally:
        for fd in fds:
            os.close(fd)
        os.rmdir(place)


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
